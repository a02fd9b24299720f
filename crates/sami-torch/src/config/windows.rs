//! Which layers see how far back.

use serde_json::Value;

use super::{ConfigError, fields::Fields};

/// How a family says which layers have the window of `sliding_window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// No layer has one, whatever the file says.
    Never,
    /// Every layer has it.
    EveryLayer,
    /// `layer_types` says which; without a list every layer has it.
    ByList,
    /// `use_sliding_window` says whether there is a window at all, `layer_types` which layers have
    /// it; without a list those from `max_window_layers` on.
    ByListUnderFlag,
}

const ALIKE: &str = "in this family either every layer has the window of sliding_window or none has (model_type \
                     \"ministral\" lets layers differ); make the list say that, or leave it out";
const NO_WINDOW: &str = "there is no window for its sliding layers (sliding_window, use_sliding_window)";

impl Windows {
    /// Per layer: how many tokens back a position sees (itself included), or all. `default`: the
    /// window where the file is silent.
    pub(super) fn of_layers(
        self,
        fields: &Fields<'_>,
        layers: usize,
        default: Option<usize>,
    ) -> Result<Vec<Option<usize>>, ConfigError> {
        let list = layer_types(fields, layers)?;
        let window = match self {
            Self::Never => None,
            Self::ByListUnderFlag if !fields.flag_or("use_sliding_window", false)? => None,
            _ => window(fields, default)?,
        };
        let first = match self {
            Self::ByListUnderFlag => fields.whole_or("max_window_layers", 28)?,
            _ => 0,
        };
        let Some(list) = list else {
            return Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect());
        };
        match self {
            Self::Never | Self::EveryLayer if list.iter().any(|&sliding| sliding != window.is_some()) => {
                Err(fields.unsupported("layer_types", ALIKE))
            }
            _ if window.is_none() && list.contains(&true) => {
                Err(fields.unsupported("layer_types", NO_WINDOW))
            }
            _ => Ok(list.into_iter().map(|sliding| window.filter(|_| sliding)).collect()),
        }
    }
}

/// Whether each layer is a sliding one, where the file lists them.
fn layer_types(fields: &Fields<'_>, layers: usize) -> Result<Option<Vec<bool>>, ConfigError> {
    let Some(value) = fields.get("layer_types") else { return Ok(None) };
    let list = value.as_array().filter(|list| list.len() == layers);
    let list = list.ok_or_else(|| fields.invalid("layer_types", "a list with one kind for each layer"))?;
    let sliding = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        // The second is its old name.
        Some("full_attention" | "attention") => Ok(false),
        _ => Err(fields.unsupported("layer_types", "known are full_attention and sliding_attention")),
    };
    list.iter().map(sliding).collect::<Result<_, _>>().map(Some)
}

/// `null` and `false` both say that there is none.
fn window(fields: &Fields<'_>, default: Option<usize>) -> Result<Option<usize>, ConfigError> {
    match fields.get("sliding_window") {
        None if fields.has("sliding_window") => Ok(None),
        None => Ok(default),
        Some(Value::Bool(false)) => Ok(None),
        Some(_) => fields.optional_count("sliding_window"),
    }
}
