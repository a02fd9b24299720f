//! Typed access to the fields of a `config.json`.

use serde_json::{Map, Value};

use super::ConfigError;
use crate::options::Dtype;

/// Typed access to a JSON object, with the field's name in every error.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The field's value; `null` is how transformers writes "not set".
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn invalid(&self, field: &str, expected: &'static str) -> ConfigError {
        let value = self.get(field).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::Invalid { field: field.to_owned(), value, expected }
    }

    pub(super) fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ConfigError> {
        self.get(field)
            .map(|value| value.as_object().map(Fields).ok_or_else(|| self.invalid(field, "an object")))
            .transpose()
    }

    pub(super) fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        self.get(field)
            .map(|value| value.as_bool().ok_or_else(|| self.invalid(field, "true or false")))
            .transpose()
    }

    pub(super) fn optional_count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        // 2^31: beyond any real model, and far from overflow in products of two.
        self.get(field)
            .map(|value| match value.as_u64() {
                Some(count) if (1..1 << 31).contains(&count) => Ok(count as usize),
                _ => Err(self.invalid(field, "a positive whole number")),
            })
            .transpose()
    }

    pub(super) fn count(&self, field: &'static str) -> Result<usize, ConfigError> {
        self.optional_count(field)?.ok_or(ConfigError::Missing { field })
    }

    pub(super) fn optional_number(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        self.get(field).map(|value| value.as_f64().ok_or_else(|| self.invalid(field, "a number"))).transpose()
    }

    pub(super) fn optional_positive(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        match self.optional_number(field)? {
            Some(number) if !(number.is_finite() && number > 0.0) => {
                Err(self.invalid(field, "a positive number"))
            }
            number => Ok(number),
        }
    }

    pub(super) fn positive(&self, field: &'static str) -> Result<f64, ConfigError> {
        self.optional_positive(field)?.ok_or(ConfigError::Missing { field })
    }

    pub(super) fn dtype(&self) -> Result<Option<Dtype>, ConfigError> {
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
    pub(super) fn refuse_unsupported(&self) -> Result<(), ConfigError> {
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
        if let Some(value) = self.get("attention_dropout").filter(|value| value.as_f64() != Some(0.0)) {
            return refuse("attention_dropout", value, "log-probabilities must not be random");
        }
        Ok(())
    }
}
