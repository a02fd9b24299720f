//! How far a run is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sami_data::{DataError, RunDir, RunStage, State, StepMetrics, check_finite};
use serde::Serialize;

use crate::error::DriverError;
use crate::files::whole_lines;
use crate::guards::GuardFigures;
use crate::recipe::parse;
use crate::score::ScoreSummary;
use crate::train::MetricsLine;

/// What a run directory says about its run, without changing anything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunStatus {
    /// The directory.
    pub run: PathBuf,
    /// The recipe's name.
    pub name: String,
    /// Whether a process works on it now, and which, where known.
    pub in_use: Option<String>,
    /// Whether `RUN/final` is there.
    pub finished: bool,
    /// N.
    pub iterations: usize,
    /// π_0 … π_N.
    pub models: Vec<IterationStatus>,
    /// Files that could not be read; everything else is as the others tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
}

/// One iteration; number 0 is the base model, of which there is an evaluation only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IterationStatus {
    /// η.
    pub iteration: usize,
    /// Stages that are finished.
    pub finished: Vec<RunStage>,
    /// Queries sampled so far.
    pub sampled: usize,
    /// Optimizer steps taken so far.
    pub steps: usize,
    /// Optimizer steps in all.
    pub steps_in_all: usize,
    /// The latest step.
    pub last_step: Option<StepMetrics>,
    /// The evaluation.
    pub evaluation: Option<ScoreSummary>,
    /// What guards saw in its answers to held-out queries.
    pub guards: Option<GuardFigures>,
}

impl RunStatus {
    /// Reads a run directory.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoRun`], a recipe that cannot be read, and a run of another version. Other files that cannot be read are
    /// listed in [`RunStatus::damaged`].
    pub fn read(root: &Path) -> Result<Self, DriverError> {
        let run = RunDir::new(root);
        let path = run.recipe();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DriverError::NoRun { path: root.to_owned() });
            }
            Err(source) => return Err(DriverError::Io { path, source }),
        };
        let recipe = parse(&path, &text)?;
        let mut damaged = Vec::new();
        let state = match run.read_state() {
            // Another version's run may mean anything.
            Err(error @ DataError::StateFormat { .. }) => return Err(error.into()),
            state => readable(state.map_err(DriverError::from), &mut damaged).flatten(),
        };
        let state = state.unwrap_or_default();
        let iterations = recipe.training.iterations;
        let steps_in_all = |iteration| match iteration {
            0 => 0,
            iteration => recipe.training.steps(iteration),
        };
        let models = (0..=iterations)
            .map(|iteration| one(&run, &state, iteration, steps_in_all(iteration), &mut damaged))
            .collect();
        Ok(Self {
            run: root.to_owned(),
            name: recipe.name.clone(),
            in_use: run.in_use(),
            finished: run.final_model().is_dir(),
            iterations,
            models,
            damaged,
        })
    }
}

fn one(
    run: &RunDir,
    state: &State,
    iteration: usize,
    steps_in_all: usize,
    damaged: &mut Vec<String>,
) -> IterationStatus {
    let stages = [RunStage::Generate, RunStage::Train, RunStage::Evaluate];
    let finished = stages.into_iter().filter(|stage| state.is_finished(iteration, *stage)).collect();
    let dir = run.iteration(iteration);
    let eval = run.eval().join(format!("iteration-{iteration}"));
    let steps = lines::<MetricsLine>(&dir.metrics(), damaged);
    IterationStatus {
        iteration,
        finished,
        sampled: lines::<serde::de::IgnoredAny>(&dir.pairs(), damaged).len(),
        steps: steps.len(),
        steps_in_all,
        last_step: steps.last().map(|line| line.step),
        evaluation: readable(read(&eval.join("summary.json")), damaged).flatten(),
        guards: readable(read(&eval.join("guards.json")), damaged).flatten(),
    }
}

/// What could be read; what could not is noted.
fn readable<T>(read: Result<T, DriverError>, damaged: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| damaged.push(error.to_string())).ok()
}

/// A file's whole lines that can be read; the first that cannot is noted.
fn lines<T: serde::de::DeserializeOwned>(path: &Path, damaged: &mut Vec<String>) -> Vec<T> {
    let (mut values, mut first) = (Vec::new(), None);
    for line in readable(whole_lines::<T>(path), damaged).into_iter().flatten() {
        match line {
            Ok(value) => values.push(value),
            Err(error) => first = first.or(Some(error)),
        }
    }
    damaged.extend(first.map(|error| error.to_string()));
    values
}

/// A JSON file, if it is there.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, DriverError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| DriverError::Json {
            path: path.to_owned(),
            line: 1,
            source,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DriverError::Io { path: path.to_owned(), source }),
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.in_use, self.finished) {
            (Some(holder), _) => format!("running{holder}"),
            (None, true) => "finished".to_owned(),
            (None, false) => "interrupted; the command that began it goes on".to_owned(),
        };
        write!(f, "{} ({}): {state}", self.run.display(), self.name)?;
        for model in &self.models {
            let IterationStatus { iteration, sampled, steps, steps_in_all, .. } = model;
            if *iteration == 0 {
                write!(f, "\n  base       ")?;
            } else {
                write!(
                    f,
                    "\n  iteration {iteration}: {sampled} queries sampled, {steps} of {steps_in_all} steps"
                )?;
            }
            if let Some(step) = &model.last_step {
                write!(f, ", loss {:.4}", step.loss)?;
                if check_finite(step).is_err() {
                    write!(f, " (step {} has figures that are not finite)", step.step)?;
                }
            }
            if let Some(evaluation) = &model.evaluation {
                let mi = &evaluation.mi;
                write!(
                    f,
                    "  MI over constitutions {:.4} nats (at most {:.4})",
                    mi.constitutions.mean, mi.cap
                )?;
            }
            if let Some(guards) = &model.guards {
                write!(f, "  KL {:.4} nats per token, {:.1} words", guards.kl, guards.text.words)?;
            }
        }
        for file in &self.damaged {
            write!(f, "\n  cannot be read: {file}")?;
        }
        Ok(())
    }
}
