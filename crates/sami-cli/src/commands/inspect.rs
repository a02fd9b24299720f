//! `sami inspect`: what a checkpoint is.

use std::path::PathBuf;

use crate::context::Context;
use crate::failure::Failure;

/// What a checkpoint is: architecture, size, tokenizer. Checks every tensor's name, shape and dtype.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sami inspect mistral-7b")]
pub(crate) struct Args {
    /// Hugging Face checkpoint directory.
    pub(crate) model: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let summary = sami_torch::inspect(&args.model)?;
    context.result(&summary, &summary)
}
