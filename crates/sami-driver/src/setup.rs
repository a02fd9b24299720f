//! What a run needs before its first stage.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sami_constitution::ConstitutionSource;
use sami_data::{QueryIndex, QueryReport, RunDir, atomic_write, write_json};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::DriverError;
use crate::generate::READ_AHEAD;
use crate::recipe::{FileDigest, Origin, Provenance, Recipe, ValidRecipe, differing_fields, parse};

/// The recipe's constitutions, of which every query has enough.
pub(crate) fn load_constitutions(
    recipe: &Recipe,
    queries: &QueryIndex,
) -> Result<ConstitutionSource, DriverError> {
    let source = recipe.constitutions.source()?;
    source.check(recipe.constitutions.n_constitutions)?;
    if recipe.constitutions.per_query.is_some() {
        let positions: Vec<usize> = (0..queries.len()).collect();
        for block in positions.chunks(READ_AHEAD) {
            queries.read(block)?.iter().try_for_each(|query| source.check_query(&query.id))?;
        }
    }
    Ok(source)
}

pub(crate) fn load_queries(recipe: &Recipe) -> Result<QueryIndex, DriverError> {
    Ok(QueryIndex::open(&recipe.data.files, recipe.data.format, recipe.data.on_bad_line)?)
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
pub(crate) fn claim(
    run: &RunDir,
    recipe: &ValidRecipe,
    data: &QueryReport,
    origin: &Origin,
) -> Result<(), DriverError> {
    let path = run.recipe();
    let now = Provenance {
        sami: VERSION.to_owned(),
        machine: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        origin: origin.clone(),
        data: data.files.clone(),
        inputs: inputs(recipe)?,
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            refuse_other_version(&path, &text)?;
            let kept = parse(&path, &text)?;
            let fields = differing_fields(&kept, recipe);
            if !fields.is_empty() {
                return Err(DriverError::OtherRecipe { path, fields: fields.join(", ") });
            }
            kept.provenance.as_ref().map_or(Ok(()), |then| refuse_changed(&path, then, &now))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let recipe = Recipe { provenance: Some(now), ..Recipe::clone(recipe) };
            let text = toml::to_string(&recipe)
                .map_err(|source| DriverError::WriteRecipe { path: path.clone(), source })?;
            Ok(atomic_write(&path, |file| file.write_all(text.as_bytes()))?)
        }
        Err(source) => Err(DriverError::Io { path, source }),
    }
}

/// This crate's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Another version may know other keys and draw other numbers, so this comes before the recipe is read.
fn refuse_other_version(path: &Path, text: &str) -> Result<(), DriverError> {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let version = table.get("provenance").and_then(|provenance| provenance.get("sami")?.as_str());
    match version {
        Some(version) if version != VERSION => Err(DriverError::OtherVersion {
            path: path.to_owned(),
            found: version.to_owned(),
            expected: VERSION,
        }),
        _ => Ok(()),
    }
}

/// Refuses to go on where a file is not what it was when the run began.
fn refuse_changed(path: &Path, then: &Provenance, now: &Provenance) -> Result<(), DriverError> {
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    let data =
        then.data.iter().zip(&now.data).map(|(a, b)| (b.path.display().to_string(), &a.sha256, &b.sha256));
    let known = |file: &FileDigest| now.inputs.iter().find(|one| one.path == file.path);
    let inputs = then.inputs.iter().filter_map(|a| Some((a.path.clone(), &a.digest, &known(a)?.digest)));
    match data.chain(inputs).find(|(_, before, after)| before != after) {
        Some((file, before, after)) => Err(DriverError::ChangedFile {
            path: path.to_owned(),
            file,
            before: short(before),
            after: short(after),
        }),
        None => Ok(()),
    }
}

/// Digests of the principles or constitutions, the task and the files of the base model.
fn inputs(recipe: &Recipe) -> Result<Vec<FileDigest>, DriverError> {
    let mut files = recipe.constitutions.inputs().map_err(|source| {
        let path = recipe.constitutions.files.first().cloned().unwrap_or_default();
        DriverError::Io { path, source }
    })?;
    files.extend(recipe.task.file.clone());
    let base = &recipe.model.base;
    let at = |source| DriverError::Io { path: base.clone(), source };
    // What a base that is no directory is, its provider knows.
    if let Ok(entries) = fs::read_dir(base) {
        let mut own = Vec::new();
        for entry in entries {
            let path = entry.map_err(at)?.path();
            own.extend(Some(path).filter(|path| path.is_file()));
        }
        own.sort();
        files.extend(own);
    }
    files.iter().map(|path| digest(path)).collect()
}

/// Half of what is read of a large file.
const PART: u64 = 32 << 20;

fn digest(path: &Path) -> Result<FileDigest, DriverError> {
    let at = |source| DriverError::Io { path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(at)?;
    let bytes = file.metadata().map_err(at)?.len();
    let mut hash = Sha256::new();
    hash.update(bytes.to_le_bytes());
    let mut part = |file: &mut fs::File| -> std::io::Result<()> {
        let mut reader = file.take(PART);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                read => hash.update(&buffer[..read]),
            }
        }
    };
    part(&mut file).map_err(at)?;
    if bytes > 2 * PART {
        file.seek(SeekFrom::End(-(PART as i64))).map_err(at)?;
    }
    part(&mut file).map_err(at)?;
    let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FileDigest { path: path.display().to_string(), bytes, digest })
}

/// Above this many, constitutions are not listed: they follow from the principles.
const LISTED: usize = 4096;

/// The constitutions that queries may meet, in the first wording of their principles: all of them, or the first 4096.
pub(crate) fn write_constitutions(run: &RunDir, source: &ConstitutionSource) -> Result<(), DriverError> {
    #[derive(Serialize)]
    struct Line {
        id: String,
        text: String,
    }
    let path = run.constitutions();
    if path.exists() {
        return Ok(());
    }
    let all: Vec<_> = (source.all().take(LISTED))
        .map(|constitution| Line { id: constitution.id(), text: constitution.render() })
        .collect();
    Ok(write_json(&path, &all)?)
}
