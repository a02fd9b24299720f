//! What differs between the families of one decoder.

use serde::Serialize;

use super::{ConfigError, fields::Fields};

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

impl Family {
    /// The table of families: one decoder, a few switches.
    pub(super) fn of(architecture: &str, fields: &Fields<'_>) -> Result<Self, ConfigError> {
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

pub(super) fn mixture(architecture: &str, fields: &Fields<'_>) -> Result<Option<MixtureConfig>, ConfigError> {
    if architecture != "MixtralForCausalLM" {
        return Ok(None);
    }
    let (experts, per_token) = (fields.count("num_local_experts")?, fields.count("num_experts_per_tok")?);
    if per_token > experts {
        return Err(fields.invalid("num_experts_per_tok", "at most num_local_experts"));
    }
    Ok(Some(MixtureConfig { experts, per_token }))
}
