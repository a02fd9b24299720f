//! The page: what the template is given.

mod followed;
mod samples;
mod tables;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use self::followed::{Followed, followed};
use self::samples::{Samples, samples};
use self::tables::{ComparisonRow, ModelRow, SamplingRow, comparison_row, model_rows, percent, sampling_row};
use super::ReportError;
use super::chart::Chart;
use super::collect::{Collected, Iteration, Model};
use super::figures::Figures;

const TEMPLATE: &str = include_str!("../page.html.jinja");

#[derive(Serialize)]
struct Page<'a> {
    name: &'a str,
    /// The run in a few numbers.
    facts: Vec<Fact>,
    missing: &'a [String],
    evaluation: Vec<Figure>,
    win_rates: Vec<Figure>,
    training: Vec<Figure>,
    models: Vec<ModelRow>,
    comparisons: Vec<ComparisonRow>,
    sampling: Vec<SamplingRow>,
    samples: Samples,
    followed: Vec<Followed>,
    recipe: &'a str,
    version: &'static str,
}

/// As much of a recipe as a heading needs.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Serialize)]
struct Fact {
    value: String,
    label: String,
}

#[derive(Serialize)]
struct Figure {
    /// Markup of ours, whose texts are escaped.
    svg: String,
    note: String,
    png: String,
    plain_svg: String,
}

/// The page's HTML, and what the run lacks.
pub(crate) fn page(
    directory: &str,
    run: &Collected,
    figures: &Figures,
) -> Result<(String, Vec<String>), ReportError> {
    let samples = samples(run)?;
    let missing = missing(run, &samples);
    let figure = |charts: &[Chart]| {
        let one = |chart: &Chart| Figure {
            svg: chart.inline(),
            note: chart.note.clone(),
            png: format!("report/{}.png", chart.file),
            plain_svg: format!("report/{}.svg", chart.file),
        };
        charts.iter().map(one).collect()
    };
    let given = toml::from_str::<Named>(&run.recipe).map(|recipe| recipe.name).unwrap_or_default();
    let page = Page {
        name: if given.is_empty() { directory } else { &given },
        facts: facts(run),
        missing: &missing,
        evaluation: figure(&figures.evaluation),
        win_rates: figure(&figures.win_rates),
        training: figure(&figures.training),
        models: run.models.iter().flat_map(model_rows).collect(),
        comparisons: run.comparisons.iter().map(comparison_row).collect(),
        sampling: run.iterations.iter().filter_map(sampling_row).collect(),
        samples,
        followed: followed(run),
        recipe: &run.recipe,
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The name's ending turns escaping on.
    environment.add_template("page.html", TEMPLATE)?;
    Ok((environment.get_template("page.html")?.render(Serde(page))?, missing))
}

fn facts(run: &Collected) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |value: String, label: &str| facts.push(Fact { value, label: label.to_owned() });
    let finished = run.iterations.iter().filter(|iteration| iteration.has_checkpoint).count();
    fact(finished.to_string(), if finished == 1 { "iteration trained" } else { "iterations trained" });
    let trained: Vec<&Model> = run.models.iter().filter(|model| model.iteration.is_some()).collect();
    if let (Some(first), Some(last)) = (trained.first(), trained.last()) {
        let mi =
            |model: &Model| format!("{:.2}", model.evaluation.all.mi.constitutions.mean).replace('-', "−");
        let tokens = |model: &Model| format!("{:.0}", model.evaluation.all.response_tokens.mean);
        fact(format!("{} → {}", mi(first), mi(last)), "nats of mutual information");
        fact(format!("{} → {}", tokens(first), tokens(last)), "tokens per response");
    }
    let last = run.comparisons.iter().rfind(|comparison| comparison.baseline == "iteration-0");
    if let Some(last) = last {
        let (rate, kind) = match &last.corrected {
            Some(corrected) => (corrected.rate, "win rate against the base, length-corrected"),
            None => (last.uncorrected.rate, "win rate against the base, uncorrected"),
        };
        fact(percent(rate), kind);
    }
    facts
}

/// The first step of an iteration with figures that are not finite.
fn diverged(iteration: &Iteration) -> Option<String> {
    let step = iteration.steps.iter().find(|step| !step.not_finite.is_empty())?;
    // The names that metric viewers group by say the same once more.
    let names: Vec<_> = step.not_finite.iter().filter(|name| !name.starts_with("train/")).collect();
    let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let (iteration, step) = (iteration.number, step.step);
    Some(format!("Training diverged: iteration {iteration}, step {step} has no finite {names}."))
}

fn missing(run: &Collected, samples: &Samples) -> Vec<String> {
    let damaged = run.damaged.iter().map(|file| format!("Cannot be read: {file}."));
    let mut missing: Vec<String> = damaged.chain(run.iterations.iter().filter_map(diverged)).collect();
    let mut say = |text: &str| missing.push(text.to_owned());
    if run.iterations.iter().all(|iteration| iteration.steps.is_empty()) {
        say("No training curves: no iteration has metrics yet.");
    }
    let unfinished: Vec<String> = run
        .iterations
        .iter()
        .filter(|iteration| !iteration.has_checkpoint)
        .map(|iteration| iteration.number.to_string())
        .collect();
    if !unfinished.is_empty() {
        missing.push(format!("Iteration {} is not finished: it has no checkpoint.", unfinished.join(", ")));
    }
    let mut say = |text: &str| missing.push(text.to_owned());
    if run.models.is_empty() {
        say(
            "No mutual information and no lengths: no model has answered held-out queries. Run `sami eval mi` on this run.",
        );
    } else if !run.full_set {
        say(
            "The held-out queries met a sample of the constitutions, as in training; `sami eval mi` asks under all of them.",
        );
    }
    if !run.models.is_empty() && run.models.iter().all(|model| model.iteration.is_some()) {
        say("No reference model: `sami eval mi --instruct NAME=DIR` adds an instruct model's lines.");
    }
    if run.comparisons.is_empty() {
        say("No win rates: no judge has been asked. Run `sami eval win-rate` on this run.");
    }
    if samples.queries.is_empty() {
        say("No sample responses: nothing has been sampled yet.");
    }
    if run.models.iter().all(|model| model.evidence.is_empty()) {
        say("No word-by-word evidence: `sami eval mi` follows some responses.");
    }
    missing
}
