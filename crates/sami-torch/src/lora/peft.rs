//! `adapter_config.json`: an allowlist of fields and values that mean what is computed here. Any other field that is not
//! at its default is refused by name. Fields and defaults are those of PEFT 0.21.2's `LoraConfig`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::AdapterError;
use super::names::{Names, Pattern, strings};

/// Fields that change what is computed wherever they are not off (null or false), and what they do.
const OFF: [(&str, &str); 14] = [
    ("alora_invocation_tokens", "the adapter works only after certain tokens (aLoRA)"),
    ("arrow_config", "tokens are routed between adapters"),
    ("ensure_weight_tying", "the adapters of embedding and head are tied"),
    ("kasa_config", "the base's weights are truncated (KaSA)"),
    ("layer_replication", "layers of the base are repeated"),
    ("lora_bias", "the adapters have biases"),
    ("megatron_config", "the adapter belongs to Megatron's layers"),
    ("monteclora_config", "the adapter's weights are sampled"),
    ("target_parameters", "parameters are adapted without their module"),
    ("trainable_token_indices", "rows of the embedding are replaced"),
    ("use_bdlora", "the adapter's matrices are block-diagonal"),
    ("use_dora", "the adapted weights' rows are scaled (DoRA)"),
    ("use_qalora", "the adapter's input is pooled (QA-LoRA)"),
    ("velora_config", "the adapter's input is compressed"),
];

/// Fields that do not change what a saved adapter computes: where it came from, how training began (with an
/// initialisation that leaves the base as it is), and what belongs to other kinds of layers.
const NOTHING: [&str; 12] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// Fields that are read.
const READ: [&str; 16] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Which modules get a low-rank update.
pub(super) enum Targets {
    /// Every linear map but the head.
    AllLinear,
    Named(Names),
}

/// Layers that targets are restricted to.
pub(super) struct Layers {
    pub(super) indices: Vec<u64>,
    /// What the list of layers may be called; anything where it is empty.
    pub(super) lists: Vec<String>,
}

/// A checked `adapter_config.json`.
pub(super) struct PeftConfig {
    pub(super) base: PathBuf,
    pub(super) rank: usize,
    pub(super) alpha: f64,
    /// The scale is α/√r instead of α/r.
    pub(super) rank_stabilised: bool,
    pub(super) dropout: f64,
    pub(super) targets: Targets,
    pub(super) exclude: Option<Names>,
    pub(super) layers: Option<Layers>,
    /// Ends of the names of modules that are saved whole.
    pub(super) whole: Vec<String>,
    pub(super) ranks: Vec<(Pattern, usize)>,
    pub(super) alphas: Vec<(Pattern, f64)>,
    /// The file as it is, to be written again.
    pub(super) fields: Map<String, Value>,
}

impl PeftConfig {
    pub(super) fn parse(fields: &Map<String, Value>) -> Result<Self, AdapterError> {
        let get = |field: &str| fields.get(field).unwrap_or(&Value::Null);
        if get("peft_type") != "LORA" {
            return Err(AdapterError::Method { value: get("peft_type").to_string() });
        }
        refuse_others(fields)?;
        let targets = targets(get("target_modules"))?;
        Ok(Self {
            base: get("base_model_name_or_path").as_str().unwrap_or_default().into(),
            rank: fields.get("r").map_or(Ok(8), |value| rank("r", value))?,
            alpha: fields.get("lora_alpha").map_or(Ok(8.0), |value| alpha("lora_alpha", value))?,
            rank_stabilised: flag("use_rslora", get("use_rslora"))?,
            dropout: dropout(get("lora_dropout"))?,
            exclude: match get("exclude_modules") {
                Value::Null => None,
                value => Some(Names::new("exclude_modules", value)?),
            },
            layers: layers(get("layers_to_transform"), get("layers_pattern"), get("target_modules"))?,
            whole: match get("modules_to_save") {
                Value::Null => Vec::new(),
                value => strings("modules_to_save", value)?,
            },
            ranks: patterns("rank_pattern", fields.get("rank_pattern"), rank)?,
            alphas: patterns("alpha_pattern", fields.get("alpha_pattern"), alpha)?,
            fields: fields.clone(),
            targets,
        })
    }

    /// The same fields over another base.
    pub(super) fn fields_on(fields: &Map<String, Value>, base: &Path) -> Value {
        let mut fields = fields.clone();
        fields.insert("base_model_name_or_path".into(), base.display().to_string().into());
        fields.insert("inference_mode".into(), true.into());
        Value::Object(fields)
    }
}

fn refuse_others(fields: &Map<String, Value>) -> Result<(), AdapterError> {
    let unsupported =
        |field, value: &Value, does| Err(AdapterError::Unsupported { field, value: value.to_string(), does });
    for (field, value) in fields {
        let off = matches!(value, Value::Null | Value::Bool(false));
        let empty = value.as_array().is_some_and(Vec::is_empty);
        match OFF.iter().find(|(name, _)| name == field) {
            // No parameter at all; other fields are on with an empty list, too.
            Some(("target_parameters", _)) if empty => {}
            Some((field, does)) if !off => return unsupported(field, value, does),
            Some(_) => {}
            None if READ.contains(&field.as_str()) || NOTHING.contains(&field.as_str()) || off || empty => {}
            None if value.as_object().is_some_and(Map::is_empty) => {}
            None => {
                return Err(AdapterError::Unknown { field: field.clone(), value: value.to_string() });
            }
        }
    }
    match fields.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => {}
        Some(how) if ["gaussian", "eva", "orthogonal"].iter().any(|known| how == known) => {}
        Some(how) => {
            let does = "its initialisation changes the base's weights, or how the adapter is trained";
            return unsupported("init_lora_weights", how, does);
        }
    }
    match fields.get("bias") {
        None | Some(Value::Null) => {}
        Some(bias) if bias == "none" => {}
        Some(bias) => return unsupported("bias", bias, "biases of the base are trained"),
    }
    match fields.get("task_type") {
        None | Some(Value::Null) => Ok(()),
        Some(task) if task == "CAUSAL_LM" => Ok(()),
        Some(task) => unsupported("task_type", task, "the adapter is not for a causal language model"),
    }
}

fn invalid<T>(field: &'static str, value: &Value, expected: &'static str) -> Result<T, AdapterError> {
    Err(AdapterError::Invalid { field, value: value.to_string(), expected })
}

/// PEFT fills an absent list with these for every family that is read here.
fn targets(value: &Value) -> Result<Targets, AdapterError> {
    match value {
        Value::Null => Ok(Targets::Named(Names::List(vec!["q_proj".into(), "v_proj".into()]))),
        Value::String(all) if all.eq_ignore_ascii_case("all-linear") => Ok(Targets::AllLinear),
        value => Ok(Targets::Named(Names::new("target_modules", value)?)),
    }
}

fn rank(field: &'static str, value: &Value) -> Result<usize, AdapterError> {
    match value.as_u64().and_then(|rank| usize::try_from(rank).ok()) {
        Some(rank) if rank > 0 && rank <= i32::MAX as usize => Ok(rank),
        _ => invalid(field, value, "a positive whole number"),
    }
}

fn alpha(field: &'static str, value: &Value) -> Result<f64, AdapterError> {
    match value.as_f64() {
        Some(alpha) if alpha > 0.0 => Ok(alpha),
        _ => invalid(field, value, "a positive number (with 0 the adapter would do nothing)"),
    }
}

fn dropout(value: &Value) -> Result<f64, AdapterError> {
    match value {
        Value::Null => Ok(0.0),
        value => match value.as_f64() {
            Some(rate) if (0.0..1.0).contains(&rate) => Ok(rate),
            _ => invalid("lora_dropout", value, "a number of at least 0 and below 1"),
        },
    }
}

fn flag(field: &'static str, value: &Value) -> Result<bool, AdapterError> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        value => invalid(field, value, "true or false"),
    }
}

fn layers(indices: &Value, lists: &Value, targets: &Value) -> Result<Option<Layers>, AdapterError> {
    let lists = match lists {
        Value::Null => Vec::new(),
        Value::String(one) if one.is_empty() => Vec::new(),
        Value::String(one) => vec![one.clone()],
        value => strings("layers_pattern", value)?,
    };
    let plain = |list: &String| list.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !lists.iter().all(plain) {
        return invalid(
            "layers_pattern",
            &lists.into(),
            "plain names of lists of layers, such as \"layers\"",
        );
    }
    if targets.is_string() && (!indices.is_null() || !lists.is_empty()) {
        return invalid("layers_to_transform", indices, "null where \"target_modules\" is a text");
    }
    let list = match indices {
        Value::Null => Vec::new(),
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let Some(found) = list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>() else {
        return invalid("layers_to_transform", indices, "a layer's index, or a list of them");
    };
    if indices.is_null() && !lists.is_empty() {
        return invalid("layers_to_transform", indices, "indices of layers beside \"layers_pattern\"");
    }
    if found.is_empty() {
        return Ok(None);
    }
    Ok(Some(Layers { indices: found, lists }))
}

/// A map from expressions, which may match a name's end after a dot, to values.
fn patterns<T>(
    field: &'static str,
    value: Option<&Value>,
    read: impl Fn(&'static str, &Value) -> Result<T, AdapterError>,
) -> Result<Vec<(Pattern, T)>, AdapterError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Some(map) = value.as_object() else {
        return invalid(field, value, "a map from module names to numbers");
    };
    map.iter()
        .map(|(key, value)| Ok((Pattern::new(field, &format!(r"(?:.*\.)?({key})"))?, read(field, value)?)))
        .collect()
}
