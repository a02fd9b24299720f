//! SAMI on summaries, from Rust: the embedded world's task in the shape of TL;DR.
//!
//! ```console
//! $ cargo run --release --example summaries
//! ```
//!
//! Posts tell five facts; principles ask for concise or lengthy, comprehensive or incomplete summaries. The recipe is
//! `recipes/sandbox/summaries.toml`; `hh_rlhf` shows the same on dialogue.
#![allow(clippy::print_stdout, missing_docs)]

mod support;

use std::path::PathBuf;

use clap::Parser;
use sami::driver::recipe::Recipe;
use sami::sandbox::Kind;
use support::{Outcome, demonstrate};

#[derive(Parser)]
#[command(about = "Three iterations of SAMI on the embedded world's summaries.")]
struct Args {
    /// Run directory; it begins anew each time.
    #[arg(long, default_value = "target/summaries")]
    out: PathBuf,
    /// Seed of the run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Posts of the exam.
    #[arg(long, default_value_t = 64)]
    exam: usize,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let recipe = Recipe { seed: args.seed, ..support::recipe("summaries")? };
    demonstrate(Kind::Summaries, recipe, &args.out, args.exam, "moon")
}
