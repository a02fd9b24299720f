//! `section.name=value`, in place of what a recipe says.

use std::path::Path;

use super::Recipe;
use super::file::{RecipeError, is_path};
use super::names::with_suggestion;

/// One value that replaces a recipe's: the field, and a TOML value.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// As it was given.
    given: String,
    /// `section.name`.
    field: String,
    value: toml::Value,
}

impl Override {
    /// Reads `section.name=value`. A value that is not TOML is a string, so quotes may be left out.
    ///
    /// # Errors
    ///
    /// [`RecipeError::Override`] for a text without `=`, a field that no recipe has, or a value of another type.
    pub fn parse(given: &str) -> Result<Self, RecipeError> {
        let refused = |message: String| RecipeError::Override { given: given.to_owned(), message };
        let Some((field, text)) = given.split_once('=') else {
            return Err(refused("write it as section.name=value, for example training.batch_size=64".into()));
        };
        let (field, text) = (field.trim(), text.trim());
        let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
        let value =
            match parsed.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value")) {
                Some(value) => value,
                None => toml::Value::String(text.to_owned()),
            };
        let one = Self { given: given.to_owned(), field: field.to_owned(), value };
        // Every field has a default, so a recipe of this one value tells whether it exists and has the right type.
        let mut alone = toml::Table::new();
        one.apply(&mut alone)?;
        toml::Value::Table(alone)
            .try_into::<Recipe>()
            .map_err(|error| refused(with_suggestion(error.message())))?;
        Ok(one)
    }

    /// As it was given.
    pub fn given(&self) -> &str {
        &self.given
    }

    /// The field as `section.name`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The same, with relative paths in it starting at `dir`.
    pub(super) fn with_paths_from(&self, dir: &Path) -> Self {
        let mut this = self.clone();
        let absolute = |value: &mut toml::Value| {
            if let toml::Value::String(path) = value
                && is_path(Path::new(path))
            {
                *path = dir.join(&*path).to_string_lossy().into_owned();
            }
        };
        match (this.field.as_str(), &mut this.value) {
            ("model.base" | "constitutions.principles" | "constitutions.per_query" | "task.file", value) => {
                absolute(value);
            }
            ("data.files" | "constitutions.files", toml::Value::Array(files)) => {
                files.iter_mut().for_each(absolute)
            }
            _ => {}
        }
        this
    }

    /// Puts the value into a recipe's table.
    pub(super) fn apply(&self, table: &mut toml::Table) -> Result<(), RecipeError> {
        let refused =
            |message: &str| RecipeError::Override { given: self.given.clone(), message: message.into() };
        let mut parts: Vec<&str> = self.field.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        if last.is_empty() || parts.iter().any(|part| part.is_empty()) {
            return Err(refused("the field has no name; write it as section.name=value"));
        }
        let mut table = table;
        for part in parts {
            let inner = table.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            table =
                inner.as_table_mut().ok_or_else(|| refused(&format!("{part} is a value, not a section")))?;
        }
        table.insert(last.to_owned(), self.value.clone());
        Ok(())
    }
}
