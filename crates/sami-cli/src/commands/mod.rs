//! One file per command: its arguments with an example, and `run`, which opens, calls and prints. A further command is a
//! file and three lines here.

mod completions;
mod doctor;
mod eval;
mod export;
mod generate;
mod inspect;
mod principles;
mod probe;
mod recipe;
mod report;
mod run;
mod sample;
mod score;
mod status;
mod train;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// What `sami` can do. Each variant's help stands with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::Args),
    Status(status::Args),
    Report(report::Args),
    Recipe(recipe::Args),
    Principles(Box<principles::Args>),
    Generate(Box<generate::Args>),
    Train(train::Args),
    Score(score::Args),
    Eval(eval::Args),
    Probe(probe::Args),
    Sample(sample::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl Command {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Run(args) => run::run(args, context),
            Self::Recipe(args) => recipe::run(args, context),
            Self::Principles(args) => principles::run(args, context),
            Self::Generate(args) => generate::run(args, context),
            Self::Train(args) => train::run(args, context),
            Self::Score(args) => score::run(args, context),
            Self::Eval(args) => eval::run(args, context),
            Self::Probe(args) => probe::run(args, context),
            Self::Report(args) => report::run(args, context),
            Self::Sample(args) => sample::run(args, context),
            Self::Inspect(args) => inspect::run(args, context),
            Self::Completions(args) => completions::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::Status(args) => status::run(args, context),
            Self::Doctor(args) => doctor::run(args, context),
        }
    }
}
