//! A directory in which training alone goes on and ends.

use std::fs;
use std::path::{Path, PathBuf};

use sami_data::{RunDir, RunLock, StepMetrics, write_json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::DriverError;
use crate::files::{remove_dir, sweep, whole_lines};
use crate::setup::VERSION;
use crate::train::MetricsLine;

/// `training.json`: what made the directory, and whether it is finished.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    sami: String,
    settings: Map<String, Value>,
    finished: bool,
}

/// The directory of one training: the checkpoint at its end, `metrics.jsonl`, and, while it goes on, its state. The same
/// settings go on where an earlier process stopped; others are refused.
#[derive(Debug)]
pub struct TrainDir {
    root: PathBuf,
    marker: Marker,
    /// Held as long as this lives.
    _lock: RunLock,
}

impl TrainDir {
    /// Opens or makes `root` for a training with these settings: everything that the numbers depend on.
    ///
    /// # Errors
    ///
    /// A directory of something else, of other settings or another version, or in use by another process.
    pub fn open(root: &Path, settings: Map<String, Value>) -> Result<Self, DriverError> {
        let path = root.join("training.json");
        let kept = match fs::read(&path) {
            Ok(bytes) => {
                let json = |source| DriverError::Json { path: path.clone(), line: 1, source };
                Some(serde_json::from_slice::<Marker>(&bytes).map_err(json)?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(DriverError::Io { path, source }),
        };
        if kept.is_none() {
            refuse_filled(root)?;
        }
        if let Some(kept) = &kept {
            if kept.sami != VERSION {
                return Err(DriverError::OtherVersion { path, found: kept.sami.clone(), expected: VERSION });
            }
            let names =
                kept.settings.keys().chain(settings.keys().filter(|name| !kept.settings.contains_key(*name)));
            let differing: Vec<_> =
                names.filter(|name| kept.settings.get(*name) != settings.get(*name)).cloned().collect();
            if !differing.is_empty() {
                return Err(DriverError::OtherSettings { path, fields: differing.join(", ") });
            }
        }
        let lock = RunDir::new(root).lock()?;
        sweep(root)?;
        let marker = kept.unwrap_or(Marker { sami: VERSION.to_owned(), settings, finished: false });
        write_json(&path, &marker)?;
        Ok(Self { root: root.to_owned(), marker, _lock: lock })
    }

    /// Whether an earlier process finished it.
    pub fn is_finished(&self) -> bool {
        self.marker.finished
    }

    /// `metrics.jsonl`: one line per optimizer step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Weights and optimizer state while training goes on.
    pub fn state(&self) -> PathBuf {
        self.root.join("training-state")
    }

    /// The steps taken so far, by this and earlier processes.
    ///
    /// # Errors
    ///
    /// Lines that cannot be read.
    pub fn steps(&self) -> Result<Vec<StepMetrics>, DriverError> {
        whole_lines::<MetricsLine>(&self.metrics())?.map(|line| Ok(line?.step)).collect()
    }

    /// To be called last, when the checkpoint is on disk.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn finish(&mut self) -> Result<(), DriverError> {
        self.marker.finished = true;
        write_json(&self.root.join("training.json"), &self.marker)?;
        remove_dir(&self.state())
    }
}

/// Refuses a directory that holds anything but what a killed process leaves before its first file.
///
/// # Errors
///
/// [`DriverError::Taken`], and what the system refuses.
pub fn refuse_filled(root: &Path) -> Result<(), DriverError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(DriverError::Io { path: root.to_owned(), source }),
    };
    for entry in entries {
        let name = entry.map_err(|source| DriverError::Io { path: root.to_owned(), source })?.file_name();
        let name = name.to_string_lossy();
        if name != "lock" && !name.starts_with(".tmp-") {
            return Err(DriverError::Taken { path: root.to_owned() });
        }
    }
    Ok(())
}
