//! `config.json` of a Hugging Face checkpoint, in both dialects: transformers 4 (`rope_theta`, `rope_scaling`,
//! `torch_dtype`) and transformers 5 (`rope_parameters`, `dtype`).
//!
//! Fields that change the maths are either computed or refused by name; a field that is not known to matter is ignored.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error as ThisError;

use crate::error::{Error, Result};
use crate::options::Dtype;

/// What is wrong with a `config.json`.
#[derive(Debug, ThisError, PartialEq)]
pub enum ConfigError {
    /// A field is not there.
    #[error("field \"{field}\" is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field has an impossible value.
    #[error("field \"{field}\" is {value}; expected {expected}")]
    Invalid {
        /// Its name.
        field: String,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// A field asks for something that this engine does not compute.
    #[error("field \"{field}\" is {value}, which is not supported: {why}")]
    Unsupported {
        /// Its name.
        field: String,
        /// What stands there.
        value: String,
        /// What it would change.
        why: &'static str,
    },
}

/// How the frequencies of the rotary position embedding are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
pub enum RopeScaling {
    /// θ^(−2i/d), unchanged.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's: long wavelengths divided by `factor`, short ones kept, a smooth passage between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Below this share of the original context a wavelength counts as long.
        low_freq_factor: f64,
        /// Above this one it counts as short.
        high_freq_factor: f64,
        /// The context length of pretraining.
        original_max_position_embeddings: f64,
    },
}

/// The architecture of a decoder, checked: every number is positive and they fit each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    /// `architectures[0]`, such as `MistralForCausalLM`.
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
    /// Longest sequence that the model was made for.
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
}

/// What differs between the families of one decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub output_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// RMSNorm of every query and key head (Qwen3).
    pub qk_norm: bool,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MixtureConfig {
    /// Experts of every layer.
    pub experts: usize,
    /// How many of them each token goes to.
    pub per_token: usize,
}

impl ModelConfig {
    /// Reads and checks `dir/config.json`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        Self::parse(&value).map_err(|source| Error::Config { path, source })
    }

    /// Checks the content of a `config.json`.
    pub fn parse(value: &Value) -> Result<Self, ConfigError> {
        let fields = Fields(value.as_object().ok_or_else(|| ConfigError::Invalid {
            field: "(whole file)".into(),
            value: value.to_string(),
            expected: "a JSON object",
        })?);
        let architecture = fields
            .0
            .get("architectures")
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
            .ok_or(ConfigError::Missing { field: "architectures" })?
            .to_owned();
        let family = Family::of(&architecture, &fields)?;
        fields.refuse_unsupported()?;

        let hidden_size = fields.count("hidden_size")?;
        let num_hidden_layers = fields.count("num_hidden_layers")?;
        let num_attention_heads = fields.count("num_attention_heads")?;
        let num_key_value_heads =
            fields.optional_count("num_key_value_heads")?.unwrap_or(num_attention_heads);
        if num_attention_heads % num_key_value_heads != 0 {
            return Err(fields.invalid("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        let head_dim = match fields.optional_count("head_dim")? {
            Some(head_dim) => head_dim,
            None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
            None => {
                return Err(fields.invalid("hidden_size", "a multiple of num_attention_heads, or a head_dim"));
            }
        };
        if head_dim % 2 != 0 {
            return Err(ConfigError::Invalid {
                field: "head_dim".into(),
                value: head_dim.to_string(),
                expected: "an even number (rotary embedding pairs its halves)",
            });
        }
        let (rope_theta, rope_scaling) = rope(&fields)?;
        Ok(Self {
            vocab_size: fields.count("vocab_size")?,
            hidden_size,
            intermediate_size: fields.count("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps")?,
            rope_theta,
            rope_scaling,
            max_position_embeddings: fields.count("max_position_embeddings")?,
            windows: windows(&architecture, &fields, num_hidden_layers)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            family,
            mixture: mixture(&architecture, &fields)?,
            dtype: fields.dtype()?,
            architecture,
        })
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<i64>() as usize).sum()
    }

    /// Number of parameters of one decoder layer.
    pub(crate) fn layer_parameters(&self) -> usize {
        let own = |name: &str| name.starts_with("model.layers.0.");
        let tensors = self.tensors();
        let shapes = tensors.iter().filter(|(name, _)| own(name)).map(|(_, shape)| shape);
        shapes.map(|shape| shape.iter().product::<i64>() as usize).sum()
    }

    /// Every tensor of the checkpoint, in the order of the forward pass, with its shape.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let (hidden, inner) = (self.hidden_size as i64, self.intermediate_size as i64);
        let (heads, kv) =
            (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let (heads, kv, head_dim, vocab) =
            (heads as i64, kv as i64, self.head_dim as i64, self.vocab_size as i64);
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
        for layer in 0..self.num_hidden_layers {
            let mut push = |name: &str, shape: &[i64]| {
                tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            push("input_layernorm.weight", &[hidden]);
            for (name, rows) in [("q_proj", heads), ("k_proj", kv), ("v_proj", kv)] {
                push(&format!("self_attn.{name}.weight"), &[rows, hidden]);
                if self.family.qkv_bias {
                    push(&format!("self_attn.{name}.bias"), &[rows]);
                }
            }
            if self.family.qk_norm {
                push("self_attn.q_norm.weight", &[head_dim]);
                push("self_attn.k_norm.weight", &[head_dim]);
            }
            push("self_attn.o_proj.weight", &[hidden, heads]);
            if self.family.output_bias {
                push("self_attn.o_proj.bias", &[hidden]);
            }
            push("post_attention_layernorm.weight", &[hidden]);
            if let Some(mixture) = self.mixture {
                push("block_sparse_moe.gate.weight", &[mixture.experts as i64, hidden]);
                for expert in 0..mixture.experts {
                    for (name, rows, columns) in
                        [("w1", inner, hidden), ("w2", hidden, inner), ("w3", inner, hidden)]
                    {
                        push(&format!("block_sparse_moe.experts.{expert}.{name}.weight"), &[rows, columns]);
                    }
                }
                continue;
            }
            for (name, rows, columns) in
                [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
            {
                push(&format!("mlp.{name}.weight"), &[rows, columns]);
                if self.family.mlp_bias {
                    push(&format!("mlp.{name}.bias"), &[rows]);
                }
            }
        }
        tensors.push(("model.norm.weight".into(), vec![hidden]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".into(), vec![vocab, hidden]));
        }
        tensors
    }
}

impl Family {
    /// The table of families: one decoder, a few switches.
    fn of(architecture: &str, fields: &Fields<'_>) -> Result<Self, ConfigError> {
        let plain = Self { qkv_bias: false, output_bias: false, mlp_bias: false, qk_norm: false };
        let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
        match architecture {
            "MistralForCausalLM" | "MixtralForCausalLM" => Ok(plain),
            "LlamaForCausalLM" => Ok(Self {
                qkv_bias: attention_bias,
                output_bias: attention_bias,
                mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
                ..plain
            }),
            "Qwen2ForCausalLM" => Ok(Self { qkv_bias: true, ..plain }),
            "Qwen3ForCausalLM" => {
                Ok(Self { qkv_bias: attention_bias, output_bias: attention_bias, qk_norm: true, ..plain })
            }
            _ => Err(ConfigError::Unsupported {
                field: "architectures".into(),
                value: format!("\"{architecture}\""),
                why: "known are MistralForCausalLM, MixtralForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM and \
                      Qwen3ForCausalLM",
            }),
        }
    }
}

fn mixture(architecture: &str, fields: &Fields<'_>) -> Result<Option<MixtureConfig>, ConfigError> {
    if architecture != "MixtralForCausalLM" {
        return Ok(None);
    }
    let (experts, per_token) = (fields.count("num_local_experts")?, fields.count("num_experts_per_tok")?);
    if per_token > experts {
        return Err(fields.invalid("num_experts_per_tok", "at most num_local_experts"));
    }
    Ok(Some(MixtureConfig { experts, per_token }))
}

fn rope(fields: &Fields<'_>) -> Result<(f64, RopeScaling), ConfigError> {
    let (name, map) = match (fields.object("rope_parameters")?, fields.object("rope_scaling")?) {
        (Some(map), _) => ("rope_parameters", Some(map)),
        (None, map) => ("rope_scaling", map),
    };
    let theta = match map.and_then(|map| map.0.get("rope_theta")) {
        Some(_) => map.map(|map| map.positive("rope_theta")).transpose()?.unwrap_or_default(),
        None => fields.optional_positive("rope_theta")?.unwrap_or(10_000.0),
    };
    let Some(map) = map else { return Ok((theta, RopeScaling::Default)) };
    let unsupported = |field: &str, value: &Value, why| ConfigError::Unsupported {
        field: format!("{name}.{field}"),
        value: value.to_string(),
        why,
    };
    for field in ["partial_rotary_factor"] {
        if let Some(value) = map.0.get(field).filter(|value| value.as_f64() != Some(1.0)) {
            return Err(unsupported(field, value, "only whole heads are rotated here"));
        }
    }
    // Older files say `type`.
    let kind = map.0.get("rope_type").or_else(|| map.0.get("type"));
    let scaling = match kind.and_then(Value::as_str) {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: map.positive("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: map.positive("factor")?,
            low_freq_factor: map.positive("low_freq_factor")?,
            high_freq_factor: map.positive("high_freq_factor")?,
            original_max_position_embeddings: map.positive("original_max_position_embeddings")?,
        },
        Some("dynamic") => {
            return Err(unsupported(
                "rope_type",
                &Value::from("dynamic"),
                "its frequencies depend on the longest sequence of the batch",
            ));
        }
        Some(other) => {
            return Err(unsupported(
                "rope_type",
                &Value::from(other),
                "known are default, linear and llama3",
            ));
        }
    };
    Ok((theta, scaling))
}

/// Mistral's window holds for every layer; Qwen says by layer, and only if it says so at all.
fn windows(
    architecture: &str,
    fields: &Fields<'_>,
    layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = fields.optional_count("sliding_window")?;
    match architecture {
        "MistralForCausalLM" | "MixtralForCausalLM" => Ok(vec![window; layers]),
        "Qwen2ForCausalLM" | "Qwen3ForCausalLM" if fields.flag("use_sliding_window")?.unwrap_or(false) => {
            let from = fields.optional_number("max_window_layers")?.unwrap_or(layers as f64) as usize;
            Ok((0..layers).map(|layer| window.filter(|_| layer >= from)).collect())
        }
        _ => Ok(vec![None; layers]),
    }
}

/// Typed access to a JSON object, with the field's name in every error.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The field's value; `null` is how transformers writes "not set".
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn invalid(&self, field: &str, expected: &'static str) -> ConfigError {
        let value = self.get(field).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::Invalid { field: field.to_owned(), value, expected }
    }

    fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ConfigError> {
        self.get(field)
            .map(|value| value.as_object().map(Fields).ok_or_else(|| self.invalid(field, "an object")))
            .transpose()
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        self.get(field)
            .map(|value| value.as_bool().ok_or_else(|| self.invalid(field, "true or false")))
            .transpose()
    }

    fn optional_count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        // 2^31: beyond any real model, and far from overflow in products of two.
        self.get(field)
            .map(|value| match value.as_u64() {
                Some(count) if (1..1 << 31).contains(&count) => Ok(count as usize),
                _ => Err(self.invalid(field, "a positive whole number")),
            })
            .transpose()
    }

    fn count(&self, field: &'static str) -> Result<usize, ConfigError> {
        self.optional_count(field)?.ok_or(ConfigError::Missing { field })
    }

    fn optional_number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        self.get(field).map(|value| value.as_f64().ok_or_else(|| self.invalid(field, "a number"))).transpose()
    }

    fn optional_positive(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        match self.optional_number(field)? {
            Some(number) if !(number.is_finite() && number > 0.0) => {
                Err(self.invalid(field, "a positive number"))
            }
            number => Ok(number),
        }
    }

    fn positive(&self, field: &'static str) -> Result<f64, ConfigError> {
        self.optional_positive(field)?.ok_or(ConfigError::Missing { field })
    }

    fn dtype(&self) -> Result<Option<Dtype>, ConfigError> {
        let Some((field, value)) =
            ["dtype", "torch_dtype"].iter().find_map(|field| Some((*field, self.get(field)?)))
        else {
            return Ok(None);
        };
        match value.as_str() {
            Some("float32") => Ok(Some(Dtype::F32)),
            Some("bfloat16") => Ok(Some(Dtype::Bf16)),
            // Read all the same: the file says per tensor what it holds.
            Some("float16") => Ok(None),
            _ => Err(self.invalid(field, "\"float32\", \"bfloat16\" or \"float16\"")),
        }
    }

    /// Fields that would change the maths and are not computed here.
    fn refuse_unsupported(&self) -> Result<(), ConfigError> {
        let refuse = |field: &str, value: &Value, why| {
            Err(ConfigError::Unsupported { field: field.to_owned(), value: value.to_string(), why })
        };
        for field in ["hidden_act", "hidden_activation"] {
            if let Some(value) = self.get(field).filter(|value| value.as_str() != Some("silu")) {
                return refuse(field, value, "only silu is computed");
            }
        }
        if let Some(value) = self.get("quantization_config") {
            return refuse("quantization_config", value, "training needs unquantised weights");
        }
        if let Some(value) = self.get("partial_rotary_factor").filter(|value| value.as_f64() != Some(1.0)) {
            return refuse("partial_rotary_factor", value, "only whole heads are rotated here");
        }
        if let Some(value) = self.get("attention_dropout").filter(|value| value.as_f64() != Some(0.0)) {
            return refuse("attention_dropout", value, "log-probabilities must not be random");
        }
        Ok(())
    }
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
                "field \"architectures\" is \"GPT2LMHeadModel\"",
            ),
            (with("hidden_act", json!("gelu")), "field \"hidden_act\" is \"gelu\", which is not supported"),
            (
                with("rope_scaling", json!({"type": "dynamic", "factor": 2.0})),
                "depend on the longest sequence",
            ),
            (
                with("rope_parameters", json!({"rope_type": "yarn"})),
                "field \"rope_parameters.rope_type\" is \"yarn\"",
            ),
            (with("quantization_config", json!({"bits": 4})), "training needs unquantised weights"),
            (with("hidden_size", json!(-3)), "field \"hidden_size\" is -3; expected a positive whole number"),
            (
                with("hidden_size", json!("32")),
                "field \"hidden_size\" is \"32\"; expected a positive whole number",
            ),
            (with("num_key_value_heads", json!(3)), "field \"num_key_value_heads\" is 3; expected a divisor"),
            (with("rms_norm_eps", json!(0)), "field \"rms_norm_eps\" is 0; expected a positive number"),
            (with("vocab_size", json!(null)), "field \"vocab_size\" is missing"),
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
