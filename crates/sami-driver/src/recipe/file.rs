//! Recipes on disk.

use std::path::{Path, PathBuf};

use sami_constitution::plain_text;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::names::with_suggestion;
use super::{GuardAction, GuardSection, Override, Recipe, RecipeProblem, ValidRecipe};

/// Why a recipe cannot be used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("recipe {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of another type.
    #[error("recipe {path}, line {line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A field with an impossible value.
    #[error("recipe {path}, line {line}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The line of the field, or of its section where the field is absent, from 1.
        line: usize,
        /// The field and what is wrong with it.
        #[source]
        problem: RecipeProblem,
    },
    /// An override that names no field, or has a value of another type.
    #[error("--set {given}: {message}")]
    Override {
        /// As it was given.
        given: String,
        /// What is wrong.
        message: String,
    },
    /// An override with an impossible value.
    #[error("--set {given}: {problem}")]
    OverrideValue {
        /// As it was given.
        given: String,
        /// The field and what is wrong with it.
        #[source]
        problem: RecipeProblem,
    },
}

/// Reads and checks a recipe. Relative paths in it start at its own directory, and are absolute afterwards.
///
/// # Errors
///
/// An unreadable file, invalid TOML, an unknown key or an impossible value, with the line.
pub fn load(path: &Path) -> Result<ValidRecipe, RecipeError> {
    load_with(path, &[])
}

/// Reads a recipe, puts `overrides` in place of its values, one after the other, and checks it. Relative paths in overrides
/// start at the current directory.
///
/// # Errors
///
/// As [`load`]; what an override made impossible is reported with it.
pub fn load_with(path: &Path, overrides: &[Override]) -> Result<ValidRecipe, RecipeError> {
    let at = |source| RecipeError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(at)?;
    let text = plain_text(&text);
    let absolute = std::path::absolute(path).map_err(at)?;
    let dir = absolute.parent().unwrap_or(Path::new("/"));
    let mut recipe = read(path, &text)?;
    if !overrides.is_empty() {
        let here = std::env::current_dir().map_err(at)?;
        let mut table = text.parse::<toml::Table>().map_err(|error| syntax(path, &text, &error))?;
        for one in overrides {
            one.with_paths_from(&here).apply(&mut table)?;
        }
        // Each value was read alone before, and so was the file.
        recipe = toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| syntax(path, &text, &error))?;
    }
    let constitutions = &mut recipe.constitutions;
    let optional =
        [constitutions.principles.as_mut(), constitutions.per_query.as_mut(), recipe.task.file.as_mut()];
    let paths = recipe.data.files.iter_mut().chain(&mut constitutions.files);
    let paths = paths.chain(optional.into_iter().flatten());
    for field in paths.chain([&mut recipe.model.base]).filter(|field| is_path(field)) {
        *field = dir.join(&field);
    }
    let whole = checked(recipe, path, &text).and_then(|recipe| match recipe.check_chosen() {
        Ok(()) => Ok(recipe),
        Err(problem) => Err(at_line(path, &text, problem)),
    });
    whole.map_err(|error| match error {
        RecipeError::Value { path, line, problem } => {
            match overrides.iter().rev().find(|one| one.field() == problem.field) {
                Some(one) => RecipeError::OverrideValue { given: one.given().to_owned(), problem },
                None => RecipeError::Value { path, line, problem },
            }
        }
        other => other,
    })
}

/// Whether a field names a file: it is not empty, and no name on a hub (`hub:org/name`).
pub(super) fn is_path(field: &Path) -> bool {
    !field.as_os_str().is_empty() && !field.as_os_str().as_encoded_bytes().starts_with(b"hub:")
}

/// Checks a recipe's text; `path` names it in messages, and the paths in it stay as they are.
///
/// # Errors
///
/// Invalid TOML, an unknown key or an impossible value, with the line.
pub fn parse(path: &Path, text: &str) -> Result<ValidRecipe, RecipeError> {
    checked(read(path, text)?, path, text)
}

fn read(path: &Path, text: &str) -> Result<Recipe, RecipeError> {
    toml::from_str(text).map_err(|error| syntax(path, text, &error))
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> RecipeError {
    RecipeError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: with_suggestion(error.message()),
    }
}

fn checked(recipe: Recipe, path: &Path, text: &str) -> Result<ValidRecipe, RecipeError> {
    recipe.check().map_err(|problem| at_line(path, text, problem))
}

fn at_line(path: &Path, text: &str, problem: RecipeProblem) -> RecipeError {
    RecipeError::Value { path: path.to_owned(), line: line_of_field(text, problem.field), problem }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The line of `section.name`, or of as much of it as the file holds.
fn line_of_field(text: &str, field: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 1 };
    let mut table = document.get_ref();
    let mut line = 1;
    for part in field.split('.') {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == part) else { break };
        line = line_of(text, key.span().start);
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    line
}

/// Why a recipe cannot be written.
pub type RenderError = toml::ser::Error;

/// The whole recipe as TOML, defaults included.
///
/// # Errors
///
/// Values that TOML cannot hold, which a checked recipe has none of.
pub fn render(recipe: &Recipe) -> Result<String, RenderError> {
    toml::to_string(recipe)
}

/// The fields, as `section.name`, in which two recipes differ; where they came from, and what happens on collapse, is left
/// out.
pub fn differing_fields(a: &Recipe, b: &Recipe) -> Vec<String> {
    fn table(recipe: &Recipe) -> toml::Table {
        // Whether collapse stops a run may be decided anew for a run that it has stopped.
        let guards = GuardSection { action: GuardAction::default(), ..recipe.guards.clone() };
        let recipe = Recipe { provenance: None, guards, ..recipe.clone() };
        toml::Table::try_from(&recipe).unwrap_or_default()
    }
    fn walk(a: &toml::Table, b: &toml::Table, prefix: &str, out: &mut Vec<String>) {
        let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            match (a.get(key), b.get(key)) {
                (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => {
                    walk(a, b, &format!("{prefix}{key}."), out)
                }
                (a, b) if a != b => out.push(format!("{prefix}{key}")),
                _ => {}
            }
        }
    }
    let mut fields = Vec::new();
    walk(&table(a), &table(b), "", &mut fields);
    fields
}
