//! What the examples share: a run of a recipe on the embedded world with an exam after every iteration, and how it is shown.
#![allow(dead_code, reason = "every example uses its own part")]

use std::error::Error;
use std::fs;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use sami::constitution::PrincipleSet;
use sami::data::StepMetrics;
use sami::driver::recipe::{Recipe, ValidRecipe, load};
use sami::driver::{Driver, Event, Observer, RunReport};
use sami::policy::{SamplingParams, SamplingParamsBuilder, Start};
use sami::sandbox::exam::{Answers, Exam, Marks};
use sami::sandbox::{Examiner, Kind, exam_queries};
use sami::torch::{EngineOptions, TorchProvider};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A shipped recipe, by its name below `recipes/sandbox`.
pub(crate) fn recipe(name: &str) -> Outcome<Recipe> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sandbox").join(name).with_extension("toml");
    Ok(Recipe::clone(&*load(&path)?))
}

/// The engine for a model this small: nothing is computed twice, and many responses grow side by side.
pub(crate) fn engine(recipe: &ValidRecipe) -> EngineOptions {
    EngineOptions {
        recompute: false,
        token_budget: Some(8192),
        generation_batch: 256,
        ..sami::engine_options(recipe)
    }
}

/// How answers of an exam are sampled: as the mutual information needs it.
pub(crate) fn exam_params(kind: Kind) -> Outcome<SamplingParams> {
    let max_new_tokens = match kind {
        Kind::Dialogue => 80,
        Kind::Summaries => 136,
    };
    Ok(SamplingParamsBuilder { max_new_tokens, temperature: 1.0, ..Default::default() }.check()?)
}

/// An exam over the first `queries` held-out queries.
pub(crate) fn exam(kind: Kind, principles: &PrincipleSet, queries: usize, seed: u64) -> Outcome<Exam> {
    let texts = exam_queries(kind);
    Ok(Exam::new(kind, principles, texts.iter().take(queries).map(String::as_str), seed)?)
}

/// Runs a recipe in `out`, and hands every model to `examine`: π_0 first.
pub(crate) fn run(
    recipe: ValidRecipe,
    out: &Path,
    observer: &mut dyn Observer,
    examine: &mut dyn FnMut(usize, Start<'_>) -> Outcome<()>,
) -> Outcome<RunReport> {
    let provider = TorchProvider::new(&recipe.model.base, engine(&recipe))?;
    let driver = Driver::new(recipe, out, provider)?;
    examine(0, Start::Base)?;
    Ok(driver.run(observer, &mut |finished| {
        examine(finished.iteration, Start::Checkpoint(finished.checkpoint))
            .map_err(|error| error.to_string().into())
    })?)
}

/// The demonstration: a recipe on the embedded world, the table of the paper's Figure 2, and answers before and after.
pub(crate) fn demonstrate(
    kind: Kind,
    recipe: Recipe,
    out: &Path,
    queries: usize,
    shown: &str,
) -> Outcome<()> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    let principles = match &recipe.constitutions.principles {
        Some(file) => PrincipleSet::load(file)?,
        None => PrincipleSet::helpful_harmless(),
    };
    let recipe = recipe.check()?;
    println!(
        "{}: {} iterations of SAMI on a model of 0.7 million parameters",
        recipe.name, recipe.training.iterations
    );
    let provider = TorchProvider::new(&recipe.model.base, engine(&recipe))?;
    let examiner =
        Examiner::new(exam(kind, &principles, queries, recipe.seed)?, exam_params(kind)?, &provider)?;
    let mut rows: Vec<Marks> = Vec::new();
    let mut answered: Vec<Answers> = Vec::new();
    let report = run(recipe, out, &mut Display::default(), &mut |iteration, model| {
        let (answers, marks) = examiner.examine(model)?;
        if iteration > 0 {
            println!("  exam: {}", line(&marks));
        }
        rows.push(marks);
        answered.push(answers);
        Ok(())
    })?;
    // A guard may have ended the run after an iteration that no longer counts.
    rows.truncate(report.last + 1);
    table(&rows, queries);
    if let Some(answers) = answered.get(report.last) {
        side_by_side(examiner.exam(), examiner.base_answers(), answers, shown);
    }
    println!("\nThe trained model is {}; transformers opens it.", report.final_model.display());
    Ok(())
}

fn line(marks: &Marks) -> String {
    format!(
        "MI {:.2} of {:.2} nats, win rate {:.1}% against the base, {:.1}% gibberish",
        marks.mi.constitutions.mean,
        marks.mi.cap,
        100.0 * marks.win_rate.rate,
        100.0 * marks.gibberish
    )
}

/// The shape of the paper's Figure 2, and beside it what mutual information does not see.
pub(crate) fn table(rows: &[Marks], queries: usize) {
    let per_query = rows.first().map_or(0, |marks| marks.win_rate.contests / queries.max(1));
    println!(
        "\n{queries} held-out queries under all {per_query} constitutions; nats per response, ± standard error, 95% intervals"
    );
    println!(
        "{:<12} {:>15} {:>14} {:>14} {:>20} {:>8} {:>7} {:>10} {:>9} {:>12}",
        "model",
        "MI constitut.",
        "MI responses",
        "MI two-sided",
        "win rate",
        "follows",
        "tokens",
        "gibberish",
        "off topic",
        "KL to base"
    );
    for (iteration, marks) in rows.iter().enumerate() {
        let model = if iteration == 0 { "base".to_owned() } else { format!("iteration {iteration}") };
        let shown = |one: &sami::core::Estimate| {
            format!("{:.2} ± {:.2}", one.mean, one.standard_error.unwrap_or(f64::NAN))
        };
        let rate = &marks.win_rate;
        println!(
            "{model:<12} {:>15} {:>14} {:>14} {:>20} {:>7.0}% {:>7.1} {:>9.1}% {:>8.1}% {:>12}",
            shown(&marks.mi.constitutions),
            shown(&marks.mi.responses),
            shown(&marks.mi.two_sided),
            format!(
                "{:.1}% [{:.1}, {:.1}]",
                100.0 * rate.rate,
                100.0 * rate.wilson.low,
                100.0 * rate.wilson.high
            ),
            100.0 * marks.follows,
            marks.tokens,
            100.0 * marks.gibberish,
            100.0 * marks.off_topic,
            shown(&marks.kl)
        );
    }
}

/// One query under every constitution: what the base says and what the last model says, from independent random streams.
fn side_by_side(exam: &Exam, base: &Answers, model: &Answers, shown: &str) {
    let all = || exam.asked().zip(base.samples().iter().zip(model.samples()));
    // The first query that holds the word, or the first one.
    let query = all().map(|((query, _), _)| query).find(|query| query.contains(shown));
    let Some(query) = query.or_else(|| exam.asked().next().map(|(query, _)| query)) else { return };
    println!("\n{query}");
    for ((_, constitution), (before, after)) in all().filter(|((other, _), _)| *other == query) {
        println!();
        constitution.articles().iter().for_each(|article| println!("  · {}", article.text));
        println!("    before {}", before.text.trim());
        println!("    after  {}", after.text.trim());
    }
}

/// One bar per stage, one line per optimizer step.
#[derive(Default)]
pub(crate) struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    pub(crate) fn line(&self, text: &str) {
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
            Event::Collapsed(report) => self.line(&format!("  warning: {report}")),
            Event::Evaluated { summary, .. } => self.line(&format!(
                "  held-out queries: MI over constitutions {:.4} nats (at most {:.4}), loss {:.4}",
                summary.mi.constitutions.mean, summary.mi.cap, summary.loss.mean
            )),
            _ => {}
        }
    }
}
