//! The rotary embedding as a `config.json` describes it, in either dialect.

use serde::Serialize;
use serde_json::Value;

use super::{ConfigError, fields::Fields};

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

pub(super) fn rope(fields: &Fields<'_>) -> Result<(f64, RopeScaling), ConfigError> {
    let (name, map) = match (fields.object("rope_parameters")?, fields.object("rope_scaling")?) {
        (Some(map), _) => ("rope_parameters", Some(map)),
        (None, map) => ("rope_scaling", map),
    };
    let Some(map) = map else { return Err(ConfigError::Missing { field: "rope_parameters".into() }) };
    let theta = map.positive("rope_theta")?;
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
