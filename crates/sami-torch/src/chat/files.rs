//! Where a checkpoint's chat template stands, in the order in which transformers looks.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ChatError;
use crate::error::{Error, Result};
use crate::json::{self, read_text};
use crate::tokenizer::{CONFIG_FILE, object};

const TEMPLATE_FILE: &str = "chat_template.jinja";
/// Further templates, one a file, named by their files.
pub(crate) const TEMPLATE_DIR: &str = "additional_chat_templates";
/// Where processors of several kinds of input kept theirs; read where nothing else has one.
const PROCESSOR_FILE: &str = "chat_template.json";
const FIELD: &str = "chat_template";
const DEFAULT: &str = "default";

/// The default template and its file; `None` for a base model.
pub(super) fn find(dir: &Path) -> Result<Option<(PathBuf, String)>> {
    let own = dir.join(TEMPLATE_FILE);
    if own.is_file() {
        return Ok(Some((own.clone(), read_text(&own)?)));
    }
    // Templates in files leave nothing to the field.
    let named = named_templates(dir)?;
    if let Some((_, path)) = named.iter().find(|(name, _)| name == DEFAULT) {
        return Ok(Some((path.clone(), read_text(path)?)));
    }
    if !named.is_empty() {
        let names = named.into_iter().map(|(name, _)| name).collect();
        let path = dir.join(TEMPLATE_DIR);
        return Err(Error::Chat { path, source: ChatError::NoDefault { names } });
    }
    let config = object(dir, CONFIG_FILE)?;
    let processor = dir.join(PROCESSOR_FILE);
    let of = |path: PathBuf, value: &Value| match default_template(value) {
        Ok(source) => Ok(Some((path, source))),
        Err(source) => Err(Error::Chat { path, source }),
    };
    match config.get(FIELD) {
        Some(value) if !value.is_null() => of(dir.join(CONFIG_FILE), value),
        _ if processor.is_file() => match json::read(&processor)? {
            Value::Object(fields) if fields.contains_key(FIELD) => of(processor, &fields[FIELD]),
            value => of(processor, &value),
        },
        _ => Ok(None),
    }
}

/// The names and files of [`TEMPLATE_DIR`], in the order of the names.
pub(crate) fn named_templates(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let dir = dir.join(TEMPLATE_DIR);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut named = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(Error::io(&dir))? {
        let path = entry.map_err(Error::io(&dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jinja"));
        if let Some(name) = name.map(str::to_owned) {
            named.push((name, path));
        }
    }
    named.sort();
    Ok(named)
}

/// One text; or named ones, in a list of `{"name", "template"}` or an object.
fn default_template(value: &Value) -> Result<String, ChatError> {
    let text =
        |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned).ok_or(ChatError::Shape);
    let named: Vec<(String, String)> = match value {
        Value::String(template) => return Ok(template.clone()),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| Ok((text(entry.get("name"))?, text(entry.get("template"))?)))
            .collect::<Result<_, ChatError>>()?,
        Value::Object(entries) => entries
            .iter()
            .map(|(name, template)| Ok((name.clone(), text(Some(template))?)))
            .collect::<Result<_, ChatError>>()?,
        _ => return Err(ChatError::Shape),
    };
    // Of two with one name Python keeps the later.
    match named.iter().rev().find(|(name, _)| name == DEFAULT) {
        Some((_, template)) => Ok(template.clone()),
        None => Err(ChatError::NoDefault { names: named.into_iter().map(|(name, _)| name).collect() }),
    }
}
