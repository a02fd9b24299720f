//! SAMI on dialogue, from Rust: three iterations of Algorithm 1, and what each of them did.
//!
//! ```console
//! $ cargo run --release --example hh_rlhf
//! $ cargo run --release --example hh_rlhf -- --model DIR --data harmless-base.jsonl.gz --out RUN
//! ```
//!
//! Without arguments it runs on the embedded world (`recipes/sandbox/dialogue.toml`): a small model that follows constitutions
//! a little learns to follow them, and an oracle says how well. With `--model` and `--data` it runs on yours, with the
//! paper's settings, and goes on where an earlier run in `--out` stopped.
#![allow(clippy::print_stdout, missing_docs)]

mod support;

use std::path::PathBuf;

use clap::Parser;
use sami::data::PairReader;
use sami::driver::recipe::Recipe;
use sami::driver::{Driver, Finished, ScoreSummary};
use sami::sandbox::Kind;
use sami::torch::TorchProvider;
use support::{Display, Outcome, demonstrate};

#[derive(Parser)]
#[command(about = "Three iterations of SAMI on dialogue; without arguments, on the embedded world.")]
struct Args {
    /// Hugging Face checkpoint directory of the base model.
    #[arg(long, requires = "data", requires = "out")]
    model: Option<PathBuf>,
    /// Queries in HH-RLHF's format, .jsonl or .jsonl.gz.
    #[arg(long, requires = "model")]
    data: Vec<PathBuf>,
    /// Run directory. The embedded world uses target/hh_rlhf, and begins anew each time.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Seed of the embedded world's run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Queries of the embedded world's exam.
    #[arg(long, default_value_t = 128)]
    exam: usize,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let (Some(model), Some(out)) = (args.model, &args.out) else {
        let recipe = Recipe { seed: args.seed, ..support::recipe("dialogue")? };
        let out = args.out.unwrap_or_else(|| PathBuf::from("target/hh_rlhf"));
        return demonstrate(Kind::Dialogue, recipe, &out, args.exam, "gnome");
    };
    let mut recipe = Recipe { name: "HH-RLHF".into(), ..Recipe::default() };
    recipe.model.base = model;
    recipe.data.files = args.data;
    recipe.evaluation.queries = 250;
    let recipe = recipe.check()?;
    let provider = TorchProvider::new(&recipe.model.base, sami::engine_options(&recipe))?;
    let driver = Driver::new(recipe, out, provider)?;
    let report = driver.run(&mut Display::default(), &mut show_responses)?;
    table(&report.evaluations);
    println!("\nThe trained model is {}; transformers opens it.", report.final_model.display());
    Ok(())
}

/// After each iteration: two of the responses that it was trained on, with what asked for them.
fn show_responses(finished: Finished<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(record) = PairReader::open(finished.pairs)?.find(|r| r.as_ref().map_or(true, |r| r.is_kept()))
    else {
        return Ok(());
    };
    let record = record?;
    println!("  {}", record.query);
    for response in &record.responses {
        let text: String = response.text.trim().chars().take(100).collect();
        println!("    {:<24} {text:?}", record.constitutions[response.constitution].id);
    }
    Ok(())
}

/// How mutual information and length move over the iterations.
fn table(evaluations: &[ScoreSummary]) {
    println!(
        "\nheld-out queries  MI over constitutions  over responses  two-sided  loss    accuracy   tokens"
    );
    for (iteration, summary) in evaluations.iter().enumerate() {
        let model = if iteration == 0 { "base model".to_owned() } else { format!("iteration {iteration}") };
        println!(
            "{model:<16}  {:>7.4} ± {:<11.4}  {:>14.3}  {:>9.3}  {:.4}  {:.2}/{:.2}  {:>6.1}",
            summary.mi.constitutions.mean,
            summary.mi.constitutions.standard_error.unwrap_or(f64::NAN),
            summary.mi.responses.mean,
            summary.mi.two_sided.mean,
            summary.loss.mean,
            summary.accuracy_row,
            summary.accuracy_col,
            summary.response_tokens
        );
    }
}
