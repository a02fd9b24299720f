//! A run's directory: where its files are, and what the small ones hold.
//!
//! ```text
//! RUN/recipe.toml                  the resolved recipe
//! RUN/constitutions.json
//! RUN/iteration-1/pairs.jsonl      sampled sets: PairRecord
//! RUN/iteration-1/metrics.jsonl    one StepMetrics per optimizer step
//! RUN/iteration-1/checkpoint/      Hugging Face layout
//! RUN/eval/  RUN/report.html
//! RUN/state.json                   State: what is finished
//! RUN/lock                         held by the process that works in it
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic::atomic_write;
use crate::error::DataError;
use crate::finite::number_or_null;

/// The format of `state.json` that this version reads and writes.
pub const STATE_FORMAT: u32 = 1;

/// The paths of a run. Making one touches no file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunDir {
    root: PathBuf,
}

/// The paths of one iteration of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IterationDir {
    root: PathBuf,
}

impl RunDir {
    /// The run at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `recipe.toml`
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// `constitutions.json`
    pub fn constitutions(&self) -> PathBuf {
        self.root.join("constitutions.json")
    }

    /// `iteration-K`, from 1.
    pub fn iteration(&self, iteration: usize) -> IterationDir {
        IterationDir { root: self.root.join(format!("iteration-{iteration}")) }
    }

    /// `eval`
    pub fn eval(&self) -> PathBuf {
        self.root.join("eval")
    }

    /// `report.html`
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// `final`: the model at the end, in Hugging Face layout, with its model card.
    pub fn final_model(&self) -> PathBuf {
        self.root.join("final")
    }

    /// `state.json`
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// `lock`
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What is finished; `None` before anything is.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`], [`DataError::Json`], [`DataError::StateFormat`].
    pub fn read_state(&self) -> Result<Option<State>, DataError> {
        let path = self.state();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DataError::io(&path)(error)),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        // The format first: a later one may have other fields.
        let Format { format } = serde_json::from_slice(&bytes).map_err(DataError::json(&path))?;
        if format != STATE_FORMAT {
            return Err(DataError::StateFormat { path, found: format, expected: STATE_FORMAT });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(DataError::json(&path))
    }

    /// Writes what is finished, whole or not at all. To be called last, when what it names is on disk.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`].
    pub fn write_state(&self, state: &State) -> Result<(), DataError> {
        atomic_write(&self.state(), |writer| {
            serde_json::to_writer_pretty(&mut *writer, state)?;
            writer.write_all(b"\n")
        })
    }

    /// ` (process N)`, or nothing where that is not known, while a process has the run. Changes nothing.
    pub fn in_use(&self) -> Option<String> {
        let file = File::open(self.lock_file()).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| holder(file))
    }

    /// Takes the run for this process until the lock is dropped or the process ends, however it ends. Makes the directory
    /// where absent.
    ///
    /// # Errors
    ///
    /// [`DataError::Locked`] while another process (or another lock of this one) has it, [`DataError::Io`].
    pub fn lock(&self) -> Result<RunLock, DataError> {
        let path = self.lock_file();
        let at = || DataError::io(&path);
        fs::create_dir_all(&self.root).map_err(DataError::io(&self.root))?;
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(at())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataError::Locked { path: self.root.clone(), holder: holder(file) });
            }
            Err(TryLockError::Error(source)) => return Err(at()(source)),
        }
        file.set_len(0).map_err(at())?;
        file.rewind().map_err(at())?;
        writeln!(file, "{}", std::process::id()).map_err(at())?;
        Ok(RunLock { _file: file })
    }
}

/// Who holds a lock, as far as its file tells; for messages only.
fn holder(file: File) -> String {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    text.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl IterationDir {
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `pairs.jsonl`: one [`crate::PairRecord`] per sampled query, rejected ones too.
    pub fn pairs(&self) -> PathBuf {
        self.root.join("pairs.jsonl")
    }

    /// `metrics.jsonl`: one [`StepMetrics`] per optimizer step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `checkpoint`: π_η in Hugging Face layout.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }
}

/// Keeps a run to this process; see [`RunDir::lock`].
#[derive(Debug)]
pub struct RunLock {
    /// Closing it releases the lock. The file stays: removing it would let two processes lock two files of one name.
    _file: File,
}

/// A stage of an iteration, as `state.json` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStage {
    /// Responses are sampled and filtered: `pairs.jsonl` is whole.
    Generate,
    /// The model is trained: `checkpoint` is whole.
    Train,
    /// The evaluation after it is done.
    Evaluate,
}

/// A stage that is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishedStage {
    /// From 1; 0 is the base model, before the first iteration.
    pub iteration: usize,
    /// Which stage of it.
    pub stage: RunStage,
}

/// `state.json`: what is finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`STATE_FORMAT`].
    format: u32,
    /// In the order in which they were finished.
    finished: Vec<FinishedStage>,
}

impl Default for State {
    fn default() -> Self {
        Self { format: STATE_FORMAT, finished: Vec::new() }
    }
}

impl State {
    /// What is finished, in order.
    pub fn finished(&self) -> &[FinishedStage] {
        &self.finished
    }

    /// Whether a stage is finished.
    pub fn is_finished(&self, iteration: usize, stage: RunStage) -> bool {
        self.finished.contains(&FinishedStage { iteration, stage })
    }

    /// Marks a stage as finished.
    pub fn finish(&mut self, iteration: usize, stage: RunStage) {
        if !self.is_finished(iteration, stage) {
            self.finished.push(FinishedStage { iteration, stage });
        }
    }
}

/// The three figures of mutual information, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MiFigures {
    /// From the softmax over constitutions: the one that lower-bounds I(Y; C | X).
    #[serde(deserialize_with = "number_or_null")]
    pub constitutions: f64,
    /// From the softmax over responses.
    #[serde(deserialize_with = "number_or_null")]
    pub responses: f64,
    /// Their mean, Equation 2.
    #[serde(deserialize_with = "number_or_null")]
    pub two_sided: f64,
}

/// One line of `metrics.jsonl`: an optimizer step. Means are over the batch's queries, each of them one unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// η, from 1.
    pub iteration: usize,
    /// From 1.
    pub step: usize,
    /// The loss before the update, in the objective's reduction and sides.
    #[serde(deserialize_with = "number_or_null")]
    pub loss: f64,
    /// Mutual information in the batch's sets, from summed log-probabilities, in nats, before the update.
    pub mi: MiFigures,
    /// Share of constitutions whose own response is their likeliest (contrast over responses).
    #[serde(deserialize_with = "number_or_null")]
    pub accuracy_row: f64,
    /// Share of responses whose own constitution is their likeliest (contrast over constitutions).
    #[serde(deserialize_with = "number_or_null")]
    pub accuracy_col: f64,
    /// Global L2 norm of the gradient, before any clipping.
    #[serde(deserialize_with = "number_or_null")]
    pub grad_norm: f64,
    /// Global L2 norm of the update that the optimizer asked for.
    #[serde(deserialize_with = "number_or_null")]
    pub update_norm: f64,
    /// Share of that norm which the forward weights really moved by.
    #[serde(deserialize_with = "number_or_null")]
    pub update_kept: f64,
    /// Share of the forward weights that changed at all.
    #[serde(deserialize_with = "number_or_null")]
    pub fraction_changed: f64,
    /// KL(π ‖ base), exact over the vocabulary, in nats per token: mean over each response's tokens, responses and queries,
    /// before the update. Only where the policy keeps the base beside itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// What the schedule multiplied the learning rate by.
    #[serde(default, deserialize_with = "number_or_null")]
    pub lr_factor: f64,
    /// Queries in the batch.
    pub queries: usize,
    /// Log-probabilities that were summed: counted tokens of every response under every constitution.
    pub tokens: usize,
    /// The step's own time.
    #[serde(deserialize_with = "number_or_null")]
    pub seconds: f64,
    /// The process's largest resident memory so far, in bytes, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}
