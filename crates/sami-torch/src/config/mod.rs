//! `config.json` of a Hugging Face checkpoint, in both dialects: transformers 4 (`rope_theta`,
//! `rope_scaling`, `torch_dtype`) and transformers 5 (`rope_parameters`, `dtype`).
//!
//! A field that is absent means what the configuration class of its family takes in transformers 5.
//! Fields that change the maths are either computed or refused by name; a field that is not known
//! to matter is ignored.

mod dialect;
mod error;
mod family;
mod fields;
mod rope;
mod scaling;
mod tensors;
mod windows;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::json;
use crate::options::Dtype;

pub use error::ConfigError;
pub use family::{Family, MixtureConfig};
pub use scaling::RopeScaling;

use family::{Definition, Role};
use fields::Fields;
use rope::rope;

/// The architecture of a decoder, checked: every number is positive and they fit each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    /// The class of the family's language models, such as `MistralForCausalLM`.
    pub architecture: String,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// ε of RMSNorm.
    pub rms_norm_eps: f64,
    /// θ of the rotary embedding.
    pub rope_theta: f64,
    /// Its scaling.
    pub rope_scaling: RopeScaling,
    /// Longest sequence that the model was made for, before the scaling of its rotary embedding.
    pub max_position_embeddings: usize,
    /// Per layer: how many tokens back a position sees (itself included), or all.
    pub windows: Vec<Option<usize>>,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// What differs between families.
    pub family: Family,
    /// Experts instead of one MLP.
    pub mixture: Option<MixtureConfig>,
    /// The dtype that the weights were saved in, as far as the file says.
    pub dtype: Option<Dtype>,
    /// What a reader of the file may not expect, in words.
    pub notes: Vec<String>,
    /// The same for those who train.
    pub training_notes: Vec<String>,
}

impl ModelConfig {
    /// Reads and checks `dir/config.json`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        Self::parse(&json::read(&path)?).map_err(|source| Error::Config { path, source })
    }

    /// Checks the content of a `config.json`.
    pub fn parse(value: &Value) -> Result<Self, ConfigError> {
        let map = value.as_object().ok_or_else(|| ConfigError::Invalid {
            field: "(whole file)".into(),
            value: value.to_string(),
            expected: "a JSON object",
        })?;
        let fields = Fields(map, "");
        let (family, role) = Definition::of(&fields)?;
        let defaults = &family.defaults;
        fields.refuse_unsupported()?;

        let hidden_size = fields.count_or("hidden_size", defaults.hidden_size)?;
        let num_hidden_layers = fields.count_or("num_hidden_layers", defaults.num_hidden_layers)?;
        let num_attention_heads = fields.count_or("num_attention_heads", defaults.num_attention_heads)?;
        let (num_key_value_heads, head_dim) = heads(&fields, family, hidden_size, num_attention_heads)?;
        let max_position_embeddings =
            fields.count_or("max_position_embeddings", defaults.max_position_embeddings)?;
        let resolved = dialect::resolve(&fields, defaults.rope_theta, max_position_embeddings)?;
        let rope = rope(&Fields(&resolved.fields, ""), head_dim, max_position_embeddings)?;
        let mut notes: Vec<String> = resolved.note.into_iter().chain(rope.note).map(str::to_owned).collect();
        if role == Role::Classifier {
            notes.push("architectures names a classifier; it is read as a language model".into());
        }
        Ok(Self {
            architecture: family.architecture(),
            vocab_size: fields.count_or("vocab_size", defaults.vocab_size)?,
            hidden_size,
            intermediate_size: fields.count_or("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: fields.positive_or("rms_norm_eps", defaults.rms_norm_eps)?,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            max_position_embeddings,
            windows: family.windows.of_layers(&fields, num_hidden_layers, defaults.sliding_window)?,
            tie_word_embeddings: fields.flag_or("tie_word_embeddings", false)?,
            family: family.layers(&fields)?,
            mixture: family.mixture(&fields)?,
            dtype: fields.dtype()?,
            notes,
            training_notes: fields.training_noise()?,
        })
    }

    /// Longest sequence that is read or written, in tokens.
    pub fn longest_sequence(&self) -> usize {
        self.rope_scaling.longest(self.max_position_embeddings)
    }

    /// Whether rows that are laid out for one of two models fit the other: the same tensors, windows
    /// and frequencies.
    pub(crate) fn lays_out_like(&self, other: &Self) -> bool {
        let frequencies = |config: &Self| (config.rope_theta, config.max_position_embeddings);
        self.tensors() == other.tensors()
            && self.windows == other.windows
            && self.rope_scaling == other.rope_scaling
            && frequencies(self) == frequencies(other)
    }
}

/// Key/value heads, and the width of a head.
fn heads(
    fields: &Fields<'_>,
    family: &Definition,
    hidden_size: usize,
    heads: usize,
) -> Result<(usize, usize), ConfigError> {
    let kv = fields.count_unless("num_key_value_heads", family.defaults.num_key_value_heads, || Ok(heads))?;
    if !heads.is_multiple_of(kv) {
        return Err(fields.invalid_or("num_key_value_heads", kv, "a divisor of num_attention_heads"));
    }
    let head_dim =
        fields.count_unless("head_dim", family.defaults.head_dim, || match hidden_size % heads {
            0 => Ok(hidden_size / heads),
            _ => {
                let expected = "a multiple of num_attention_heads, or a head_dim";
                Err(fields.invalid_or("hidden_size", hidden_size, expected))
            }
        })?;
    if !head_dim.is_multiple_of(2) {
        return Err(ConfigError::Invalid {
            field: "head_dim".into(),
            value: head_dim.to_string(),
            expected: "an even number (rotary embedding pairs its halves)",
        });
    }
    Ok((kv, head_dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistral() -> Value {
        json!({
            "architectures": ["MistralForCausalLM"], "vocab_size": 100, "hidden_size": 32,
            "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 128,
            "hidden_act": "silu", "sliding_window": null
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut config = mistral();
        config[field] = value;
        config
    }

    #[test]
    fn both_dialects_say_the_same() {
        let mut old = with("rope_theta", json!(5e5));
        old["torch_dtype"] = json!("bfloat16");
        let mut new = with("rope_parameters", json!({"rope_theta": 5e5, "rope_type": "default"}));
        new["dtype"] = json!("bfloat16");
        let (old, new) = (ModelConfig::parse(&old).unwrap(), ModelConfig::parse(&new).unwrap());
        assert_eq!(old, new);
        assert_eq!((old.rope_theta, old.head_dim, old.dtype), (5e5, 8, Some(Dtype::Bf16)));
    }

    #[test]
    fn parameters_are_counted_once() {
        let untied = ModelConfig::parse(&mistral()).unwrap();
        let layer = 2 * 32 + 32 * 32 + 2 * 16 * 32 + 32 * 32 + 3 * 32 * 64;
        assert_eq!(untied.parameters(), 2 * 100 * 32 + 2 * layer + 32);
        let tied = ModelConfig::parse(&with("tie_word_embeddings", json!(true))).unwrap();
        assert_eq!(untied.parameters() - tied.parameters(), 100 * 32);
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        let cases = [
            (
                with("architectures", json!(["GPT2LMHeadModel"])),
                "field \"architectures\" is \"GPT2LMHeadModel\", which is not supported: known are",
            ),
            (with("hidden_act", json!("gelu")), "field \"hidden_act\" is \"gelu\", which is not supported"),
            (with("rope_scaling", json!({"type": "dynamic"})), "field \"rope_scaling.factor\" is missing"),
            (
                with("rope_parameters", json!({"rope_type": "axial"})),
                "field \"rope_parameters.rope_type\" is \"axial\"",
            ),
            (with("quantization_config", json!({"bits": 4})), "training needs unquantised weights"),
            (with("hidden_size", json!(-3)), "field \"hidden_size\" is -3; expected a positive whole number"),
            (
                with("hidden_size", json!("32")),
                "field \"hidden_size\" is \"32\"; expected a positive whole number",
            ),
            (with("num_key_value_heads", json!(3)), "field \"num_key_value_heads\" is 3; expected a divisor"),
            (with("rms_norm_eps", json!(0)), "field \"rms_norm_eps\" is 0; expected a positive number"),
            (
                with("vocab_size", json!(null)),
                "field \"vocab_size\" is null; expected a positive whole number",
            ),
            (
                with("num_attention_heads", json!(null)),
                "field \"num_attention_heads\" is null; expected a positive whole number",
            ),
            (with("layer_types", json!(["full_attention"])), "expected a list with one kind for each layer"),
            (
                with("layer_types", json!(["full_attention", "sliding_attention"])),
                "(model_type \"ministral\"",
            ),
            (with("is_causal", json!(false)), "a token sees only what is before it here"),
            (with("per_layer_config", json!({"0": {}})), "all layers have one shape here"),
            (
                with("rope_parameters", json!({"full_attention": {"rope_theta": 1e4}})),
                "field \"rope_parameters.full_attention\"",
            ),
            (with("rope_scaling", json!({"type": "linear"})), "field \"rope_scaling.factor\" is missing"),
            (with("torch_dtype", json!("int8")), "field \"torch_dtype\" is \"int8\""),
            (json!([]), "expected a JSON object"),
        ];
        for (config, expected) in cases {
            let message = ModelConfig::parse(&config).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} should contain {expected:?}");
        }
    }

    #[test]
    fn windows_follow_the_family() {
        let windows = |config: &Value| ModelConfig::parse(config).unwrap().windows;
        assert_eq!(windows(&with("sliding_window", json!(16))), [Some(16), Some(16)]);
        let mut qwen = with("sliding_window", json!(16));
        qwen["architectures"] = json!(["Qwen2ForCausalLM"]);
        assert_eq!(windows(&qwen), [None, None]);
        qwen["use_sliding_window"] = json!(true);
        qwen["max_window_layers"] = json!(1);
        assert_eq!(windows(&qwen), [None, Some(16)]);
    }
}
