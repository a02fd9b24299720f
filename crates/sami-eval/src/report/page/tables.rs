//! Figures as rows of tables.

use sami_core::Estimate;
use sami_data::RejectionCounts;
use serde::Serialize;

use super::super::collect::{Iteration, Model};
use crate::information::MiPoint;
use crate::win::{Comparison, Order, Ties};

#[derive(Serialize)]
pub(super) struct ModelRow {
    name: String,
    queries: String,
    mi: String,
    cap: String,
    tokens: String,
    leaks: String,
    distinct: String,
    /// Sets that the filters left out, by reason.
    rejected: String,
    sub: bool,
}

#[derive(Serialize)]
pub(super) struct ComparisonRow {
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
pub(super) struct SamplingRow {
    iteration: usize,
    sampled: usize,
    kept: usize,
    rejected: Vec<(String, usize)>,
    ends: String,
}

pub(super) fn signed(value: f64, digits: usize) -> String {
    format!("{value:+.digits$}").replace('-', "−")
}

fn shown(estimate: &Estimate, digits: usize) -> String {
    let number = |value: f64| format!("{value:.digits$}").replace('-', "−");
    match estimate.standard_error {
        Some(error) => format!("{} ± {}", number(estimate.mean), number(error)),
        None => number(estimate.mean),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

pub(super) fn model_rows(model: &Model) -> Vec<ModelRow> {
    let evaluation = &model.evaluation;
    let row = |name: String, point: &MiPoint, sub: bool| ModelRow {
        name,
        queries: if sub { point.mi.n.to_string() } else { format!("{} of {}", point.mi.n, evaluation.asked) },
        mi: shown(&point.mi.constitutions, 3),
        cap: format!("{:.3}", point.mi.cap),
        tokens: shown(&point.response_tokens, 1),
        leaks: evaluation.text.filter(|_| !sub).map_or(String::new(), |text| percent(text.leak_rate)),
        distinct: evaluation.text.filter(|_| !sub).map_or(String::new(), |text| percent(text.distinct)),
        rejected: if sub { String::new() } else { evaluation.rejected.to_string() },
        sub,
    };
    let name = if model.name == "iteration-0" { "iteration-0 (base)".to_owned() } else { model.name.clone() };
    let mut rows = vec![row(name, &evaluation.all, false)];
    rows.extend(evaluation.by_file.iter().map(|(file, point)| row(file.clone(), point, true)));
    rows
}

pub(super) fn comparison_row(one: &Comparison) -> ComparisonRow {
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

pub(super) fn sampling_row(iteration: &Iteration) -> Option<SamplingRow> {
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
