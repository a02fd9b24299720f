//! `sami eval`: the paper's two evaluations.

mod judge;
mod mi;
mod win_rate;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use sami_data::RunDir;

use crate::context::Context;
use crate::failure::Failure;

/// The paper's two evaluations: mutual information, and win rates.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami eval mi runs/hh-rlhf\n  sami eval win-rate runs/hh-rlhf --server http://localhost:8000/v1 --server-model large"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Mi(mi::Args),
    // Boxed: it has many times the arguments.
    WinRate(Box<win_rate::Args>),
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.what {
        What::Mi(args) => mi::run(args, context),
        What::WinRate(args) => win_rate::run(args, context),
    }
}

/// Where `sami eval mi` keeps a model's answers and scores.
fn model_dir(run: &RunDir, name: &str) -> PathBuf {
    run.eval().join("mi").join(name)
}

/// Names of the models that have been evaluated, iterations first and in their order.
fn evaluated(run: &RunDir) -> Result<Vec<String>, Failure> {
    let dir = run.eval().join("mi");
    let io = |source| Failure::Io { path: dir.clone(), source };
    let mut names = Vec::new();
    match fs::read_dir(&dir) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(io)?.path();
                if path.join("pairs.jsonl").is_file() {
                    names.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(io(source)),
    }
    names.sort_by_key(|name| (iteration(name).unwrap_or(usize::MAX), name.clone()));
    Ok(names)
}

/// η of `iteration-η`.
fn iteration(name: &str) -> Option<usize> {
    name.strip_prefix("iteration-")?.parse().ok()
}

/// A run that is there.
fn existing(run: &Path) -> Result<RunDir, Failure> {
    let run = RunDir::new(run);
    let recipe = run.recipe();
    if recipe.is_file() {
        return Ok(run);
    }
    let source =
        std::io::Error::new(std::io::ErrorKind::NotFound, "no such file; give the directory of a run");
    Err(Failure::Io { path: recipe, source })
}
