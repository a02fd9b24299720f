//! `sami eval win-rate`: whose responses follow the constitution better.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sami_data::{RunDir, atomic_write};
use sami_driver::{DriverError, recipe};
use sami_eval::statistics::Bootstrap;
use sami_eval::win::{
    Agreement, Answer, Comparison, JudgeJob, JudgedContest, Order, PairedChange, Ties, VerdictLine, group,
    pair_up, read_answers, read_verdicts,
};
use serde_json::json;

use super::judge::{Bench, JudgeArgs};
use super::{evaluated, existing, iteration, model_dir};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::write_line;
use crate::progress::interrupted;

/// Comparisons that go to the judge between two looks at progress and interrupts.
const CHUNK: usize = 32;

/// Win rates: which of two responses to a query follows the constitution better, in a judge's eyes.
///
/// With RUN, every iteration meets the base and every reference model that `sami eval mi` evaluated; verdicts and rates are
/// written to RUN/eval/win-rate. With --candidate and --baseline, two files of responses meet (pairs of ours, or the paper's
/// response files). With --verdicts alone, a file of verdicts is read. Verdicts that a file holds are never asked for again,
/// failed calls are.
#[derive(Debug, clap::Args)]
#[command(mut_arg("model", |arg| arg
    .required(false)
    .long("judge-model")
    .conflicts_with("server")
    .help("Ask a checkpoint: in its chat format if it has one, otherwise with a text to continue")))]
#[command(
    after_help = "Example:\n  sami eval win-rate runs/hh-rlhf --server https://example.org/v1 --server-model large --key-env JUDGE_KEY --answers judge.jsonl\n  \
    sami eval win-rate runs/hh-rlhf --judge-model mistral-7b-instruct\n  \
    sami eval win-rate --candidate trained.json --baseline base.json --judge sandbox --verdicts verdicts.jsonl\n  \
    sami eval win-rate --verdicts iteration-3.jsonl --before iteration-2.jsonl --other-judge people.jsonl"
)]
pub(crate) struct Args {
    /// The directory of a run whose models `sami eval mi` has evaluated.
    #[arg(conflicts_with_all = ["candidate", "baseline", "verdicts"])]
    pub(crate) run: Option<PathBuf>,
    /// Responses of the model to be judged.
    #[arg(long, value_name = "FILE", requires_all = ["baseline", "verdicts"])]
    pub(crate) candidate: Option<PathBuf>,
    /// Responses of the model that it is compared with.
    #[arg(long, value_name = "FILE", requires = "candidate")]
    pub(crate) baseline: Option<PathBuf>,
    /// The file of verdicts: written with --candidate, read without.
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    pub(crate) verdicts: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Only contests under this constitution, for example harmless+helpful; "all" for every one. Default with RUN: the one
    /// that takes every principle's own side, as in the paper; with files: all.
    #[arg(long, value_name = "ID")]
    pub(crate) constitution: Option<String>,
    /// In which order the judge sees two responses: both (twice the calls; no preference for a place survives) or random.
    #[arg(long, default_value = "both")]
    pub(crate) order: OrderKind,
    /// Seed of random orders and of bootstrap draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// What a tie counts: half a win, or nothing.
    #[arg(long, default_value = "half")]
    pub(crate) ties: TiesKind,
    /// Verdicts about an earlier model against the same baseline: adds the change from it, query by query.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub(crate) before: Option<PathBuf>,
    /// Another judge's verdicts about the same contests: adds how far the two agree.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub(crate) other_judge: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderKind {
    Both,
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TiesKind {
    Half,
    Excluded,
}

impl Args {
    fn order(&self) -> Order {
        match self.order {
            OrderKind::Both => Order::Both,
            OrderKind::Random => Order::Random { seed: self.seed },
        }
    }

    fn ties(&self) -> Ties {
        match self.ties {
            TiesKind::Half => Ties::Half,
            TiesKind::Excluded => Ties::Excluded,
        }
    }

    fn bootstrap(&self) -> Bootstrap {
        Bootstrap { seed: self.seed, ..Bootstrap::default() }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let comparisons = match (&args.run, &args.verdicts) {
        (Some(run), _) => of_run(args, &existing(run)?, context)?,
        (None, Some(verdicts)) if args.candidate.is_some() => vec![of_responses(args, verdicts, context)?],
        (None, Some(verdicts)) => vec![of_verdicts(args, verdicts)?],
        (None, None) => {
            let reason = "give a run, or --verdicts FILE".to_owned();
            return Err(Failure::Argument { argument: "--verdicts", reason });
        }
    };
    let agreement = match (&args.other_judge, &args.verdicts) {
        (Some(other), Some(own)) => {
            let agreement = Agreement::new(&verdicts(own)?, &verdicts(other)?);
            let reason = format!("{} shares no verdict with {}", other.display(), own.display());
            Some(agreement.ok_or(Failure::Argument { argument: "--other-judge", reason })?)
        }
        _ => None,
    };
    let mut text: Vec<String> = comparisons.iter().map(Comparison::to_string).collect();
    if let Some(Agreement { share, wilson, kappa, showings, left_out }) = &agreement {
        let kappa = kappa.map_or("–".to_owned(), |kappa| format!("{kappa:.3}"));
        text.push(format!(
            "judges agree in {share:.3} [{:.3}, {:.3}] of {showings} verdicts, \u{3ba} {kappa}; {left_out} left out",
            wilson.low, wilson.high
        ));
    }
    context.result(&json!({"comparisons": comparisons, "agreement": agreement}), &text.join("\n\n"))
}

fn verdicts(path: &Path) -> Result<Vec<VerdictLine>, Failure> {
    Ok(read_verdicts(path).map_err(sami_eval::Error::from)?)
}

fn answers(path: &Path) -> Result<Vec<Answer>, Failure> {
    Ok(read_answers(path).map_err(sami_eval::Error::from)?)
}

/// Two models and their responses.
struct Meeting<'a> {
    candidate: (&'a str, &'a [Answer]),
    baseline: (&'a str, &'a [Answer]),
    /// The constitution; `None` for all.
    only: Option<&'a str>,
}

impl Meeting<'_> {
    /// Asks for the verdicts that `out` does not hold yet, and computes the rates.
    fn judge(
        &self,
        args: &Args,
        bench: &mut Bench,
        out: &Path,
        context: &Context,
    ) -> Result<(Comparison, Vec<JudgedContest>), Failure> {
        let pairing =
            pair_up(self.candidate.1, self.baseline.1, self.only).map_err(sami_eval::Error::from)?;
        let unpaired = pairing.candidate_only + pairing.baseline_only;
        if unpaired > 0 {
            context.say(&format!("{unpaired} responses have no counterpart and are left out"));
        }
        let order = args.order();
        let job = JudgeJob { contests: &pairing.contests, order, judge: &bench.name, chunk: CHUNK, out };
        let mut progress = context.progress();
        let mut begun = false;
        let verdicts = job.run(bench.judge.as_mut(), &mut |done, total| {
            if !std::mem::replace(&mut begun, true) {
                progress.begin("judge", done, total);
            }
            progress.advance("judge", done, total);
            !interrupted()
        });
        progress.end();
        let contests = group(&verdicts.map_err(sami_eval::Error::from)?);
        let judge = bench.full_name();
        let names = (self.candidate.0, self.baseline.0, judge.as_str());
        let (ties, bootstrap) = (args.ties(), args.bootstrap());
        let comparison = Comparison::new(names, self.only, Some(order), &contests, ties, bootstrap)
            .map_err(sami_eval::Error::from)?;
        Ok((comparison, contests))
    }
}

/// Every iteration against the base and every reference model.
fn of_run(args: &Args, run: &RunDir, context: &Context) -> Result<Vec<Comparison>, Failure> {
    let names = evaluated(run)?;
    if !names.iter().any(|name| name == "iteration-0") {
        let reason = "no model of this run has been evaluated; run `sami eval mi` first".to_owned();
        return Err(Failure::Argument { argument: "RUN", reason });
    }
    let mut models = Vec::with_capacity(names.len());
    for name in &names {
        models.push((name.as_str(), answers(&model_dir(run, name).join("pairs.jsonl"))?));
    }
    let wanted = match args.constitution.as_deref() {
        Some("all") => None,
        Some(id) => Some(id.to_owned()),
        None => models
            .iter()
            .flat_map(|(_, answers)| answers)
            .find_map(|answer| all_principles(&answer.constitution)),
    };
    let own_task = recipe::load(&run.recipe()).map_err(DriverError::from)?.task.load()?;
    let mut bench = args.judge.open(Some(own_task))?;
    let dir = run.eval().join("win-rate");
    let mut comparisons = Vec::new();
    let baselines = models.iter().filter(|(name, _)| *name == "iteration-0" || iteration(name).is_none());
    for (baseline, against) in baselines {
        let mut before: Option<Vec<JudgedContest>> = None;
        for (candidate, responses) in models.iter().filter(|(name, _)| iteration(name).is_some()) {
            if candidate == baseline {
                continue;
            }
            let out = dir.join(format!("{candidate}-against-{baseline}.jsonl"));
            let meeting = Meeting {
                candidate: (candidate, responses),
                baseline: (baseline, against),
                only: wanted.as_deref(),
            };
            let (mut comparison, contests) = meeting.judge(args, &mut bench, &out, context)?;
            let earlier = before.replace(contests);
            comparison.change = earlier
                .zip(before.as_ref())
                .and_then(|(earlier, now)| PairedChange::new(&earlier, now, args.ties(), args.bootstrap()));
            comparisons.push(comparison);
        }
    }
    if comparisons.is_empty() {
        let reason = "there is nothing to compare: only one model has been evaluated".to_owned();
        return Err(Failure::Argument { argument: "RUN", reason });
    }
    bench.say_usage(context);
    atomic_write(&dir.join("summary.json"), |file| write_line(file, &comparisons))?;
    Ok(comparisons)
}

/// The constitution that takes every principle's own side, from the id of any constitution.
fn all_principles(id: &str) -> Option<String> {
    let mut labels: Vec<&str> =
        id.split('+').map(|label| label.strip_prefix("not-").unwrap_or(label)).collect();
    labels.sort_unstable();
    (!id.is_empty()).then(|| labels.join("+"))
}

/// Two files of responses.
fn of_responses(args: &Args, out: &Path, context: &Context) -> Result<Comparison, Failure> {
    let (Some(candidate), Some(baseline)) = (&args.candidate, &args.baseline) else {
        let reason = "a candidate needs a baseline to be compared with".to_owned();
        return Err(Failure::Argument { argument: "--baseline", reason });
    };
    let (name, other) = (candidate.display().to_string(), baseline.display().to_string());
    let (responses, against) = (answers(candidate)?, answers(baseline)?);
    let only = args.constitution.as_deref().filter(|id| *id != "all");
    let meeting = Meeting { candidate: (&name, &responses), baseline: (&other, &against), only };
    let mut bench = args.judge.open(None)?;
    let (comparison, contests) = meeting.judge(args, &mut bench, out, context)?;
    bench.say_usage(context);
    with_change(args, comparison, &contests)
}

/// A file of verdicts.
fn of_verdicts(args: &Args, file: &Path) -> Result<Comparison, Failure> {
    let only = args.constitution.as_deref().filter(|id| *id != "all");
    let contests = of(&verdicts(file)?, only);
    let name = file.display().to_string();
    let names = (name.as_str(), "its baseline", "as recorded");
    let comparison = Comparison::new(names, only, None, &contests, args.ties(), args.bootstrap())
        .map_err(sami_eval::Error::from)?;
    with_change(args, comparison, &contests)
}

fn of(verdicts: &[VerdictLine], only: Option<&str>) -> Vec<JudgedContest> {
    let mut contests = group(verdicts);
    contests.retain(|contest| only.is_none_or(|id| id == contest.constitution));
    contests
}

fn with_change(
    args: &Args,
    mut comparison: Comparison,
    contests: &[JudgedContest],
) -> Result<Comparison, Failure> {
    if let Some(before) = &args.before {
        let only = comparison.constitution.as_deref();
        let earlier = of(&verdicts(before)?, only);
        let change = PairedChange::new(&earlier, contests, args.ties(), args.bootstrap());
        let reason = format!("{} shares no judged query with the verdicts at hand", before.display());
        comparison.change = Some(change.ok_or(Failure::Argument { argument: "--before", reason })?);
    }
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_desired_constitution_follows_from_any() {
        assert_eq!(all_principles("helpful+not-harmless").as_deref(), Some("harmless+helpful"));
        assert_eq!(all_principles("not-brief").as_deref(), Some("brief"));
        assert_eq!(all_principles(""), None);
    }
}
