//! The rotary embedding as a `config.json` describes it, in either dialect.

use serde_json::{Map, Value};

use super::{ConfigError, RopeScaling, fields::Fields};

/// θ, the scaling, and what a reader of the file may not expect.
pub(super) struct RopeFields {
    pub(super) theta: f64,
    pub(super) scaling: RopeScaling,
    pub(super) note: Option<&'static str>,
}

const WHOLE_HEADS: &str = "rope kind \"default\" rotates whole heads, as transformers does in this family; \
                           partial_rotary_factor changes nothing";

pub(super) fn rope(
    fields: &Fields<'_>,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<RopeFields, ConfigError> {
    let (name, map) = match (fields.object("rope_parameters")?, fields.object("rope_scaling")?) {
        (Some(map), _) => ("rope_parameters", Some(map)),
        (None, map) => ("rope_scaling", map),
    };
    let theta = match map.and_then(|map| map.0.get("rope_theta")) {
        Some(_) => map.map(|map| map.positive("rope_theta")).transpose()?.unwrap_or_default(),
        None => fields.optional_positive("rope_theta")?.unwrap_or(10_000.0),
    };
    let empty = Map::new();
    let map = map.unwrap_or(Fields(&empty));
    let scaled = Scaled { name, map, outer: fields, head_dim, positions: max_position_embeddings as f64 };
    let (scaling, note) = scaled.read()?;
    Ok(RopeFields { theta, scaling, note })
}

/// The fields of one kind of scaling.
struct Scaled<'a> {
    /// The name of the object that they stand in.
    name: &'static str,
    map: Fields<'a>,
    /// The fields outside.
    outer: &'a Fields<'a>,
    head_dim: usize,
    /// `max_position_embeddings`.
    positions: f64,
}

impl Scaled<'_> {
    fn read(&self) -> Result<(RopeScaling, Option<&'static str>), ConfigError> {
        // Older files say `type`.
        let kind = ["rope_type", "type"].into_iter().find_map(|field| self.map.get(field));
        let kind = kind.map_or(Some("default"), Value::as_str);
        let outside = || self.outer.optional_number("partial_rotary_factor");
        let partial = match self.optional("partial_rotary_factor")? {
            Some(inside) => inside,
            None => outside()?.unwrap_or(1.0),
        };
        // As transformers cuts it.
        let whole = (self.head_dim as f64 * partial) as usize == self.head_dim;
        if !whole && !matches!(kind, Some("default" | "proportional")) {
            return Err(self.invalid(
                "partial_rotary_factor",
                "1 (with this rope_type a head is rotated whole in all families that are read)",
            ));
        }
        let scaling = match kind {
            Some("default") => return Ok((RopeScaling::Default, (!whole).then_some(WHOLE_HEADS))),
            Some("linear") => RopeScaling::Linear { factor: self.needed("factor")? },
            Some("proportional") => {
                let pairs = (partial * self.head_dim as f64 / 2.0).floor() as usize;
                if pairs == 0 || pairs * 2 > self.head_dim {
                    return Err(self.invalid("partial_rotary_factor", "a share of the head's pairs, up to 1"));
                }
                RopeScaling::Proportional { factor: self.optional("factor")?.unwrap_or(1.0), pairs }
            }
            Some("dynamic") => {
                if self.head_dim < 4 {
                    return Err(self.invalid("rope_type", "another kind for heads of two"));
                }
                RopeScaling::Dynamic { factor: self.needed("factor")? }
            }
            Some("llama3") => RopeScaling::Llama3 {
                factor: self.needed("factor")?,
                low_freq_factor: self.needed("low_freq_factor")?,
                high_freq_factor: self.needed("high_freq_factor")?,
                original_max_position_embeddings: self.original()?,
            },
            Some("yarn") => self.yarn()?,
            Some("longrope") => self.longrope()?,
            _ => {
                let field = ["rope_type", "type"].into_iter().find(|field| self.map.get(field).is_some());
                return Err(ConfigError::Unsupported {
                    field: format!("{}.{}", self.name, field.unwrap_or("rope_type")),
                    value: self.written(field.unwrap_or("rope_type")),
                    why: "known are default, linear, proportional, dynamic, llama3, yarn and longrope",
                });
            }
        };
        Ok((scaling, None))
    }

    fn yarn(&self) -> Result<RopeScaling, ConfigError> {
        let original = self.original()?;
        let factor = self.factor(original)?;
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        // 0 is "not set", as in transformers.
        let some = |field| Ok::<_, ConfigError>(self.not_negative(field)?.filter(|&value| value != 0.0));
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None => match (some("mscale")?, some("mscale_all_dim")?) {
                (Some(mscale), Some(all)) => scale(mscale) / scale(all),
                _ => scale(1.0),
            },
        };
        let truncate = match self.map.0.get("truncate") {
            None => true,
            Some(value) => value.as_bool().ok_or_else(|| self.invalid("truncate", "true or false"))?,
        };
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast: some("beta_fast")?.unwrap_or(32.0),
            beta_slow: some("beta_slow")?.unwrap_or(1.0),
            truncate,
            attention_factor,
        })
    }

    fn longrope(&self) -> Result<RopeScaling, ConfigError> {
        let original = self.original()?;
        let factor = match self.optional("factor")? {
            Some(factor) => factor,
            None => self.positions / original,
        };
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        Ok(RopeScaling::Longrope {
            short_factor: self.divisors("short_factor")?,
            long_factor: self.divisors("long_factor")?,
            factor,
            original_max_position_embeddings: original,
            attention_factor,
        })
    }

    /// The length of pretraining; the model's own where nothing else is told.
    fn original(&self) -> Result<f64, ConfigError> {
        const FIELD: &str = "original_max_position_embeddings";
        const EXPECTED: &str = "a positive whole number";
        // The field outside goes before the one inside; null is no length.
        if self.outer.0.contains_key(FIELD) {
            let outside = self.outer.optional_count(FIELD)?;
            return outside.map(|length| length as f64).ok_or_else(|| self.outer.invalid(FIELD, EXPECTED));
        }
        if !self.map.0.contains_key(FIELD) {
            return Ok(self.positions);
        }
        let inside = self.map.optional_count(FIELD).ok().flatten();
        inside.map(|length| length as f64).ok_or_else(|| self.invalid(FIELD, EXPECTED))
    }

    /// YaRN's factor must be there; `null` means the ratio of the lengths.
    fn factor(&self, original: f64) -> Result<f64, ConfigError> {
        match self.map.0.get("factor") {
            Some(Value::Null) => Ok(self.positions / original),
            _ => self.needed("factor"),
        }
    }

    /// One positive number for each pair of a head.
    fn divisors(&self, field: &str) -> Result<Vec<f64>, ConfigError> {
        let positive = |value: &Value| value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        let list = self.map.get(field).and_then(Value::as_array);
        list.and_then(|list| list.iter().map(positive).collect::<Option<Vec<f64>>>())
            .filter(|list| list.len() == self.head_dim / 2)
            .ok_or_else(|| self.invalid(field, "a list of positive numbers, half as many as head_dim"))
    }

    fn needed(&self, field: &str) -> Result<f64, ConfigError> {
        self.optional(field)?.ok_or_else(|| self.invalid(field, "a positive number"))
    }

    fn optional(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        match self.not_negative(field)? {
            Some(0.0) => Err(self.invalid(field, "a positive number")),
            number => Ok(number),
        }
    }

    fn not_negative(&self, field: &str) -> Result<Option<f64>, ConfigError> {
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        let invalid = || self.invalid(field, "a positive number");
        self.map.get(field).map(|value| number(value).ok_or_else(invalid)).transpose()
    }

    fn written(&self, field: &str) -> String {
        self.map.0.get(field).map_or_else(|| "missing".to_owned(), Value::to_string)
    }

    fn invalid(&self, field: &str, expected: &'static str) -> ConfigError {
        let (field, value) = (format!("{}.{field}", self.name), self.written(field));
        ConfigError::Invalid { field, value, expected }
    }
}
