//! Files that are read while they grow, and directories that come and go whole.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::DriverError;

/// The whole lines of a JSONL file, from its start; a last line without its newline is left out, for it may be half
/// written. An absent file has none.
pub(crate) fn whole_lines<T: DeserializeOwned>(
    path: &Path,
) -> Result<impl Iterator<Item = Result<T, DriverError>>, DriverError> {
    let at = |source| DriverError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(error)),
    };
    let path = path.to_owned();
    // `None` after an error of the system, which would come again for ever.
    let mut reader = file.map(BufReader::new);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        number += 1;
        match reader.as_mut()?.read_until(b'\n', &mut line) {
            Ok(_) if line.last() != Some(&b'\n') => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(|source| DriverError::Json {
                path: path.clone(),
                line: number,
                source,
            })),
            Err(source) => {
                reader = None;
                Some(Err(DriverError::Io { path: path.clone(), source }))
            }
        }
    }))
}

/// A file of figures that can be made anew from others: what it holds, or `None` where it is absent. A
/// damaged one, or one that another version wrote, is said and counts as absent.
pub(crate) fn figures<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DriverError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DriverError::Io { path: path.to_owned(), source }),
    };
    let read = serde_json::from_slice(&bytes);
    if let Err(error) = &read {
        tracing::warn!("{} cannot be read ({error}) and is made anew", path.display());
    }
    Ok(read.ok())
}

/// Where the state after `step` steps is kept.
pub(crate) fn step_dir(state: &Path, step: usize) -> PathBuf {
    state.join(format!("step-{step}"))
}

/// The latest step whose state is kept.
pub(crate) fn saved_step(state: &Path) -> Result<Option<usize>, DriverError> {
    Ok(saved_steps(state)?.into_iter().max())
}

/// Removes the states of steps before `step`.
pub(crate) fn remove_older(state: &Path, step: usize) -> Result<(), DriverError> {
    saved_steps(state)?
        .into_iter()
        .filter(|older| *older < step)
        .try_for_each(|older| remove_dir(&step_dir(state, older)))
}

fn saved_steps(state: &Path) -> Result<Vec<usize>, DriverError> {
    let at = |source| DriverError::Io { path: state.to_owned(), source };
    let entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(error)),
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry.map_err(at)?.file_name();
        steps.extend(name.to_str().and_then(|name| name.strip_prefix("step-")?.parse::<usize>().ok()));
    }
    Ok(steps)
}

/// Removes a directory, if it is there. It is renamed first: a half-removed state is never taken for a whole one.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), DriverError> {
    let at = |source| DriverError::Io { path: dir.to_owned(), source };
    let mut doomed = dir.as_os_str().to_owned();
    doomed.push(".removed");
    let doomed = PathBuf::from(doomed);
    let clear = || if doomed.exists() { fs::remove_dir_all(&doomed).map_err(at) } else { Ok(()) };
    clear()?;
    if dir.exists() {
        fs::rename(dir, &doomed).map_err(at)?;
        clear()?;
    }
    Ok(())
}

/// Removes what a killed process may have left below a directory: temporary files, and directories that were to go.
pub(crate) fn sweep(root: &Path) -> Result<(), DriverError> {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let at = |source| DriverError::Io { path: dir.clone(), source };
        for entry in fs::read_dir(&dir).map_err(at)? {
            let entry = entry.map_err(at)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if !entry.file_type().map_err(at)?.is_dir() {
                if name.starts_with(".tmp-") || name.starts_with(".partial-") {
                    fs::remove_file(&path).map_err(|source| DriverError::Io { path, source })?;
                }
            } else if name.ends_with(".removed") || name == SCRATCH {
                fs::remove_dir_all(&path).map_err(|source| DriverError::Io { path, source })?;
            } else {
                dirs.push(path);
            }
        }
    }
    Ok(())
}

/// Where `RUN/final` grows.
pub(crate) const SCRATCH: &str = ".tmp-final";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines.jsonl");
        fs::write(&path, "1\n2\n3").unwrap();
        let read = |path: &Path| whole_lines::<u32>(path).unwrap().collect::<Result<Vec<_>, _>>();
        assert_eq!(read(&path).unwrap(), [1, 2]);
        assert!(read(&dir.path().join("absent")).unwrap().is_empty());
        fs::write(&path, "1\nx\n").unwrap();
        assert!(matches!(read(&path), Err(DriverError::Json { line: 2, .. })));
    }

    #[test]
    fn what_a_killed_process_left_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a/b", "a/state.removed/step-1", ".tmp-final", "a/checkpoint.partial"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let kept = ["a/pairs.jsonl", "a/b/x", "tmp-notes"];
        for name in [".tmp-1", "a/.tmp-2", "a/b/.partial-3", "a/state.removed/step-1/y", ".tmp-final/z"]
            .iter()
            .chain(&kept)
        {
            fs::write(at(name), "x").unwrap();
        }
        sweep(dir.path()).unwrap();
        for name in [".tmp-1", "a/.tmp-2", "a/b/.partial-3", "a/state.removed", ".tmp-final"] {
            assert!(!at(name).exists(), "{name}");
        }
        assert!(kept.iter().all(|name| at(name).is_file()));
        // Its maker removes it.
        assert!(at("a/checkpoint.partial").is_dir());
    }

    #[test]
    fn latest_state_is_found_and_older_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["step-2", "step-10", "step-11.partial", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(saved_step(dir.path()).unwrap(), Some(10));
        remove_older(dir.path(), 10).unwrap();
        assert_eq!(saved_steps(dir.path()).unwrap(), [10]);
        assert_eq!(saved_step(&dir.path().join("absent")).unwrap(), None);
    }
}
