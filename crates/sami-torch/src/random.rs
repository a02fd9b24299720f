//! A small Mistral-shaped checkpoint with random weights and a byte-level BPE tokenizer trained on given texts: something
//! to run the whole algorithm on where no pretrained model is at hand.

use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde_json::json;
use tch::{Kind, Tensor};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::checkpoint::{Stored, save_tensors};
use crate::config::ModelConfig;
use crate::error::{Error, Result};

const BOS: &str = "<s>";
const EOS: &str = "</s>";

/// What to make. The same values give the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomCheckpoint {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Rows of the embedding; the tokenizer has at most as many tokens, and at least 258.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Standard deviation of the embedding and the head, and, divided by √(input width), that of the other matrices times
    /// √(input width): 1 keeps the variance of activations.
    pub gain: f64,
    /// Seed of the weights.
    pub seed: u64,
    /// Texts that the tokenizer is trained on.
    pub corpus: Vec<String>,
}

impl Default for RandomCheckpoint {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 320,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 1024,
            max_position_embeddings: 1024,
            gain: 1.0,
            seed: 0,
            corpus: Vec::new(),
        }
    }
}

/// Writes the checkpoint into `dir`: `config.json`, `generation_config.json`, `model.safetensors`, `tokenizer.json` and
/// `tokenizer_config.json`.
pub fn random_checkpoint(dir: &Path, recipe: &RandomCheckpoint) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let tokenizer_path = dir.join("tokenizer.json");
    let refuse = |error: tokenizers::Error| Error::Tokenizer {
        path: tokenizer_path.clone(),
        reason: error.to_string(),
    };
    train_tokenizer(recipe).and_then(|tokenizer| tokenizer.save(&tokenizer_path, true)).map_err(refuse)?;

    let config = json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral",
        "vocab_size": recipe.vocab_size, "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size, "num_hidden_layers": recipe.num_hidden_layers,
        "num_attention_heads": recipe.num_attention_heads, "num_key_value_heads": recipe.num_key_value_heads,
        "head_dim": recipe.hidden_size / recipe.num_attention_heads.max(1), "hidden_act": "silu",
        "max_position_embeddings": recipe.max_position_embeddings, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "sliding_window": null, "attention_dropout": 0.0,
        "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": null,
        "initializer_range": 0.02, "use_cache": true, "torch_dtype": "float32"
    });
    let checked = ModelConfig::parse(&config)
        .map_err(|source| Error::Config { path: dir.join("config.json"), source })?;
    let tensors = weights(&checked, recipe)?;
    save_tensors(&dir.join("model.safetensors"), tensors, None, &[("format", "pt")])?;
    let generation = json!({"bos_token_id": 0, "eos_token_id": 1});
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS,
        "model_max_length": recipe.max_position_embeddings, "clean_up_tokenization_spaces": false
    });
    for (name, value) in [
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
        // Last: a directory that has it is whole.
        ("config.json", config),
    ] {
        let path = dir.join(name);
        fs::write(&path, format!("{value:#}\n")).map_err(Error::io(&path))?;
    }
    Ok(())
}

fn weights(config: &ModelConfig, recipe: &RandomCheckpoint) -> Result<Vec<(String, Stored)>> {
    let mut rng = ChaCha12Rng::seed_from_u64(recipe.seed);
    let layers = config.num_hidden_layers as f64;
    config
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let numel = shape.iter().product::<i64>() as usize;
            let values: Vec<f32> = match shape.as_slice() {
                [_, columns] => {
                    let mut std = recipe.gain / (*columns as f64).sqrt();
                    // What is added to the residual stream: all layers together as much as one.
                    if name.contains("o_proj") || name.contains("down_proj") {
                        std /= (2.0 * layers).sqrt();
                    }
                    (0..numel).map(|_| (std * normal(&mut rng)) as f32).collect()
                }
                _ => vec![1.0; numel],
            };
            let tensor = Tensor::f_from_slice(&values)?.f_view(shape.as_slice())?.f_to_kind(Kind::Float)?;
            Ok((name, Stored::Plain(tensor)))
        })
        .collect()
}

/// Box–Muller.
fn normal(rng: &mut ChaCha12Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn train_tokenizer(recipe: &RandomCheckpoint) -> tokenizers::Result<Tokenizer> {
    let special = [BOS, EOS].map(|token| AddedToken::from(token, true));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(recipe.vocab_size)
        .show_progress(false)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    tokenizer.train(&mut trainer, recipe.corpus.iter())?;
    let bos = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))?
        .try_pair(format!("{BOS} $A $B"))?
        .special_tokens(vec![(BOS, 0)])
        .build()?;
    tokenizer.with_post_processor(Some(bos));
    Ok(tokenizer)
}
