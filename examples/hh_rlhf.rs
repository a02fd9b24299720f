//! SAMI on dialogue, from Rust: three iterations of Algorithm 1, and what each of them did.
//!
//! ```console
//! $ cargo run --release --example hh_rlhf
//! $ cargo run --release --example hh_rlhf -- --model DIR --data harmless-base.jsonl.gz --out RUN
//! ```
//!
//! Without arguments it runs on the embedded default: 256 queries, and a small model with random weights. That shows the
//! whole algorithm at work; what such a model says means nothing. With `--model` and `--data` it runs on yours, with the
//! paper's settings, and goes on where an earlier run in `--out` stopped.
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sami::data::{PairReader, StepMetrics};
use sami::driver::recipe::{Dtype, Recipe};
use sami::driver::{Driver, Event, Finished, Observer, ScoreSummary};
use sami::torch::{
    EngineOptions, OptimizerConfig, OptimizerKind, RandomCheckpoint, TorchProvider, random_checkpoint,
};

#[derive(Parser)]
#[command(about = "Three iterations of SAMI on dialogue; without arguments, on an embedded default.")]
struct Args {
    /// Hugging Face checkpoint directory of the base model.
    #[arg(long, requires = "data", requires = "out")]
    model: Option<PathBuf>,
    /// Queries in HH-RLHF's format, .jsonl or .jsonl.gz.
    #[arg(long, requires = "model")]
    data: Vec<PathBuf>,
    /// Run directory. The embedded default uses target/hh_rlhf, and begins anew each time.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let (recipe, out) = match (args.model, args.out) {
        (Some(model), Some(out)) => (paper(model, args.data), out),
        (_, out) => embedded(&out.unwrap_or_else(|| PathBuf::from("target/hh_rlhf")))?,
    };
    let recipe = recipe.check()?;
    let engine = EngineOptions {
        optimizer: OptimizerConfig::new(OptimizerKind::AdamW, recipe.training.learning_rate),
        dtype: if recipe.model.dtype == Dtype::F32 {
            sami::torch::Dtype::F32
        } else {
            sami::torch::Dtype::Bf16
        },
        ..EngineOptions::default()
    };
    let provider = TorchProvider::new(&recipe.model.base, engine)?;
    let driver = Driver::new(recipe, &out, provider)?;
    let report = driver.run(&mut Display::default(), &mut show_responses)?;
    table(&report.evaluations);
    if let Some(trained) = report.checkpoints.last() {
        println!("\nThe trained model is {}; transformers opens it.", trained.display());
    }
    Ok(())
}

/// The paper's Experiment 1 on the user's model and queries; every default of a recipe is the paper's.
fn paper(model: PathBuf, data: Vec<PathBuf>) -> Recipe {
    let mut recipe = Recipe { name: "HH-RLHF".into(), ..Recipe::default() };
    recipe.model.base = model;
    recipe.data.files = data;
    recipe.evaluation.queries = 250;
    recipe
}

/// A small random model and the embedded queries, written below `dir`.
fn embedded(dir: &Path) -> Result<(Recipe, PathBuf), Box<dyn Error>> {
    for part in ["run", "base"] {
        if dir.join(part).exists() {
            fs::remove_dir_all(dir.join(part))?;
        }
    }
    println!("making a small random model and 256 queries in {}", dir.display());
    let (base, queries) = (dir.join("base"), dir.join("queries.jsonl"));
    fs::create_dir_all(dir)?;
    fs::write(&queries, sami::sandbox::DIALOGUE_JSONL.split_inclusive('\n').take(256).collect::<String>())?;
    random_checkpoint(
        &base,
        &RandomCheckpoint { corpus: sami::sandbox::corpus::texts(2000, 0)?, ..RandomCheckpoint::default() },
    )?;

    let mut recipe = paper(base, vec![queries]);
    recipe.name = "embedded default".into();
    recipe.model.dtype = Dtype::F32;
    // A tenth of the paper's numbers, a learning rate for a small random model, and responses drawn at temperature 1.
    recipe.training.batch_size = 16;
    recipe.training.learning_rate = 1e-3;
    recipe.sampling.max_new_tokens = 32;
    recipe.sampling.temperature = 1.0;
    recipe.evaluation.queries = 32;
    Ok((recipe, dir.join("run")))
}

/// One bar per stage, one line per optimizer step.
#[derive(Default)]
struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.suspend(|| println!("{text}")),
            _ => println!("{text}"),
        }
    }
}

impl Observer for Display {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::IterationBegun { iteration: 0, .. } => println!("\nbase model"),
            Event::IterationBegun { iteration, iterations } => println!("\niteration {iteration} of {iterations}"),
            Event::StageBegun { stage, done, total } => {
                let style = ProgressStyle::with_template("  {prefix:<9} {bar:30} {pos}/{len}  left {eta}");
                let bar = ProgressBar::new(total as u64).with_position(done as u64).with_prefix(stage.to_string());
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.bar = Some(bar);
            }
            Event::Progress { done, total, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done as u64);
                    if done == total {
                        bar.finish_and_clear();
                    }
                }
            }
            Event::Step(StepMetrics { step, loss, mi, accuracy_row, accuracy_col, .. }) => self.line(&format!(
                "  step {step}: loss {loss:.4}; MI {:+.3} nats over constitutions, {:+.3} over responses, {:+.3} two-sided; \
                 accuracy {accuracy_row:.2} over responses, {accuracy_col:.2} over constitutions",
                mi.constitutions, mi.responses, mi.two_sided
            )),
            Event::Evaluated { summary, .. } => self.line(&format!(
                "  held-out queries: MI over constitutions {:.4} nats (at most {:.4}), loss {:.4}",
                summary.mi.constitutions.mean, summary.mi.cap, summary.loss.mean
            )),
            _ => {}
        }
    }
}

/// After each iteration: two of the responses that it was trained on, with what asked for them.
fn show_responses(finished: Finished<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
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

/// The shape of the paper's Figure 2: how mutual information and length move over the iterations.
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
