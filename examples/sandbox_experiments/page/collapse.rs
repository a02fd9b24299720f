//! Which signal sees text fall apart, and which guard would have stopped a run in time.

use std::fmt::Write as _;

use sami::driver::recipe::GuardSection;
use sami::sandbox::exam::Marks;

use super::statistics::{pearson, ranks};
use super::trained;
use crate::Run;
use crate::support::Outcome;

/// A figure of one model.
type Signal = fn(&Marks) -> f64;

/// Signals that need no oracle, beside the oracle's rate of gibberish: the section, for all dialogue runs.
pub(super) fn collapse(page: &mut String, runs: &[Run]) -> Outcome<()> {
    let signals: [(&str, Signal); 7] = [
        ("MI over constitutions", |m| m.mi.constitutions.mean),
        ("KL to the base, nats per response", |m| m.kl.mean),
        ("KL to the base, nats per token", |m| m.kl.mean / m.tokens),
        ("−log π_base per token", |m| m.base_nats),
        ("entropy per token", |m| m.entropy),
        ("repeated runs of three words", |m| m.repetition),
        ("tokens", |m| m.tokens),
    ];
    let all: Vec<&Marks> = trained(runs).collect();
    let gibberish: Vec<f64> = all.iter().map(|m| m.gibberish).collect();
    let clean: Vec<&&Marks> = all.iter().filter(|m| m.gibberish <= 0.1).collect();
    let broken: Vec<&&Marks> = all.iter().filter(|m| m.gibberish > 0.2).collect();
    writeln!(
        page,
        "\n## Which signal sees text fall apart\n\nAll {} trained models of all dialogue runs and iterations. Rank correlation of signals that need no oracle with the oracle's rate of gibberish, and their ranges where at most 10% ({} models) and more than 20% ({} models) are gibberish.\n\n| signal | Spearman | at most 10% | more than 20% |\n|---|---|---|---|",
        all.len(),
        clean.len(),
        broken.len()
    )?;
    let range = |models: &[&&Marks], signal: fn(&Marks) -> f64| {
        let values = models.iter().map(|m| signal(m));
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if models.is_empty() { "none".to_owned() } else { format!("{low:.3} to {high:.3}") }
    };
    for (name, signal) in signals {
        let values: Vec<f64> = all.iter().map(|m| signal(m)).collect();
        writeln!(
            page,
            "| {name} | {:+.2} | {} | {} |",
            pearson(&ranks(&values), &ranks(&gibberish)),
            range(&clean, signal),
            range(&broken, signal)
        )?;
    }
    let leaks = all.iter().map(|m| m.leaks).fold(0.0, f64::max);
    writeln!(
        page,
        "\nCopying four words of the constitution into the answer never exceeded {:.1}% of answers.",
        100.0 * leaks
    )?;
    guards(page, runs)
}

/// What a guard looks at: the base's marks, then the model's.
type Watched = fn(&Marks, &Marks) -> f64;

/// More gibberish than this is a run that fell apart.
const BROKEN: f64 = 0.1;

/// For every guard the limit that would have told sound models from broken ones best, and what it would have done.
fn guards(page: &mut String, runs: &[Run]) -> Outcome<()> {
    let watched: [(&str, Watched); 6] = [
        ("`kl`: KL to the base, nats per token", |_, m| m.kl.mean / m.tokens),
        ("`surprise`: −log π_base per token, beyond the base's", |base, m| m.base_nats - base.base_nats),
        ("`entropy`: loss of entropy, nats per token", |base, m| base.entropy - m.entropy),
        ("`repetition`: beyond the base's", |base, m| m.repetition - base.repetition),
        ("`length`: ratio to the base's, or its inverse", |base, m| {
            (m.tokens / base.tokens).max(base.tokens / m.tokens)
        }),
        ("fall of the mutual information, nats", |base, m| {
            base.mi.constitutions.mean - m.mi.constitutions.mean
        }),
    ];
    let runs: Vec<&Run> = runs.iter().filter(|run| run.recipe != "summaries").collect();
    let broken = |m: &Marks| m.gibberish > BROKEN;
    let ends = runs.iter().filter(|run| run.marks.iter().any(broken)).count();
    writeln!(
        page,
        "\n### Which guard stops in time\n\nA guard ends a run at the first model that passes its limit, and keeps the one before. Of the {} runs, {ends} came to a model with more than {:.0}% gibberish. For each guard, the limit with the fewest mistakes on these runs (models let through although they are broken, and sound ones refused), and what it would have done with it. Chosen and counted on the same runs, so this is the best that each can do here.\n\n| guard | limit | broken runs stopped in time | sound models refused | worst gibberish kept |\n|---|---|---|---|---|",
        runs.len(),
        100.0 * BROKEN
    )?;
    for (name, watch) in watched {
        let verdict = |limit: f64| Verdict::of(&runs, watch, limit);
        let values = runs.iter().flat_map(|run| run.marks.iter().map(|m| watch(&run.marks[0], m)));
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        // Half-way between neighbours, so that the limit is as far as it can be from both.
        let limits = values.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).chain(values.last().copied());
        let best =
            limits.min_by(|a, b| verdict(*a).mistakes().cmp(&verdict(*b).mistakes()).then(b.total_cmp(a)));
        let Some(limit) = best else { continue };
        let Verdict { stopped, refused, sound, worst, .. } = verdict(limit);
        writeln!(
            page,
            "| {name} | {limit:.3} | {stopped} of {ends} | {refused} of {sound} | {:.1}% |",
            100.0 * worst
        )?;
    }
    let limit = GuardSection::default().kl;
    let Verdict { stopped, refused, worst, .. } = Verdict::of(&runs, watched[0].1, limit);
    writeln!(
        page,
        "\nThe default of `kl`, {limit} nats per token, leaves room for other models: here it stops {stopped} of {ends} in time, refuses {refused} sound models, and keeps at most {:.1}% gibberish. In a run, the guard reads the training responses; where these are greedy, their log-ratio to the base is larger than the KL of drawn answers that this table is made of: 0.088 to 0.093 instead of 0.020 to 0.025 for the second models of `dialogue.toml`.",
        100.0 * worst
    )?;
    Ok(())
}

/// What a guard with one limit does to all runs.
struct Verdict {
    /// Runs that it ends before a broken model is kept.
    stopped: usize,
    /// Runs in which it keeps one.
    missed: usize,
    /// Models that it refuses though they are not broken, and neither was any before.
    refused: usize,
    /// Models that are not broken.
    sound: usize,
    /// The most gibberish in a model that it keeps.
    worst: f64,
}

impl Verdict {
    fn of(runs: &[&Run], watch: Watched, limit: f64) -> Self {
        let mut verdict = Self { stopped: 0, missed: 0, refused: 0, sound: 0, worst: 0.0 };
        for run in runs {
            let (base, trained) = (&run.marks[0], &run.marks[1..]);
            let kept = trained.iter().take_while(|m| watch(base, m) <= limit).count();
            let whole = trained.iter().take_while(|m| m.gibberish <= BROKEN).count();
            verdict.worst = trained[..kept].iter().map(|m| m.gibberish).fold(verdict.worst, f64::max);
            verdict.sound += whole;
            verdict.refused += whole.saturating_sub(kept);
            verdict.missed += usize::from(kept > whole);
            verdict.stopped += usize::from(whole < trained.len() && kept <= whole);
        }
        verdict
    }

    fn mistakes(&self) -> usize {
        self.missed + self.refused
    }
}
