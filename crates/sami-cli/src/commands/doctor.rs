//! `sami doctor`: what this machine offers.

use crate::context::Context;
use crate::failure::Failure;

/// What this machine offers: LibTorch, threads, CUDA devices.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sami doctor --json")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, context: &Context) -> Result<(), Failure> {
    let environment = sami_torch::environment();
    context.result(&environment, &environment)
}
