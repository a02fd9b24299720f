//! Typed access to the fields of a `config.json`.
//!
//! A field that is absent means the family's default. A `null` means "not set" only where the
//! configuration class of transformers takes it; elsewhere it is refused, as there.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::ConfigError;
use super::family::{Meaning, Unsaid};
use crate::options::Dtype;

/// 2^31: beyond any real model, and far from overflow in products of two.
const BEYOND: u64 = 1 << 31;

const COUNT: &str = "a positive whole number";

/// Typed access to a JSON object (with the name of the field that it is, if it is one), with the
/// field's name in every error.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>, pub(super) &'static str);

impl<'a> Fields<'a> {
    /// The field's value, if it is there and not null.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there, be it null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    fn name(&self, field: &str) -> String {
        if self.1.is_empty() { field.to_owned() } else { format!("{}.{field}", self.1) }
    }

    pub(super) fn invalid(&self, field: &str, expected: &'static str) -> ConfigError {
        let value = self.0.get(field).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::Invalid { field: self.name(field), value, expected }
    }

    /// The same for a field that may be absent, where it means `default`.
    pub(super) fn invalid_or(
        &self,
        field: &str,
        default: impl Display,
        expected: &'static str,
    ) -> ConfigError {
        if self.get(field).is_some() {
            return self.invalid(field, expected);
        }
        let value = format!("not given, which means {default} here");
        ConfigError::Invalid { field: self.name(field), value, expected }
    }

    pub(super) fn unsupported(&self, field: &str, why: &'static str) -> ConfigError {
        let value = self.0.get(field).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::Unsupported { field: self.name(field), value, why }
    }

    pub(super) fn object(&self, field: &'static str) -> Result<Option<Fields<'a>>, ConfigError> {
        let object = |value: &'a Value| value.as_object().map(|map| Fields(map, field));
        self.get(field).map(|value| object(value).ok_or_else(|| self.invalid(field, "an object"))).transpose()
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        self.get(field).map(|value| value.as_str().ok_or_else(|| self.invalid(field, "a text"))).transpose()
    }

    /// The first text of a list; none where the list is empty.
    pub(super) fn first_text(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let invalid = || self.invalid(field, "a list of texts");
        let first = value.as_array().ok_or_else(invalid)?.first();
        first.map(|first| first.as_str().ok_or_else(invalid)).transpose()
    }

    /// The value where the field is there, null included; else the default.
    fn or<T>(
        &self,
        field: &str,
        default: T,
        read: impl Fn(&'a Value) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        match self.0.get(field) {
            Some(value) => read(value).ok_or_else(|| self.invalid(field, expected)),
            None => Ok(default),
        }
    }

    pub(super) fn flag_or(&self, field: &str, default: bool) -> Result<bool, ConfigError> {
        self.or(field, default, Value::as_bool, "true or false")
    }

    pub(super) fn count_or(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        self.or(field, default, count, COUNT)
    }

    /// A count that may be 0.
    pub(super) fn whole_or(&self, field: &str, default: usize) -> Result<usize, ConfigError> {
        self.or(field, default, whole, "a whole number")
    }

    pub(super) fn positive_or(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        self.or(field, default, positive, "a positive number")
    }

    /// A count with something else in its place where it is absent or null; `derived` is what the
    /// other fields give.
    pub(super) fn count_unless(
        &self,
        field: &str,
        unsaid: Unsaid,
        derived: impl Fn() -> Result<usize, ConfigError>,
    ) -> Result<usize, ConfigError> {
        let meaning = match self.0.get(field) {
            Some(Value::Null) => unsaid.null,
            Some(_) => return self.count_or(field, 0),
            None => unsaid.absent,
        };
        match meaning {
            Meaning::Is(number) => Ok(number),
            Meaning::Derived => derived(),
            Meaning::Refused => Err(self.invalid(field, COUNT)),
        }
    }

    pub(super) fn optional_count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        self.get(field).map(|value| count(value).ok_or_else(|| self.invalid(field, COUNT))).transpose()
    }

    pub(super) fn optional_number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        self.get(field).map(|value| value.as_f64().ok_or_else(|| self.invalid(field, "a number"))).transpose()
    }

    pub(super) fn positive(&self, field: &'static str) -> Result<f64, ConfigError> {
        if !self.has(field) {
            return Err(ConfigError::Missing { field: self.name(field) });
        }
        self.positive_or(field, 0.0)
    }

    /// What the weights were saved in, as far as the file says; each tensor says for itself what it
    /// is.
    pub(super) fn dtype(&self) -> Result<Option<Dtype>, ConfigError> {
        let Some(field) = ["dtype", "torch_dtype"].into_iter().find(|field| self.get(field).is_some()) else {
            return Ok(None);
        };
        let name = self.get(field).and_then(Value::as_str);
        match name.map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
            Some("float32" | "float") => Ok(Some(Dtype::F32)),
            Some("bfloat16") => Ok(Some(Dtype::Bf16)),
            Some("float16" | "half" | "float64" | "double" | "auto") => Ok(None),
            _ => Err(self.invalid(field, "\"float32\", \"bfloat16\", \"float16\", \"float64\" or \"auto\"")),
        }
    }

    /// Fields that would change the maths and are not computed here.
    pub(super) fn refuse_unsupported(&self) -> Result<(), ConfigError> {
        for field in ["hidden_act", "hidden_activation"] {
            // `swish` is its other name.
            let known = |value: &Value| matches!(value.as_str(), Some("silu" | "swish"));
            if self.get(field).is_some_and(|value| !known(value)) {
                return Err(self.unsupported(field, "only silu is computed"));
            }
        }
        if self.has("hidden_act") && self.get("hidden_act").is_none() {
            return Err(self.invalid("hidden_act", "\"silu\""));
        }
        if self.get("quantization_config").is_some() {
            return Err(self.unsupported("quantization_config", "training needs unquantised weights"));
        }
        // transformers takes whatever is not true for no, and lets every token see those after it.
        if self.0.get("is_causal").is_some_and(|value| value.as_bool() != Some(true)) {
            return Err(self.unsupported("is_causal", "a token sees only what is before it here"));
        }
        let none = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        if self.get("per_layer_config").is_some_and(|value| !none(value)) {
            return Err(self.unsupported("per_layer_config", "all layers have one shape here"));
        }
        Ok(())
    }

    /// Noise that transformers adds while it trains, and at no other time. It is not added here.
    pub(super) fn training_noise(&self) -> Result<Vec<String>, ConfigError> {
        let mut noise = Vec::new();
        for field in ["attention_dropout", "router_jitter_noise"] {
            if let Some(rate) = self.optional_number(field)?.filter(|&rate| rate != 0.0) {
                noise.push(format!("{field} is {rate}; training here goes without it"));
            }
        }
        Ok(noise)
    }
}

/// A whole number, be it written with a point.
fn whole(value: &Value) -> Option<usize> {
    let float = || value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
    let number = value.as_u64().or_else(|| float().map(|number| number as u64))?;
    (number < BEYOND).then_some(number as usize)
}

fn count(value: &Value) -> Option<usize> {
    whole(value).filter(|&number| number > 0)
}

fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
}
