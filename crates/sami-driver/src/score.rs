//! Contrast matrices of given pairs, and the mutual information in them.

use std::fmt;
use std::path::Path;

use ndarray::Array2;
use sami_core::{
    Estimate, MiAccumulator, MiEstimate, MutualInformation, Objective, diagnostics_with_targets,
    mutual_information_with_targets,
};
use sami_data::{JsonlAppender, MiFigures};
use sami_policy::{ContrastPolicy, ContrastSet, SetLogps};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, DriverError};
use crate::events::{Event, Observer, Stage};
use crate::files::whole_lines;

/// One query's contrast: one line of a score file. Matrices are `[constitution][response]`, in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetScore {
    /// The query.
    pub id: String,
    /// Mean log-probability per token.
    pub mean: Vec<Vec<f64>>,
    /// Summed log-probability.
    pub sum: Vec<Vec<f64>>,
    /// Tokens in each sum.
    pub tokens: Vec<Vec<usize>>,
    /// Two-sided loss of the means (the paper's training loss).
    pub loss: f64,
    /// Mutual information from the sums.
    pub mi: MiFigures,
}

/// What a scored file says as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSummary {
    /// Number of queries.
    pub queries: usize,
    /// Two-sided loss of the means.
    pub loss: Estimate,
    /// Mutual information from the sums, in nats, with its cap ln C.
    pub mi: MiEstimate,
    /// Share of constitutions whose own response is the likeliest of theirs, by means.
    pub accuracy_row: f64,
    /// Share of responses whose own constitution is the likeliest of theirs, by means.
    pub accuracy_col: f64,
    /// Tokens per response, over the responses under their own constitutions.
    pub response_tokens: f64,
}

impl fmt::Display for ScoreSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |estimate: &Estimate| match estimate.standard_error {
            Some(error) => format!("{:.4} ± {error:.4}", estimate.mean),
            None => format!("{:.4}", estimate.mean),
        };
        writeln!(f, "queries              {}", self.queries)?;
        writeln!(f, "loss                 {} (two-sided, mean per token)", shown(&self.loss))?;
        writeln!(
            f,
            "MI constitutions     {} nats, at most {:.4}",
            shown(&self.mi.constitutions),
            self.mi.cap
        )?;
        writeln!(f, "MI responses         {} nats", shown(&self.mi.responses))?;
        writeln!(f, "MI two-sided         {} nats", shown(&self.mi.two_sided))?;
        writeln!(
            f,
            "accuracy             {:.3} over responses, {:.3} over constitutions",
            self.accuracy_row, self.accuracy_col
        )?;
        write!(f, "tokens per response  {:.1}", self.response_tokens)
    }
}

/// One set's line.
fn set_score(set: &ContrastSet, logps: &SetLogps) -> Result<SetScore, sami_core::Error> {
    let objective = Objective::default();
    let (targets, mean) = (set.targets(), logps.reduce(objective.reduction()));
    let mi = mutual_information_with_targets(logps.sum_logps.view(), &targets)?;
    Ok(SetScore {
        id: set.id().to_owned(),
        loss: objective.loss_with_targets(mean.view(), &targets)?,
        mean: rows(&mean),
        sum: rows(&logps.sum_logps),
        tokens: rows(&logps.tokens),
        mi: MiFigures { constitutions: mi.constitutions, responses: mi.responses, two_sided: mi.two_sided },
    })
}

fn rows<T: Clone>(matrix: &Array2<T>) -> Vec<Vec<T>> {
    matrix.outer_iter().map(|row| row.to_vec()).collect()
}

fn matrix(rows: &[Vec<f64>]) -> Array2<f64> {
    let columns = rows.iter().map(Vec::len).min().unwrap_or(0);
    Array2::from_shape_fn((rows.len(), columns), |(row, column)| rows[row][column])
}

/// Mean and standard error of equally weighted values.
fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Estimate { mean, standard_error: (n > 1.0).then(|| (squares / (n - 1.0) / n).sqrt()) }
}

/// Sums that a summary is made of.
#[derive(Default)]
struct Totals {
    loss: Vec<f64>,
    mi: MiAccumulator,
    accuracy_row: f64,
    accuracy_col: f64,
    tokens: usize,
    responses: usize,
}

impl Totals {
    fn add(&mut self, targets: &[usize], score: &SetScore) -> Result<(), sami_core::Error> {
        let mean = matrix(&score.mean);
        let seen = diagnostics_with_targets(mean.view(), targets)?;
        self.loss.push(score.loss);
        let MiFigures { constitutions, responses, two_sided } = score.mi;
        let cap = (score.sum.len() as f64).ln();
        self.mi.push(&MutualInformation { constitutions, responses, two_sided, cap });
        self.accuracy_row += seen.accuracy_row;
        self.accuracy_col += seen.accuracy_col;
        let own = |(r, &c): (usize, &usize)| score.tokens.get(c).and_then(|row| row.get(r));
        self.tokens += targets.iter().enumerate().filter_map(own).sum::<usize>();
        self.responses += targets.len();
        Ok(())
    }

    fn finish(self) -> Option<ScoreSummary> {
        let n = self.loss.len() as f64;
        Some(ScoreSummary {
            queries: self.loss.len(),
            loss: estimate(&self.loss),
            mi: self.mi.finish()?,
            accuracy_row: self.accuracy_row / n,
            accuracy_col: self.accuracy_col / n,
            response_tokens: self.tokens as f64 / self.responses as f64,
        })
    }
}

/// Scores every set that `sets` yields, `chunk` at a time, and hands each score to `sink` in order. `total` is for
/// progress only.
///
/// # Errors
///
/// [`DriverError::NothingToScore`]; what `sets`, the policy, the objective (non-square or non-finite matrices, with the query) and `sink` refuse.
pub fn score<P: ContrastPolicy>(
    policy: &mut P,
    sets: impl Iterator<Item = Result<ContrastSet, DriverError>>,
    total: usize,
    chunk: usize,
    sink: &mut dyn FnMut(&SetScore) -> Result<(), DriverError>,
    observer: &mut dyn Observer,
) -> Result<ScoreSummary, DriverError> {
    let stage = Stage::Score;
    observer.event(Event::StageBegun { stage, done: 0, total });
    let mut totals = Totals::default();
    let mut sets = sets.peekable();
    while sets.peek().is_some() {
        let batch = sets.by_ref().take(chunk.max(1)).collect::<Result<Vec<_>, _>>()?;
        let logps = policy.score(&batch).map_err(|e| Doing::Score.failed(e))?;
        for (set, logps) in batch.iter().zip(&logps) {
            let refused = |source: sami_core::Error| DriverError::Objective {
                id: set.id().to_owned(),
                source: source.into(),
            };
            let score = set_score(set, logps).map_err(refused)?;
            totals.add(&set.targets(), &score).map_err(refused)?;
            sink(&score)?;
        }
        let done = totals.loss.len();
        observer.event(Event::Progress { stage, done, total });
        if sets.peek().is_some() && observer.cancelled() {
            return Err(DriverError::Cancelled { stage, done, total });
        }
    }
    totals.finish().ok_or(DriverError::NothingToScore)
}

/// A file of scores that grows, a line for each set, and goes on where an earlier call ended. Whole chunks are
/// kept: a model's numbers may depend on what it computes together.
#[derive(Debug)]
pub struct ScoreFile<'a> {
    sets: &'a [ContrastSet],
    chunk: usize,
    lines: JsonlAppender,
}

impl<'a> ScoreFile<'a> {
    /// Opens `out`, and keeps the whole chunks of `chunk` sets that an earlier call left there.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open(out: &Path, sets: &'a [ContrastSet], chunk: usize) -> Result<Self, DriverError> {
        let chunk = chunk.max(1);
        let lines = whole_lines::<SetScore>(out)?.take_while(Result::is_ok).count();
        let done = if lines >= sets.len() { sets.len() } else { lines - lines % chunk };
        Ok(Self { sets, chunk, lines: JsonlAppender::open_at(out, done)? })
    }

    /// Whether every set has its line, so that no model is needed.
    pub fn is_whole(&self) -> bool {
        self.lines.lines() == self.sets.len()
    }

    /// Scores the sets that have no line yet.
    ///
    /// # Errors
    ///
    /// As [`score`]; what was scored before stays.
    pub fn complete<P: ContrastPolicy>(
        mut self,
        policy: &mut P,
        observer: &mut dyn Observer,
    ) -> Result<(), DriverError> {
        if self.is_whole() {
            return Ok(());
        }
        let left = &self.sets[self.lines.lines()..];
        let mut sink = |one: &SetScore| Ok(self.lines.append(one)?);
        score(policy, left.iter().cloned().map(Ok), left.len(), self.chunk, &mut sink, observer)?;
        Ok(self.lines.sync()?)
    }
}

/// The summary of lines that were written earlier, for the sets that they belong to.
///
/// # Errors
///
/// Unreadable lines, lines of other sets, and [`DriverError::NothingToScore`].
pub(crate) fn summarize(path: &Path, sets: &[ContrastSet]) -> Result<ScoreSummary, DriverError> {
    let mut totals = Totals::default();
    for (index, (line, set)) in whole_lines::<SetScore>(path)?.zip(sets).enumerate() {
        let line = line?;
        if line.id != set.id() {
            let (path, expected) = (path.to_owned(), set.id().to_owned());
            return Err(DriverError::ForeignPair { path, line: index + 1, found: line.id, expected });
        }
        totals
            .add(&set.targets(), &line)
            .map_err(|source| DriverError::Objective { id: line.id.clone(), source: source.into() })?;
    }
    totals.finish().ok_or(DriverError::NothingToScore)
}
