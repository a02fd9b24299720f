//! What a run has on disk, as far as a report shows it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sami_data::{Finish, LineReader, PairReader, PairRecord, RejectionCounts, RunDir};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ReportError;
use crate::evaluation::Evaluation;
use crate::evidence::Evidence;
use crate::win::Comparison;

/// One optimizer step: every number of its line of metrics, nested ones under `outer/inner`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// η, from 1.
    pub iteration: usize,
    /// From 1.
    pub step: usize,
    /// Names and values.
    pub values: BTreeMap<String, f64>,
    /// Numbers that were not finite: earlier versions wrote `null` in their place.
    pub not_finite: Vec<String>,
}

/// A training iteration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Iteration {
    pub(crate) number: usize,
    pub(crate) steps: Vec<Step>,
    /// `None` without a pairs file.
    pub(crate) pairs: Option<PairCounts>,
    pub(crate) has_checkpoint: bool,
}

/// What sampling came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct PairCounts {
    pub(crate) sampled: usize,
    pub(crate) kept: usize,
    pub(crate) rejected: RejectionCounts,
    pub(crate) eos: usize,
    pub(crate) stopped: usize,
    pub(crate) truncated: usize,
    /// The first kept sets, for samples where no evaluation has any.
    pub(crate) first: Vec<PairRecord>,
}

/// An evaluated model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// η; `None` for a reference.
    pub(crate) iteration: Option<usize>,
    pub(crate) evaluation: Evaluation,
    pub(crate) pairs: PathBuf,
    pub(crate) evidence: Vec<Evidence>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected {
    pub(crate) recipe: String,
    pub(crate) iterations: Vec<Iteration>,
    /// Iterations in their order, then references.
    pub(crate) models: Vec<Model>,
    /// Whether the models met every constitution of the task (`sami eval mi`), not a sample of them (the run's own evaluation).
    pub(crate) full_set: bool,
    pub(crate) comparisons: Vec<Comparison>,
    /// Files that could not be read, and why.
    pub(crate) damaged: Vec<String>,
}

/// Sets of an iteration that are kept for samples.
const FIRST: usize = 8;

pub(crate) fn collect(run: &RunDir) -> Result<Collected, ReportError> {
    let recipe = read(&run.recipe())?.ok_or_else(|| ReportError::NoRun { path: run.root().to_owned() })?;
    let mut iterations = Vec::new();
    for number in 1.. {
        let dir = run.iteration(number);
        if !dir.root().is_dir() {
            break;
        }
        let (pairs, metrics) = (dir.pairs(), dir.metrics());
        iterations.push(Iteration {
            number,
            steps: if metrics.is_file() { steps(&metrics)? } else { Vec::new() },
            pairs: if pairs.is_file() { Some(count(&pairs)?) } else { None },
            has_checkpoint: dir.checkpoint().is_dir(),
        });
    }
    let full = run.eval().join("mi");
    let mut models = models(&full)?;
    let full_set = !models.is_empty();
    if models.is_empty() {
        models = self::models(&run.eval())?;
    }
    let mut damaged = Vec::new();
    let path = run.eval().join("win-rate").join("summary.json");
    let comparisons = match read(&path)?.map(|text| parse(&path, 1, &text)) {
        Some(Ok(comparisons)) => comparisons,
        // The verdicts lie beside it: judging again asks for none of them.
        Some(Err(error)) => {
            damaged.push(format!("{error}; `sami eval win-rate` writes it anew"));
            Vec::new()
        }
        None => Vec::new(),
    };
    Ok(Collected { recipe, iterations, models, full_set, comparisons, damaged })
}

/// The text of a file; `None` where it is absent.
fn read(path: &Path) -> Result<Option<String>, ReportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io { path: path.to_owned(), source }),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, line: usize, text: &str) -> Result<T, ReportError> {
    serde_json::from_str(text).map_err(|source| ReportError::Json { path: path.to_owned(), line, source })
}

/// Every line of a JSONL file. A last line that is torn, as a running process may leave it, is left out.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    let mut values = Vec::new();
    let mut torn = None;
    for line in LineReader::open(path)? {
        if let Some(error) = torn.take() {
            return Err(error);
        }
        let line = line?;
        let text = line.text.map_err(|problem| sami_data::DataError::Line {
            path: path.to_owned(),
            line: line.number,
            problem,
        })?;
        match parse(path, line.number, &text) {
            Ok(value) => values.push(value),
            Err(error) => torn = Some(error),
        }
    }
    Ok(values)
}

/// The steps of a metrics file.
///
/// # Errors
///
/// [`ReportError::Data`] and [`ReportError::Json`], with the line.
pub fn steps(path: &Path) -> Result<Vec<Step>, ReportError> {
    let mut steps = Vec::new();
    for line in lines::<serde_json::Map<String, Value>>(path)? {
        let mut step = Step::default();
        for (name, value) in line {
            match (name.as_str(), &value) {
                ("iteration", Value::Number(number)) => {
                    step.iteration = number.as_u64().unwrap_or(0) as usize
                }
                ("step", Value::Number(number)) => step.step = number.as_u64().unwrap_or(0) as usize,
                (_, Value::Number(number)) => {
                    step.values.extend(number.as_f64().map(|number| (name, number)));
                }
                (_, Value::Object(inner)) => {
                    for (key, value) in inner {
                        let name = format!("{name}/{key}");
                        match value.as_f64() {
                            Some(number) => step.values.extend([(name, number)]),
                            None if value.is_null() => step.not_finite.push(name),
                            None => {}
                        }
                    }
                }
                (_, Value::Null) => step.not_finite.push(name),
                _ => {}
            }
        }
        steps.push(step);
    }
    Ok(steps)
}

fn count(path: &Path) -> Result<PairCounts, ReportError> {
    let mut counts = PairCounts::default();
    if fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Ok(counts);
    }
    for record in PairReader::open(path)? {
        let record = record?;
        counts.sampled += 1;
        counts.kept += usize::from(record.is_kept());
        counts.rejected.add(&record.rejected);
        for response in &record.responses {
            match response.finish {
                Some(Finish::Eos) => counts.eos += 1,
                Some(Finish::Stop) => counts.stopped += 1,
                Some(Finish::Length) => counts.truncated += 1,
                None => {}
            }
        }
        if counts.first.len() < FIRST && record.is_kept() {
            counts.first.push(record);
        }
    }
    Ok(counts)
}

/// Models whose pairs and scores lie in directories of `dir`.
fn models(dir: &Path) -> Result<Vec<Model>, ReportError> {
    let at = |source| ReportError::Io { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(at(source)),
    };
    let mut models = Vec::new();
    for entry in entries {
        let path = entry.map_err(at)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let [pairs, scores, evidence, summary] =
            ["pairs.jsonl", "scores.jsonl", "evidence.jsonl", "summary.json"].map(|name| path.join(name));
        // The summary comes last: without it the evaluation is under way.
        if summary.is_file() && pairs.is_file() && scores.is_file() {
            models.push(Model {
                iteration: name.strip_prefix("iteration-").and_then(|number| number.parse().ok()),
                name,
                evaluation: Evaluation::read(&pairs, &scores)?,
                evidence: if evidence.is_file() { lines(&evidence)? } else { Vec::new() },
                pairs,
            });
        }
    }
    models.sort_by_key(|model| (model.iteration.unwrap_or(usize::MAX), model.name.clone()));
    Ok(models)
}
