//! Stage 3: one optimizer step per batch of contrast sets.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::Array2;
use sami_core::{Objective, diagnostics_with_targets, mutual_information_with_targets};
use sami_data::{JsonlAppender, MiFigures, PairReader, PairRecord, StepMetrics, check_finite};
use sami_policy::{ContrastResponse, ContrastSet, SetGradient, SetLogps, TrainablePolicy, UpdateReport};

use serde::{Deserialize, Serialize};

use crate::batches::Batches;
use crate::error::{Doing, DriverError};
use crate::events::{Event, Observer, Stage};
use crate::files::{remove_older, saved_step, step_dir};
use crate::recipe::LrSchedule;
use crate::sources::SetSource;

/// What to train on, for how long, and where to keep the progress.
#[derive(Clone, Debug)]
pub struct TrainJob<'a> {
    /// Number written into each line of metrics.
    pub iteration: usize,
    /// The loss and the reduction of tokens.
    pub objective: &'a Objective,
    /// How the learning rate changes from step to step.
    pub schedule: LrSchedule,
    /// β: coefficient of the KL to the frozen base, in nats per token; 0 for no such term.
    pub beta: f64,
    /// Optimizer steps in all, those of an interrupted earlier process included.
    pub steps: usize,
    /// Which sets each step sees.
    pub batches: Batches,
    /// Sets handed to the policy at once; `None` hands it the whole batch. Changes nothing beyond rounding.
    pub micro_batch: Option<usize>,
    /// The file that gets one line of metrics per step.
    pub metrics: PathBuf,
    /// Directory for weights and optimizer state while training is in progress.
    pub state: PathBuf,
    /// Keep them after every so many steps; 0 never does.
    pub save_state_every: usize,
}

/// The contrast set of a pair record: its training prompts, and its responses with the ids of the tokens that count.
///
/// # Errors
///
/// A record whose filters rejected it, or that is no contrast set.
pub fn contrast_set(record: &PairRecord) -> Result<ContrastSet, DriverError> {
    if !record.is_kept() {
        let reasons = record.rejected.join(", ");
        return Err(DriverError::RejectedPair { id: record.id.clone(), reasons });
    }
    let responses = record.responses.iter().map(|response| ContrastResponse {
        text: response.text.clone(),
        token_ids: response.token_ids.clone(),
        constitution: response.constitution,
    });
    Ok(ContrastSet::new(record.id.clone(), record.prompts.clone(), responses.collect())?)
}

/// The contrast sets of a pairs file's kept records.
///
/// # Errors
///
/// Unreadable lines, records that are no contrast set, and [`DriverError::NoPairs`].
pub fn read_sets(path: &Path) -> Result<Vec<ContrastSet>, DriverError> {
    let (mut sets, mut rejected) = (Vec::new(), 0);
    for record in PairReader::open(path)? {
        let record = record?;
        if record.is_kept() {
            sets.push(contrast_set(&record)?);
        } else {
            rejected += 1;
        }
    }
    if sets.is_empty() {
        return Err(DriverError::NoPairs { path: path.to_owned(), rejected });
    }
    Ok(sets)
}

/// Trains `policy` on `sets`, or goes on where `job.state` and `job.metrics` say that an earlier process stopped.
/// Returns the metrics of the steps that this call took; the policy is left as the last step made it.
///
/// A query is one unit of the loss: each set's gradient is divided by the number of sets in its batch.
///
/// # Errors
///
/// What the policy or the objective refuses, files that cannot be written, and [`DriverError::Cancelled`].
pub fn train<P: TrainablePolicy>(
    policy: &mut P,
    sets: &mut dyn SetSource,
    job: &TrainJob<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<StepMetrics>, DriverError> {
    let (stage, total) = (Stage::Train, job.steps);
    let done = saved_step(&job.state)?.filter(|done| *done <= job.steps);
    if let Some(step) = done {
        tracing::info!(iteration = job.iteration, step, "training goes on from a saved state");
        policy.load_state(&step_dir(&job.state, step)).map_err(|e| Doing::LoadState.failed(e))?;
    }
    let done = done.unwrap_or(0);
    let mut lines = JsonlAppender::open_at(&job.metrics, done)?;
    observer.event(Event::StageBegun { stage, done, total });
    let mut taken = Vec::new();
    for step in done..job.steps {
        let positions = job.batches.step(step);
        let batch =
            positions.into_iter().map(|position| sets.set(position)).collect::<Result<Vec<_>, _>>()?;
        let metrics = optimizer_step(policy, &batch, step + 1, job)?;
        if metrics.update_kept < 0.5 {
            tracing::warn!(
                step = step + 1,
                kept = metrics.update_kept,
                "most of the update is lost to rounding"
            );
        }
        // The line comes before the state: a saved state always has its lines.
        lines.append(&MetricsLine::from(metrics))?;
        lines.sync()?;
        if job.save_state_every > 0 && (step + 1) % job.save_state_every == 0 && step + 1 < job.steps {
            policy.save_state(&step_dir(&job.state, step + 1)).map_err(|e| Doing::SaveState.failed(e))?;
            remove_older(&job.state, step + 1)?;
        }
        observer.event(Event::Step(&metrics));
        observer.event(Event::Progress { stage, done: step + 1, total });
        taken.push(metrics);
        if step + 1 < job.steps && observer.cancelled() {
            return Err(DriverError::Cancelled { stage, done: step + 1, total });
        }
    }
    Ok(taken)
}

/// Sums over a batch's sets, and what the step's line reports of them.
#[derive(Default)]
struct BatchSums {
    loss: f64,
    mi: [f64; 3],
    accuracy_row: f64,
    accuracy_col: f64,
    /// `None` before the first set, and where the policy keeps no reference.
    kl: Option<f64>,
    tokens: usize,
}

impl BatchSums {
    /// Adds one set, and returns ∂loss/∂sum_logps for it, undivided.
    fn add(
        &mut self,
        objective: &Objective,
        targets: &[usize],
        logps: &SetLogps,
    ) -> Result<Array2<f64>, sami_core::Error> {
        let matrix = logps.reduce(objective.reduction());
        let step = objective.loss_and_grad_with_targets(matrix.view(), targets)?;
        let mi = mutual_information_with_targets(logps.sum_logps.view(), targets)?;
        let seen = diagnostics_with_targets(matrix.view(), targets)?;
        self.loss += step.loss;
        for (sum, figure) in self.mi.iter_mut().zip([mi.constitutions, mi.responses, mi.two_sided]) {
            *sum += figure;
        }
        self.accuracy_row += seen.accuracy_row;
        self.accuracy_col += seen.accuracy_col;
        self.tokens += logps.tokens.sum();
        Ok(logps.gradient_in_sums(objective.reduction(), step.grad))
    }

    fn metrics(
        self,
        job: &TrainJob<'_>,
        step: usize,
        queries: usize,
        update: UpdateReport,
        seconds: f64,
    ) -> StepMetrics {
        let n = queries as f64;
        let [constitutions, responses, two_sided] = self.mi.map(|sum| sum / n);
        StepMetrics {
            iteration: job.iteration,
            step,
            loss: self.loss / n,
            mi: MiFigures { constitutions, responses, two_sided },
            accuracy_row: self.accuracy_row / n,
            accuracy_col: self.accuracy_col / n,
            grad_norm: update.grad_norm,
            kl: self.kl.map(|sum| sum / n),
            lr_factor: job.schedule.factor(step - 1, job.steps),
            update_norm: update.update_norm,
            update_kept: update.update_kept,
            fraction_changed: update.fraction_changed,
            queries,
            tokens: self.tokens,
            seconds,
            peak_memory: peak_memory(),
        }
    }
}

/// A line of `metrics.jsonl`: the step, and its main figures once more under the names that metric viewers group by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StepMetrics")]
pub struct MetricsLine {
    /// The step. Its fields stand in the line itself.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// [`StepMetrics::loss`].
    #[serde(rename = "train/loss")]
    pub loss: f64,
    /// [`StepMetrics::mi`], over constitutions.
    #[serde(rename = "train/mi")]
    pub mi: f64,
    /// [`StepMetrics::mi`], over responses.
    #[serde(rename = "train/mi_responses")]
    pub mi_responses: f64,
    /// [`StepMetrics::mi`], two-sided.
    #[serde(rename = "train/mi_two_sided")]
    pub mi_two_sided: f64,
    /// [`StepMetrics::accuracy_row`].
    #[serde(rename = "train/accuracy_row")]
    pub accuracy_row: f64,
    /// [`StepMetrics::accuracy_col`].
    #[serde(rename = "train/accuracy_col")]
    pub accuracy_col: f64,
    /// [`StepMetrics::grad_norm`].
    #[serde(rename = "train/grad_norm")]
    pub grad_norm: f64,
    /// [`StepMetrics::kl`].
    #[serde(rename = "train/kl", skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

impl From<StepMetrics> for MetricsLine {
    fn from(step: StepMetrics) -> Self {
        Self {
            step,
            loss: step.loss,
            mi: step.mi.constitutions,
            mi_responses: step.mi.responses,
            mi_two_sided: step.mi.two_sided,
            accuracy_row: step.accuracy_row,
            accuracy_col: step.accuracy_col,
            grad_norm: step.grad_norm,
            kl: step.kl,
        }
    }
}

fn optimizer_step<P: TrainablePolicy>(
    policy: &mut P,
    batch: &[ContrastSet],
    step: usize,
    job: &TrainJob<'_>,
) -> Result<StepMetrics, DriverError> {
    let begun = Instant::now();
    let n = batch.len() as f64;
    let mut sums = BatchSums::default();
    for part in batch.chunks(job.micro_batch.unwrap_or(batch.len()).max(1)) {
        let mut refused = None;
        // The KL is known only when the step has been taken back through the layers.
        let stepped = policy.contrast_step(part, &mut |index, logps| match sums.add(
            job.objective,
            &part[index].targets(),
            logps,
        ) {
            Ok(gradient) => Ok(SetGradient { sum_logps: gradient / n, kl: job.beta / n }),
            Err(error) => {
                refused = Some(part[index].id().to_owned());
                Err(error)
            }
        });
        let stepped = stepped.map_err(|error| match refused {
            Some(id) => DriverError::Objective { id, source: Box::new(error) },
            None => Doing::Gradient.failed(error),
        })?;
        for kl in stepped.iter().filter_map(|logps| logps.kl) {
            *sums.kl.get_or_insert_default() += kl;
        }
    }
    let factor = job.schedule.factor(step - 1, job.steps);
    let update = policy.optimizer_step(factor).map_err(|e| Doing::Update.failed(e))?;
    let metrics = sums.metrics(job, step, batch.len(), update, begun.elapsed().as_secs_f64());
    let iteration = job.iteration;
    check_finite(&metrics).map_err(|source| DriverError::Diverged { iteration, step, source })?;
    Ok(metrics)
}

/// What `/proc` says of this process's largest resident memory, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
