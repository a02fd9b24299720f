//! One self-contained page about a run, its figures as SVG and PNG, and its metrics for TensorBoard.
//!
//! [`write_report`] reads the run's directory and nothing else. What a run lacks is said in the page, not drawn empty.

mod chart;
mod collect;
mod figures;
mod page;
mod raster;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sami_data::{DataError, RunDir, atomic_write};
use serde::Serialize;
use thiserror::Error;

pub use chart::{Axis, Chart, Point, Rule, Series};
pub use collect::{Step, steps};
pub use raster::RasterError;

use crate::evaluation::EvaluationError;
use crate::tensorboard::{Scalars, write_events};

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// No run.
    #[error("{path} is no run: it has no recipe.toml; give the directory that `sami run` wrote", path = path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the run that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A line that this version does not write.
    #[error("{path}, line {line}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Pairs and scores that do not belong together.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The template and the page's data do not fit.
    #[error("the page cannot be written: {0}")]
    Page(#[from] minijinja::Error),
    /// A figure that cannot be turned into a picture.
    #[error(transparent)]
    Raster(#[from] RasterError),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// Figures, each as SVG and as PNG.
    pub figures: Vec<PathBuf>,
    /// TensorBoard's event files, one directory for each iteration.
    pub events: Vec<PathBuf>,
    /// What the run lacks, in words.
    pub missing: Vec<String>,
}

/// Writes `RUN/report.html`, `RUN/report/*.svg`, `RUN/report/*.png` and `RUN/tensorboard/iteration-η/`.
///
/// # Errors
///
/// [`ReportError`].
pub fn write_report(run: &RunDir) -> Result<Written, ReportError> {
    let collected = collect::collect(run)?;
    let figures = figures::figures(&collected);
    let name =
        run.root().file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
    let (html, missing) = page::page(&name, &collected, &figures)?;
    let page = run.report();
    atomic_write(&page, |file| file.write_all(html.as_bytes()))?;
    let mut written = Written { page, figures: Vec::new(), events: Vec::new(), missing };
    let dir = run.root().join("report");
    for chart in figures.evaluation.iter().chain(&figures.win_rates).chain(&figures.training) {
        let svg = chart.standalone();
        let png = raster::png(&chart.file, &svg)?;
        for (ending, bytes) in [("svg", svg.into_bytes()), ("png", png)] {
            let path = dir.join(format!("{}.{ending}", chart.file));
            atomic_write(&path, |file| file.write_all(&bytes))?;
            written.figures.push(path);
        }
    }
    for iteration in collected.iterations.iter().filter(|iteration| !iteration.steps.is_empty()) {
        let events = events(&iteration.steps, changed(&run.iteration(iteration.number).metrics()));
        let name = format!("iteration-{}", iteration.number);
        // TensorBoard reads every file with "tfevents" in its name.
        let path = run.root().join("tensorboard").join(&name).join("events.out.tfevents.0.sami");
        atomic_write(&path, |file| write_events(file, &events))?;
        written.events.push(path);
    }
    Ok(written)
}

/// When a file was last written, in seconds since 1970.
fn changed(path: &Path) -> f64 {
    let time = fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Steps as scalars under `train/`. The last step ended when the file was last written; the times before it follow from the
/// steps' own seconds.
fn events(steps: &[Step], ended: f64) -> Vec<Scalars> {
    let mut left: f64 = steps.iter().filter_map(|step| step.values.get("seconds")).sum();
    let event = |step: &Step| {
        left -= step.values.get("seconds").copied().unwrap_or(0.0);
        // Names that the line repeats for viewers would be there twice.
        let own = step.values.iter().filter(|(name, _)| !name.starts_with("train/"));
        let values = own.map(|(name, value)| (format!("train/{name}"), *value)).collect();
        Scalars { wall_time: ended - left.max(0.0), step: step.step as i64, values }
    };
    steps.iter().map(event).collect()
}

#[cfg(test)]
mod tests;
