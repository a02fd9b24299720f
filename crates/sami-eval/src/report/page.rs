//! The page: what the template is given.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use sami_core::Estimate;
use sami_data::{PairRecord, RejectionCounts, read_pairs};
use serde::{Deserialize, Serialize};

use super::ReportError;
use super::chart::{Chart, shortened};
use super::collect::{Collected, Model};
use super::figures::Figures;
use crate::evidence::Evidence;
use crate::information::MiPoint;
use crate::win::{Comparison, Order, Ties};

const TEMPLATE: &str = include_str!("page.html.jinja");
/// Queries whose responses are shown side by side.
const SAMPLES: usize = 6;
/// Nats of evidence in one word that give it the strongest colour.
const FULL_COLOUR: f64 = 2.0;
/// Shades on either side of "says nothing".
const SHADES: f64 = 5.0;

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

#[derive(Serialize)]
struct ModelRow {
    name: String,
    queries: String,
    mi: String,
    cap: String,
    tokens: String,
    leaks: String,
    distinct: String,
    sub: bool,
}

#[derive(Serialize)]
struct ComparisonRow {
    names: String,
    corrected: String,
    uncorrected: String,
    wilson: String,
    queries: usize,
    change: String,
    /// Judge, order, and what is in no rate.
    small_print: String,
}

#[derive(Serialize)]
struct SamplingRow {
    iteration: usize,
    sampled: usize,
    kept: usize,
    rejected: Vec<(String, usize)>,
    ends: String,
}

#[derive(Default, Serialize)]
struct Samples {
    /// Names of the models whose responses stand side by side.
    models: Vec<String>,
    /// Sets of training, where there is no evaluation.
    of_training: bool,
    queries: Vec<SampleQuery>,
}

#[derive(Serialize)]
struct SampleQuery {
    id: String,
    query: String,
    /// Its beginning, on one line.
    heading: String,
    rows: Vec<SampleRow>,
}

#[derive(Serialize)]
struct SampleRow {
    asked: String,
    constitution: String,
    /// One for each model; `None` where it has none.
    responses: Vec<Option<String>>,
}

#[derive(Serialize)]
struct Followed {
    model: String,
    id: String,
    heading: String,
    asked: String,
    constitution: String,
    /// The whole constitution first, then each principle.
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    total: String,
    words: Vec<Shaded>,
    rest: String,
}

#[derive(Serialize)]
struct Shaded {
    /// White space before it, which is left without colour.
    space: String,
    text: String,
    /// `n5` (against) to `p5` (for), or nothing.
    shade: String,
    nats: String,
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

fn signed(value: f64, digits: usize) -> String {
    format!("{value:+.digits$}").replace('-', "−")
}

fn shown(estimate: &Estimate, digits: usize) -> String {
    let number = |value: f64| format!("{value:.digits$}").replace('-', "−");
    match estimate.standard_error {
        Some(error) => format!("{} ± {}", number(estimate.mean), number(error)),
        None => number(estimate.mean),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
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

fn missing(run: &Collected, samples: &Samples) -> Vec<String> {
    let mut missing = Vec::new();
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
        say("No reference model: `sami eval mi --reference NAME=DIR` adds an instruct model's lines.");
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

fn model_rows(model: &Model) -> Vec<ModelRow> {
    let evaluation = &model.evaluation;
    let row = |name: String, point: &MiPoint, sub: bool| ModelRow {
        name,
        queries: if sub { point.mi.n.to_string() } else { format!("{} of {}", point.mi.n, evaluation.asked) },
        mi: shown(&point.mi.constitutions, 3),
        cap: format!("{:.3}", point.mi.cap),
        tokens: shown(&point.response_tokens, 1),
        leaks: evaluation.text.filter(|_| !sub).map_or(String::new(), |text| percent(text.leak_rate)),
        distinct: evaluation.text.filter(|_| !sub).map_or(String::new(), |text| percent(text.distinct)),
        sub,
    };
    let name = if model.name == "iteration-0" { "iteration-0 (base)".to_owned() } else { model.name.clone() };
    let mut rows = vec![row(name, &evaluation.all, false)];
    rows.extend(evaluation.by_file.iter().map(|(file, point)| row(file.clone(), point, true)));
    rows
}

fn comparison_row(one: &Comparison) -> ComparisonRow {
    let error = |error: Option<f64>| error.map_or(String::new(), |error| format!(" ± {error:.3}"));
    let all = &one.uncorrected;
    let (first, verdicts) = (one.position.first, one.position.first + one.position.second);
    let mut places = match &one.order {
        Some(Order::Both) => "both orders".to_owned(),
        Some(Order::Random { seed }) => format!("random order, seed {seed}"),
        None => "order not recorded".to_owned(),
    };
    if verdicts > 0 {
        places += &format!("; the first was preferred in {}", percent(first as f64 / verdicts as f64));
    }
    if one.position.both_orders > 0 {
        places += &format!("; orders agree in {} of {}", one.position.consistent, one.position.both_orders);
    }
    let counted = if one.ties == Ties::Half { "half" } else { "not at all" };
    ComparisonRow {
        names: format!("{} against {}", one.candidate, one.baseline),
        corrected: one
            .corrected
            .as_ref()
            .map_or("–".to_owned(), |found| format!("{:.3}{}", found.rate, error(found.standard_error))),
        uncorrected: format!("{:.3}{}", all.rate, error(all.standard_error)),
        wilson: format!("[{:.3}, {:.3}]", all.wilson.low, all.wilson.high),
        queries: all.queries,
        small_print: format!(
            "Judge {}; {places}; verdicts: {} won, {} lost, {} ties (counted {counted}), {} unreadable, {} failed",
            one.judge,
            all.tally.wins,
            all.tally.losses,
            all.tally.ties,
            all.tally.unparsable,
            all.tally.failed
        ),
        change: one.change.as_ref().map_or(String::new(), |change| {
            let p = change.p_value;
            let error = error(change.difference.standard_error);
            format!("{}{error}, p = {p:.3}", signed(change.difference.mean, 3))
        }),
    }
}

fn sampling_row(iteration: &super::collect::Iteration) -> Option<SamplingRow> {
    let pairs = iteration.pairs.as_ref()?;
    Some(SamplingRow {
        iteration: iteration.number,
        sampled: pairs.sampled,
        kept: pairs.kept,
        rejected: counts(&pairs.rejected),
        ends: format!(
            "{} ended by themselves, {} at a stop string, {} at the limit",
            pairs.eos, pairs.stopped, pairs.truncated
        ),
    })
}

fn counts(rejected: &RejectionCounts) -> Vec<(String, usize)> {
    rejected.iter().map(|(reason, count)| (reason.to_string(), count)).collect()
}

/// Responses of the base and of the last model to the same queries under the same constitutions; without an evaluation, the first
/// sets of the last iteration.
fn samples(run: &Collected) -> Result<Samples, ReportError> {
    let mut trained = run.models.iter().filter(|model| model.iteration.is_some());
    let (first, last) = (trained.next(), trained.next_back());
    let shown: Vec<&Model> = first.into_iter().chain(last).collect();
    if shown.is_empty() {
        let sets =
            run.iterations.iter().rev().filter_map(|iteration| iteration.pairs.as_ref().zip(Some(iteration)));
        let Some((pairs, iteration)) = sets.into_iter().find(|(pairs, _)| !pairs.first.is_empty()) else {
            return Ok(Samples::default());
        };
        let records: Vec<&PairRecord> = pairs.first.iter().take(SAMPLES).collect();
        let queries = records.into_iter().map(|record| sample(record, &[Some(record)])).collect();
        let models = vec![format!("sampled in iteration {}", iteration.number)];
        return Ok(Samples { models, of_training: true, queries });
    }
    let mut pairs = Vec::with_capacity(shown.len());
    for model in &shown {
        pairs.push(read_pairs(&model.pairs)?);
    }
    let Some(records) = pairs.first() else { return Ok(Samples::default()) };
    // Evenly spaced over the file, so that every file of queries is seen.
    let stride = (records.len() / SAMPLES).max(1);
    let queries = records.iter().step_by(stride).take(SAMPLES).map(|record| {
        let same: Vec<Option<&PairRecord>> =
            pairs.iter().map(|pairs| pairs.iter().find(|other| other.id == record.id)).collect();
        sample(record, &same)
    });
    let models = shown.iter().map(|model| match model.iteration {
        Some(0) => "base".to_owned(),
        _ => model.name.clone(),
    });
    Ok(Samples { models: models.collect(), of_training: false, queries: queries.collect() })
}

fn sample(record: &PairRecord, models: &[Option<&PairRecord>]) -> SampleQuery {
    let rows = record.constitutions.iter().map(|constitution| {
        let response = |record: &Option<&PairRecord>| {
            let record = (*record)?;
            let index = record.constitutions.iter().position(|other| other.id == constitution.id)?;
            let response = record.responses.iter().find(|response| response.constitution == index)?;
            Some(response.text.trim().to_owned())
        };
        SampleRow {
            asked: constitution.id.clone(),
            constitution: constitution.text.clone(),
            responses: models.iter().map(response).collect(),
        }
    });
    let heading = shortened(&record.query.replace('\n', " "), 160);
    SampleQuery { id: record.id.clone(), heading, query: record.query.clone(), rows: rows.collect() }
}

/// The followed responses of the last model that has any, and those of the base to the same queries before them.
fn followed(run: &Collected) -> Vec<Followed> {
    let with: Vec<&Model> =
        run.models.iter().filter(|model| model.iteration.is_some() && !model.evidence.is_empty()).collect();
    let Some(last) = with.last() else { return Vec::new() };
    let base = with.first().filter(|base| base.name != last.name);
    let mut followed = Vec::new();
    for evidence in &last.evidence {
        let before = base.and_then(|base| {
            let same = |other: &&Evidence| other.id == evidence.id && other.asked == evidence.asked;
            Some((base.name.as_str(), base.evidence.iter().find(same)?))
        });
        for (model, evidence) in before.into_iter().chain([(last.name.as_str(), evidence)]) {
            followed.push(follow(model, evidence));
        }
    }
    followed
}

fn follow(model: &str, evidence: &Evidence) -> Followed {
    let layer = |name: String, steps: Vec<f64>| Layer {
        name,
        total: signed(steps.iter().sum(), 2),
        words: evidence
            .words
            .iter()
            .zip(steps)
            .map(|(word, step)| {
                let text = word.text.trim_start();
                let space = word.text[..word.text.len() - text.len()].to_owned();
                Shaded { space, text: text.to_owned(), shade: shade(step), nats: signed(step, 2) }
            })
            .collect(),
        rest: evidence.rest.clone(),
    };
    let principles = evidence.principles();
    let mut layers = vec![layer("whole constitution".to_owned(), evidence.steps(None))];
    // With one principle, it is the whole constitution.
    if principles.len() > 1 {
        layers.extend(principles.iter().map(|one| layer(one.name.clone(), evidence.steps(Some(one)))));
    }
    let asked = evidence.constitutions.get(evidence.asked);
    Followed {
        model: if model == "iteration-0" { "base".to_owned() } else { model.to_owned() },
        id: evidence.id.clone(),
        heading: shortened(&evidence.query.replace('\n', " "), 120),
        asked: asked.map_or(String::new(), |one| one.id.clone()),
        constitution: asked.map_or(String::new(), |one| one.text.clone()),
        layers,
    }
}

/// `p1` to `p5` for evidence of what was asked, `n1` to `n5` against it; nothing for next to none.
fn shade(nats: f64) -> String {
    let strength = (nats.abs() / FULL_COLOUR * SHADES).round().min(SHADES);
    match strength {
        strength if strength < 1.0 || strength.is_nan() => String::new(),
        strength => format!("{}{strength:.0}", if nats > 0.0 { 'p' } else { 'n' }),
    }
}
