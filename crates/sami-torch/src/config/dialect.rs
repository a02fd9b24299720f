//! The rope fields of both dialects made one set, as transformers 5 does it.
//!
//! transformers 4 wrote `rope_theta` and `rope_scaling`, transformers 5 writes `rope_parameters`.
//! Where both speak, `rope_scaling` takes the place of `rope_parameters` as a whole: what is not in
//! it comes from the fields outside, else from the family, and never from `rope_parameters`.

use serde_json::{Map, Value};

use super::{ConfigError, fields::Fields};

/// The fields with one complete set of rope fields, under the name that it has in the file.
pub(super) struct Resolved {
    /// Every other field as it is; `rope_theta`, `rope_type` and `partial_rotary_factor` are inside
    /// the set.
    pub(super) fields: Map<String, Value>,
    /// What was left out, where both dialects speak.
    pub(super) note: Option<&'static str>,
}

const ORIGINAL: &str = "original_max_position_embeddings";
const BY_LAYER: &str = "all layers have one set of rope fields here";
const REPLACED: &str =
    "rope_scaling takes the place of rope_parameters as a whole, as in transformers; leave one out";

/// Resolves the dialects. `theta` is the family's default.
pub(super) fn resolve(
    fields: &Fields<'_>,
    theta: f64,
    max_positions: usize,
) -> Result<Resolved, ConfigError> {
    let parameters = fields.object("rope_parameters")?;
    let scaling = fields.object("rope_scaling")?.filter(|scaling| !scaling.0.is_empty());
    let note = (scaling.is_some() && parameters.is_some_and(|map| !map.0.is_empty())).then_some(REPLACED);
    let name = if scaling.is_some() { "rope_scaling" } else { "rope_parameters" };
    let empty = Map::new();
    let given = scaling.or(parameters).unwrap_or(Fields(&empty, name));
    if let Some((field, value)) = given.0.iter().find(|(_, value)| is_set_of_fields(value)) {
        return Err(ConfigError::Unsupported {
            field: format!("{name}.{field}"),
            value: value.to_string(),
            why: BY_LAYER,
        });
    }

    let mut rope = given.0.clone();
    let kind = match ["rope_type", "type"].into_iter().find(|field| given.has(field)) {
        Some(field) => given.text(field)?.ok_or_else(|| given.invalid(field, "the name of a kind"))?,
        None => "default",
    };
    rope.insert("rope_type".into(), kind.into());
    rope.remove("type");
    // A null is no number, wherever it stands.
    let theta = match given.has("rope_theta") {
        true => given.positive_or("rope_theta", theta)?,
        false => fields.positive_or("rope_theta", theta)?,
    };
    rope.insert("rope_theta".into(), theta.into());
    if let (Some(factor), false) = (fields.get("partial_rotary_factor"), given.has("partial_rotary_factor")) {
        rope.insert("partial_rotary_factor".into(), factor.clone());
    }
    if matches!(kind, "llama3" | "yarn" | "longrope") {
        // A field of this name outside goes before the one inside.
        let length = match fields.0.get(ORIGINAL) {
            Some(outside) => outside.clone(),
            None => rope.remove(ORIGINAL).unwrap_or_else(|| max_positions.into()),
        };
        rope.insert(ORIGINAL.into(), length);
    }

    let mut all = fields.0.clone();
    for field in ["rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"] {
        all.remove(field);
    }
    all.insert(name.into(), rope.into());
    Ok(Resolved { fields: all, note })
}

/// An object in the place of a number or a name: the fields of one kind of layers. (Numbers that
/// JSON does not have are objects too.)
fn is_set_of_fields(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.contains_key("__float__"))
}
