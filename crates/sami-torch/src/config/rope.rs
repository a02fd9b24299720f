//! The rotary embedding as a `config.json` describes it, once its dialects are resolved.

use serde_json::Value;

use super::{ConfigError, RopeScaling, fields::Fields};

/// θ, the scaling, and what a reader of the file may not expect.
pub(super) struct RopeFields {
    pub(super) theta: f64,
    pub(super) scaling: RopeScaling,
    pub(super) note: Option<&'static str>,
}

const ORIGINAL: &str = "original_max_position_embeddings";
const WHOLE_HEADS: &str = "rope kind \"default\" rotates whole heads, as transformers does in this family; \
                           partial_rotary_factor changes nothing";

pub(super) fn rope(
    fields: &Fields<'_>,
    head_dim: usize,
    max_position_embeddings: usize,
) -> Result<RopeFields, ConfigError> {
    let maps = [fields.object("rope_parameters")?, fields.object("rope_scaling")?];
    let Some(map) = maps.into_iter().flatten().next() else {
        return Err(ConfigError::Missing { field: "rope_parameters".into() });
    };
    let theta = map.positive("rope_theta")?;
    let scaled = Scaled { map, head_dim, positions: max_position_embeddings as f64 };
    let (scaling, note) = scaled.read()?;
    Ok(RopeFields { theta, scaling, note })
}

/// The fields of one kind of scaling.
struct Scaled<'a> {
    map: Fields<'a>,
    head_dim: usize,
    /// `max_position_embeddings`.
    positions: f64,
}

impl Scaled<'_> {
    fn read(&self) -> Result<(RopeScaling, Option<&'static str>), ConfigError> {
        let kind = self.map.text("rope_type")?;
        let partial = self.optional("partial_rotary_factor")?.unwrap_or(1.0);
        // As transformers cuts it.
        let whole = (self.head_dim as f64 * partial) as usize == self.head_dim;
        if !whole && !matches!(kind, Some("default" | "proportional")) {
            return Err(self.map.invalid(
                "partial_rotary_factor",
                "1 (with this rope_type a head is rotated whole in all families that are read)",
            ));
        }
        let scaling = match kind {
            Some("default") => return Ok((RopeScaling::Default, (!whole).then_some(WHOLE_HEADS))),
            Some("linear") => RopeScaling::Linear { factor: self.map.positive("factor")? },
            Some("proportional") => {
                let pairs = (partial * self.head_dim as f64 / 2.0).floor() as usize;
                if pairs == 0 || pairs * 2 > self.head_dim {
                    return Err(self
                        .map
                        .invalid("partial_rotary_factor", "a share of the head's pairs, up to 1"));
                }
                RopeScaling::Proportional { factor: self.optional("factor")?.unwrap_or(1.0), pairs }
            }
            Some("dynamic") => {
                if self.head_dim < 4 {
                    return Err(self.map.invalid("rope_type", "another kind for heads of two"));
                }
                RopeScaling::Dynamic { factor: self.map.positive("factor")? }
            }
            Some("llama3") => RopeScaling::Llama3 {
                factor: self.map.positive("factor")?,
                low_freq_factor: self.map.positive("low_freq_factor")?,
                high_freq_factor: self.map.positive("high_freq_factor")?,
                original_max_position_embeddings: self.map.positive(ORIGINAL)?,
            },
            Some("yarn") => self.yarn()?,
            Some("longrope") => self.longrope()?,
            _ => {
                let why = "known are default, linear, proportional, dynamic, llama3, yarn and longrope";
                return Err(self.map.unsupported("rope_type", why));
            }
        };
        Ok((scaling, None))
    }

    fn yarn(&self) -> Result<RopeScaling, ConfigError> {
        let original = self.map.positive(ORIGINAL)?;
        let factor = self.factor(original)?;
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None => match (self.optional_or_zero("mscale")?, self.optional_or_zero("mscale_all_dim")?) {
                (Some(mscale), Some(all)) => scale(mscale) / scale(all),
                _ => scale(1.0),
            },
        };
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast: self.optional_or_zero("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional_or_zero("beta_slow")?.unwrap_or(1.0),
            truncate: self.map.flag_or("truncate", true)?,
            attention_factor,
        })
    }

    fn longrope(&self) -> Result<RopeScaling, ConfigError> {
        let original = self.map.positive(ORIGINAL)?;
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

    /// YaRN's factor must be there; `null` means the ratio of the lengths.
    fn factor(&self, original: f64) -> Result<f64, ConfigError> {
        match self.map.0.get("factor") {
            Some(Value::Null) => Ok(self.positions / original),
            _ => self.map.positive("factor"),
        }
    }

    /// One positive number for each pair of a head.
    fn divisors(&self, field: &'static str) -> Result<Vec<f64>, ConfigError> {
        let positive = |value: &Value| value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        let list = self.map.get(field).and_then(Value::as_array);
        list.and_then(|list| list.iter().map(positive).collect::<Option<Vec<f64>>>())
            .filter(|list| list.len() == self.head_dim / 2)
            .ok_or_else(|| self.map.invalid(field, "a list of positive numbers, half as many as head_dim"))
    }

    fn optional(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        self.map.get(field).map(|_| self.map.positive(field)).transpose()
    }

    /// 0 is "not set", as in transformers.
    fn optional_or_zero(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        match self.map.get(field).and_then(Value::as_f64) {
            Some(0.0) => Ok(None),
            _ => self.optional(field),
        }
    }
}
