//! `sami report`: a page about a run.

use std::fmt;
use std::path::PathBuf;

use sami_data::RunDir;
use sami_eval::report::{Written, write_report};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;

/// One self-contained page about a run, its figures as SVG and PNG, and its metrics for TensorBoard.
///
/// Writes RUN/report.html, RUN/report/*.svg and *.png, and RUN/tensorboard. It shows what the run has: run `sami eval mi` and
/// `sami eval win-rate` before it, and again after them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami report runs/hh-rlhf\n  tensorboard --logdir runs/hh-rlhf/tensorboard"
)]
pub(crate) struct Args {
    /// The directory of a run.
    pub(crate) run: PathBuf,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown<'a>(&'a Written);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { page, figures, events, missing } = self.0;
        write!(f, "{}, {} figure files, {} event files", page.display(), figures.len(), events.len())?;
        missing.iter().try_for_each(|text| write!(f, "\n{text}"))
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let written = write_report(&RunDir::new(&args.run)).map_err(sami_eval::Error::from)?;
    context.result(&written, &Shown(&written))
}
