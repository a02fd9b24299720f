//! `sami status`: how far a run is.

use std::path::PathBuf;

use sami_driver::RunStatus;

use crate::context::Context;
use crate::failure::Failure;

/// How far a run is, whether a process works on it, and its latest figures. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sami status runs/hh-rlhf")]
pub(crate) struct Args {
    /// The run directory.
    run: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let status = RunStatus::read(&args.run)?;
    context.result(&status, &status)
}
