//! All that one file of verdicts says, as one value.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::judging::Order;
use super::paired::PairedChange;
use super::rates::{LengthCorrected, PositionCheck, RateError, Ties, WinRate};
use super::verdicts::JudgedContest;
use crate::statistics::{Bootstrap, Interval};

/// Who met whom, before whom, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The candidate, for example `iteration-2`.
    pub candidate: String,
    /// The baseline, for example `iteration-0` or an instruct model's name.
    pub baseline: String,
    /// The judge.
    pub judge: String,
    /// The constitution that all contests were about; `None` for every constitution that both models answered under.
    pub constitution: Option<String>,
    /// The order of showing; `None` where verdicts were read from a file that does not say.
    pub order: Option<Order>,
    /// What ties counted.
    pub ties: Ties,
    /// Over all contests.
    pub uncorrected: WinRate,
    /// Corrected for length; `None` where one stratum is empty.
    pub corrected: Option<LengthCorrected>,
    /// Whether the judge went by places.
    pub position: PositionCheck,
    /// Change from the model before it against the same baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<PairedChange>,
}

impl Comparison {
    /// Computes everything from judged contests.
    ///
    /// # Errors
    ///
    /// [`RateError::NoVerdict`]. An empty stratum is no error: the corrected rate is absent then.
    pub fn new(
        (candidate, baseline, judge): (&str, &str, &str),
        constitution: Option<&str>,
        order: Option<Order>,
        contests: &[JudgedContest],
        ties: Ties,
        bootstrap: Bootstrap,
    ) -> Result<Self, RateError> {
        Ok(Self {
            candidate: candidate.to_owned(),
            baseline: baseline.to_owned(),
            judge: judge.to_owned(),
            constitution: constitution.map(str::to_owned),
            order,
            ties,
            uncorrected: WinRate::new(contests, ties, bootstrap)?,
            corrected: LengthCorrected::new(contests, ties, bootstrap).ok(),
            position: PositionCheck::new(contests),
            change: None,
        })
    }
}

/// `[0.521, 0.640]`, or a dash.
struct Shown(Option<Interval>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Interval { low, high }) => write!(f, "[{low:.3}, {high:.3}]"),
            None => f.write_str("–"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = |error: Option<f64>| error.map_or(String::new(), |error| format!(" ± {error:.3}"));
        let about = self.constitution.as_deref().map_or(String::new(), |id| format!(", under {id}"));
        writeln!(f, "{} against {}{about}; judge {}", self.candidate, self.baseline, self.judge)?;
        let all = &self.uncorrected;
        writeln!(
            f,
            "  uncorrected       {:.3}{}  Wilson {}  bootstrap {}  ({} queries)",
            all.rate,
            error(all.standard_error),
            Shown(Some(all.wilson)),
            Shown(all.bootstrap),
            all.queries
        )?;
        match &self.corrected {
            Some(corrected) => writeln!(
                f,
                "  length-corrected  {:.3}{}  normal {}  bootstrap {}  (longer {:.3} of {}, shorter or equal {:.3} of {})",
                corrected.rate,
                error(corrected.standard_error),
                Shown(corrected.normal),
                Shown(corrected.bootstrap),
                corrected.longer.rate,
                corrected.longer.queries,
                corrected.shorter_or_equal.rate,
                corrected.shorter_or_equal.queries
            )?,
            None => writeln!(f, "  length-corrected  – (all candidates longer, or none)")?,
        }
        let tally = all.tally;
        write!(
            f,
            "  verdicts          {} won, {} lost, {} ties ({} contests of equal texts), {} without a verdict, {} failed; {} contests left out",
            tally.wins, tally.losses, tally.ties, all.identical, tally.unparsable, tally.failed, all.left_out
        )?;
        let PositionCheck { first, second, both_orders, consistent } = self.position;
        if first + second > 0 {
            let share = first as f64 / (first + second) as f64;
            write!(
                f,
                "\n  places            the first response was preferred in {share:.3} of {} verdicts",
                first + second
            )?;
        }
        if both_orders > 0 {
            write!(f, "; both orders agree in {consistent} of {both_orders} contests")?;
        }
        if let Some(change) = &self.change {
            write!(
                f,
                "\n  change            {:+.3}{} {} from the model before; better on {}, worse on {} queries, p = {:.3}",
                change.difference.mean,
                error(change.difference.standard_error),
                Shown(change.bootstrap),
                change.better,
                change.worse,
                change.p_value
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::{Outcome, Position};
    use super::*;

    #[test]
    fn a_comparison_says_what_it_leaves_out() {
        let contest = |id: usize, outcome| JudgedContest {
            id: id.to_string(),
            constitution: "kind".into(),
            outcomes: vec![(Position::A, outcome)],
            candidate_length: 5,
            baseline_length: 9,
            identical: false,
        };
        let outcomes = [Outcome::Win, Outcome::Win, Outcome::Loss, Outcome::Failed, Outcome::Unparsable];
        let contests: Vec<_> = outcomes.into_iter().enumerate().map(|(i, one)| contest(i, one)).collect();
        let names = ("iteration-1", "base", "oracle");
        let comparison =
            Comparison::new(names, Some("kind"), None, &contests, Ties::Half, Bootstrap::default()).unwrap();
        let text = comparison.to_string();
        let expected = [
            "iteration-1 against base, under kind; judge oracle",
            "uncorrected       0.667 ± 0.333  Wilson [0.208, 0.939]",
            "length-corrected  – (all candidates longer, or none)",
            "2 won, 1 lost, 0 ties (0 contests of equal texts), 1 without a verdict, 1 failed; 2 contests left out",
            "the first response was preferred in 0.667 of 3 verdicts",
        ];
        for line in expected {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let read: Comparison = serde_json::from_str(&serde_json::to_string(&comparison).unwrap()).unwrap();
        assert_eq!(read.candidate, "iteration-1");
        let none = Comparison::new(names, None, None, &contests[3..], Ties::Half, Bootstrap::default());
        assert!(matches!(none, Err(RateError::NoVerdict { .. })));
    }
}
