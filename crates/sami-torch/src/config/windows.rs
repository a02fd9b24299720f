//! Which layers see how far back.

use super::{ConfigError, fields::Fields};

/// Mistral's window holds for every layer; Qwen says by layer, and only if it says so at all.
pub(super) fn windows(
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
