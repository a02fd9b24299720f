//! The figures of a report: which lines are drawn from what.

use std::collections::BTreeMap;

use sami_core::Estimate;

use super::chart::{Axis, Chart, Point, Rule, Series};
use super::collect::{Collected, Iteration, Model};
use crate::information::MiPoint;
use crate::win::Comparison;

/// Figures in groups, each with a heading.
pub(crate) struct Figures {
    pub(crate) evaluation: Vec<Chart>,
    pub(crate) win_rates: Vec<Chart>,
    pub(crate) training: Vec<Chart>,
}

pub(crate) fn figures(run: &Collected) -> Figures {
    let kept = |charts: Vec<Chart>| charts.into_iter().filter(|chart| !chart.is_empty()).collect();
    Figures {
        evaluation: kept(vec![
            information(&run.models),
            lengths(&run.models),
            principles(&run.models),
            text(&run.models),
        ]),
        win_rates: kept(win_rates(&run.comparisons)),
        training: kept(training(&run.iterations)),
    }
}

fn point(x: usize, estimate: &Estimate) -> Point {
    Point::new(x as f64, estimate.mean, estimate.standard_error)
}

/// One line over all queries, or one for each file of queries where there are several, as the paper draws helpful and harmless
/// apart.
fn by_file(models: &[Model], figure: impl Fn(&MiPoint) -> Estimate) -> Vec<Series> {
    let mut lines: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for model in models {
        let Some(iteration) = model.iteration else { continue };
        if model.evaluation.by_file.is_empty() {
            let at = point(iteration, &figure(&model.evaluation.all));
            lines.entry("held-out queries").or_default().push(at);
        }
        for (file, found) in &model.evaluation.by_file {
            lines.entry(file).or_default().push(point(iteration, &figure(found)));
        }
    }
    lines.into_iter().map(|(name, points)| Series { name: name.to_owned(), points }).collect()
}

fn references(models: &[Model], figure: impl Fn(&MiPoint) -> f64) -> Vec<Rule> {
    let references = models.iter().filter(|model| model.iteration.is_none());
    references.map(|model| Rule { y: figure(&model.evaluation.all), label: model.name.clone() }).collect()
}

fn information(models: &[Model]) -> Chart {
    let mut rules = references(models, |point| point.mi.constitutions.mean);
    // The cap only where it does not press the curve to the floor.
    let top = models.iter().map(|model| model.evaluation.all.mi.constitutions.mean).fold(0.0, f64::max);
    let cap = models.first().map(|model| model.evaluation.all.mi.cap);
    rules.extend(cap.filter(|cap| top > 0.3 * cap).map(|y| Rule { y, label: format!("cap {y:.3}") }));
    Chart {
        file: "mutual-information".into(),
        title: "Mutual information".into(),
        y_label: "nats".into(),
        x_axis: Axis::Iterations,
        series: by_file(models, |point| point.mi.constitutions),
        rules,
        most: None,
        note: match cap {
            Some(cap) => format!(
                "Estimate over constitutions, a lower bound in expectation; at most ln C = {cap:.3} nats. Bars: ± one standard \
                 error over queries. Iteration 0 is the base model."
            ),
            None => String::new(),
        },
    }
}

fn lengths(models: &[Model]) -> Chart {
    Chart {
        file: "response-length".into(),
        title: "Response length".into(),
        y_label: "tokens".into(),
        x_axis: Axis::Iterations,
        series: by_file(models, |point| point.response_tokens),
        rules: references(models, |point| point.response_tokens.mean),
        most: None,
        note: "Mean tokens per response; bars: ± one standard error over queries.".into(),
    }
}

fn principles(models: &[Model]) -> Chart {
    let mut lines: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for model in models {
        let Some(iteration) = model.iteration else { continue };
        for principle in &model.evaluation.principles {
            lines.entry(&principle.name).or_default().push(point(iteration, &principle.mi));
        }
    }
    Chart {
        file: "information-by-principle".into(),
        title: "Mutual information by principle".into(),
        y_label: "nats".into(),
        x_axis: Axis::Iterations,
        series: lines.into_iter().map(|(name, points)| Series { name: name.to_owned(), points }).collect(),
        rules: Vec::new(),
        most: None,
        note: "How much a response says about one principle's side alone; at most ln 2 = 0.693 nats.".into(),
    }
}

fn text(models: &[Model]) -> Chart {
    let line = |name: &str, figure: &dyn Fn(&Model) -> Option<f64>| {
        let points = models
            .iter()
            .filter_map(|model| Some(Point::new(model.iteration? as f64, 100.0 * figure(model)?, None)));
        Series { name: name.to_owned(), points: points.collect() }
    };
    let figures = |model: &Model| model.evaluation.text;
    let series = vec![
        line("leak the constitution", &|model| Some(figures(model)?.leak_rate)),
        line("distinct", &|model| Some(figures(model)?.distinct)),
        line("repeated words", &|model| Some(figures(model)?.repeated)),
        line("cut at the limit", &|model| figures(model)?.truncated),
    ];
    Chart {
        file: "text".into(),
        title: "What the text looks like".into(),
        y_label: "% of responses".into(),
        x_axis: Axis::Iterations,
        series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
        rules: Vec::new(),
        most: Some(100.0),
        note: "Mutual information stays high while text collapses; these do not. Repeated words: share of runs of three words \
               that a response has had before."
            .into(),
    }
}

/// One chart for each baseline and judge.
fn win_rates(comparisons: &[Comparison]) -> Vec<Chart> {
    // The base first, as in the paper.
    let mut groups: BTreeMap<(bool, &str, &str), Vec<&Comparison>> = BTreeMap::new();
    for comparison in comparisons {
        let (baseline, judge) = (comparison.baseline.as_str(), comparison.judge.as_str());
        groups.entry((baseline != "iteration-0", baseline, judge)).or_default().push(comparison);
    }
    let chart = |((_, baseline, judge), group): ((bool, &str, &str), Vec<&Comparison>)| {
        let [mut uncorrected, mut corrected] = [Vec::new(), Vec::new()];
        let base = baseline == "iteration-0";
        for one in &group {
            let Some(x) = one.candidate.strip_prefix("iteration-").and_then(|x| x.parse::<f64>().ok()) else {
                continue;
            };
            uncorrected.push(Point::new(x, one.uncorrected.rate, one.uncorrected.standard_error));
            if let Some(found) = &one.corrected {
                corrected.push(Point::new(x, found.rate, found.standard_error));
            }
        }
        let against = if base { "the base model" } else { baseline };
        let chance = "Bars: ± one standard error over queries. 0.5 is chance";
        Chart {
            file: format!("win-rate-against-{}", if base { "base" } else { baseline }),
            title: format!("Win rate against {against}"),
            y_label: "win rate".into(),
            x_axis: Axis::Iterations,
            series: [("length-corrected", corrected), ("uncorrected", uncorrected)]
                .into_iter()
                .filter(|(_, points)| !points.is_empty())
                .map(|(name, mut points)| {
                    // The base model against itself is chance by definition; drawn as in the paper.
                    if base {
                        points.insert(0, Point::new(0.0, 0.5, None));
                    }
                    Series { name: name.to_owned(), points }
                })
                .collect(),
            rules: vec![Rule { y: 0.5, label: "chance".into() }],
            most: Some(1.0),
            note: if base {
                format!("Judge: {judge}. {chance}, and iteration 0 stands there by definition.")
            } else {
                format!("Judge: {judge}. {chance}.")
            },
        }
    };
    groups.into_iter().map(chart).collect()
}

/// What training curves show: the metric's name, the title, the unit.
const CURVES: [(&[&str], &str, &str); 7] = [
    (&["loss"], "Loss", "nats"),
    (&["mi/constitutions"], "Mutual information in the batch", "nats"),
    (&["accuracy_col"], "Accuracy over constitutions", "share"),
    (&["accuracy_row"], "Accuracy over responses", "share"),
    (&["grad_norm"], "Gradient norm", "L2 norm"),
    (&["kl", "train/kl"], "KL to the base", "nats per token"),
    (&["update_kept"], "Share of the update kept by rounding", "share"),
];

fn training(iterations: &[Iteration]) -> Vec<Chart> {
    let chart = |(names, title, unit): (&[&str], &str, &str)| {
        let line = |iteration: &Iteration| {
            let points = iteration.steps.iter().filter_map(|step| {
                let value = names.iter().find_map(|name| step.values.get(*name))?;
                Some(Point::new(step.step as f64, *value, None))
            });
            Series { name: format!("iteration {}", iteration.number), points: points.collect() }
        };
        Chart {
            file: format!("training-{}", title.to_lowercase().replace(' ', "-")),
            title: title.to_owned(),
            y_label: unit.to_owned(),
            x_axis: Axis::Steps,
            series: iterations.iter().map(line).filter(|series| !series.points.is_empty()).collect(),
            rules: Vec::new(),
            most: (unit == "share").then_some(1.0),
            note: String::new(),
        }
    };
    CURVES.into_iter().map(chart).collect()
}
