//! What a run needs before its first stage.

use std::fs;
use std::path::Path;

use sami_constitution::{ConstitutionSpace, PrincipleSet, Task};
use sami_data::{Queries, QueryReport, RunDir, atomic_write, read_queries};
use serde::Serialize;

use crate::error::DriverError;
use crate::recipe::{Provenance, Recipe, TaskName, ValidRecipe, differing_fields, parse};

pub(crate) fn load_task(recipe: &Recipe) -> Result<Task, DriverError> {
    Ok(match (&recipe.task.file, recipe.task.name) {
        (Some(file), _) => Task::load(file)?,
        (None, TaskName::Dialogue) => Task::dialogue(),
        (None, TaskName::Tldr) => Task::tldr(),
    })
}

pub(crate) fn load_principles(recipe: &Recipe) -> Result<PrincipleSet, DriverError> {
    Ok(match &recipe.constitutions.principles {
        Some(file) => PrincipleSet::load(file)?,
        None => PrincipleSet::helpful_harmless(),
    })
}

pub(crate) fn load_queries(recipe: &Recipe) -> Result<Queries, DriverError> {
    Ok(read_queries(&recipe.data.files, recipe.data.format, recipe.data.on_bad_line)?)
}

/// Refuses a directory that holds other things than a run, before anything is written to it.
pub(crate) fn refuse_foreign(run: &RunDir) -> Result<(), DriverError> {
    let (root, lock) = (run.root().to_owned(), run.lock_file());
    let at = |source| DriverError::Io { path: root.clone(), source };
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(error)),
    };
    let mut foreign = false;
    for entry in entries {
        let path = entry.map_err(at)?.path();
        if path == run.recipe() {
            return Ok(());
        }
        // Left by a process that was killed before it had written the recipe.
        let temporary =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(".tmp-"));
        foreign |= path != lock && !temporary;
    }
    if foreign { Err(DriverError::Taken { path: root }) } else { Ok(()) }
}

/// Makes the run directory this recipe's, or checks that it is.
pub(crate) fn claim(run: &RunDir, recipe: &ValidRecipe, data: &QueryReport) -> Result<(), DriverError> {
    let path = run.recipe();
    match fs::read_to_string(&path) {
        Ok(text) => {
            let fields = differing_fields(&*parse(&path, &text)?, recipe);
            if fields.is_empty() {
                Ok(())
            } else {
                Err(DriverError::OtherRecipe { path, fields: fields.join(", ") })
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let provenance = Provenance {
                sami: env!("CARGO_PKG_VERSION").to_owned(),
                machine: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                threads: std::thread::available_parallelism().map_or(1, usize::from),
                data: data.files.clone(),
            };
            let recipe = Recipe { provenance: Some(provenance), ..Recipe::clone(recipe) };
            let text = toml::to_string(&recipe)
                .map_err(|source| DriverError::WriteRecipe { path: path.clone(), source })?;
            Ok(atomic_write(&path, |file| file.write_all(text.as_bytes()))?)
        }
        Err(source) => Err(DriverError::Io { path, source }),
    }
}

/// Every constitution that queries may meet, in the first wording of its principles.
pub(crate) fn write_constitutions(run: &RunDir, space: &ConstitutionSpace) -> Result<(), DriverError> {
    #[derive(Serialize)]
    struct Line {
        id: String,
        text: String,
    }
    let path = run.constitutions();
    if path.exists() {
        return Ok(());
    }
    let all: Vec<_> =
        space.all().map(|constitution| Line { id: constitution.id(), text: constitution.render() }).collect();
    write_json(&path, &all)
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DriverError> {
    let at = |source| DriverError::Json { path: path.to_owned(), line: 0, source };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(at)?;
    bytes.push(b'\n');
    Ok(atomic_write(path, |file| file.write_all(&bytes))?)
}
