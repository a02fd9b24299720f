//! Win rates: from verdicts to a rate, its interval, and the paper's correction for length.

use sami_policy::Verdict;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where the candidate's response stood when the judge saw it. Positions are shuffled against order effects
/// (paper, section 5), so a verdict says nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The candidate was response A.
    A,
    /// The candidate was response B.
    B,
}

/// What a verdict means for the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate's response follows the constitution better.
    Win,
    /// The baseline's does.
    Loss,
    /// Neither does.
    Tie,
    /// The judge answered without a verdict.
    Unparsable,
    /// The judge did not answer.
    Failed,
}

impl Outcome {
    /// Reads a verdict for a candidate that stood at `candidate`.
    pub fn new(verdict: &Verdict, candidate: Position) -> Self {
        match (verdict, candidate) {
            (Verdict::A, Position::A) | (Verdict::B, Position::B) => Self::Win,
            (Verdict::A, Position::B) | (Verdict::B, Position::A) => Self::Loss,
            (Verdict::Tie, _) => Self::Tie,
            (Verdict::Unparsable { .. }, _) => Self::Unparsable,
            (Verdict::Failed { .. }, _) => Self::Failed,
        }
    }
}

/// How many comparisons ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Won by the candidate.
    pub wins: usize,
    /// Won by the baseline.
    pub losses: usize,
    /// Won by neither.
    pub ties: usize,
    /// Answered without a verdict: in no rate, but never hidden.
    pub unparsable: usize,
    /// Not answered: in no rate, but never hidden.
    pub failed: usize,
}

impl FromIterator<Outcome> for Tally {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            *match outcome {
                Outcome::Win => &mut tally.wins,
                Outcome::Loss => &mut tally.losses,
                Outcome::Tie => &mut tally.ties,
                Outcome::Unparsable => &mut tally.unparsable,
                Outcome::Failed => &mut tally.failed,
            } += 1;
        }
        tally
    }
}

/// What a tie counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// Half a win.
    #[default]
    Half,
    /// Nothing: ties are left out of the rate.
    Excluded,
}

/// Why there is no rate.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum WinRateError {
    /// No comparison has a verdict that counts.
    #[error("no comparison counts: {tally:?}; look at the judge's answers")]
    NoVerdict {
        /// What there was instead.
        tally: Tally,
    },
    /// The length correction averages two strata, and one is empty.
    #[error(
        "no comparison with a verdict in which the candidate's response is {stratum}; \
         the length-corrected rate needs both strata, report the uncorrected one"
    )]
    EmptyStratum {
        /// "longer" or "shorter or equal".
        stratum: &'static str,
    },
    /// Not a confidence level's quantile.
    #[error("z is {0}; it must be a finite number above 0 (1.96 for 95%)")]
    Z(f64),
}

/// Quantile of the standard normal for intervals of 95%.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// A win rate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Share of wins, in [0, 1]; 0.5 is chance.
    pub rate: f64,
    /// Lower end of the Wilson score interval.
    pub low: f64,
    /// Upper end of the Wilson score interval.
    pub high: f64,
    /// Standard error √(p (1 − p) / n).
    pub standard_error: f64,
    /// Comparisons in the rate.
    pub n: usize,
    /// All comparisons, those outside the rate included.
    pub tally: Tally,
}

impl Tally {
    /// The win rate with its Wilson score interval at the normal quantile `z` ([`Z_95`]). With ties as halves the
    /// interval is the binomial one at the same rate, which is slightly too wide: a tie varies less than a coin.
    ///
    /// # Errors
    ///
    /// [`WinRateError::NoVerdict`] when nothing counts, [`WinRateError::Z`] for an impossible `z`.
    pub fn win_rate(self, ties: Ties, z: f64) -> Result<WinRate, WinRateError> {
        if !(z.is_finite() && z > 0.0) {
            return Err(WinRateError::Z(z));
        }
        let (won, n) = match ties {
            Ties::Half => (self.wins as f64 + 0.5 * self.ties as f64, self.wins + self.losses + self.ties),
            Ties::Excluded => (self.wins as f64, self.wins + self.losses),
        };
        if n == 0 {
            return Err(WinRateError::NoVerdict { tally: self });
        }
        let count = n as f64;
        let rate = won / count;
        let variance = rate * (1.0 - rate) / count;
        let shrink = 1.0 + z * z / count;
        let center = (rate + z * z / (2.0 * count)) / shrink;
        let half = z * (variance + z * z / (4.0 * count * count)).sqrt() / shrink;
        Ok(WinRate {
            rate,
            low: (center - half).max(0.0),
            high: (center + half).min(1.0),
            standard_error: variance.sqrt(),
            n,
            tally: self,
        })
    }
}

/// One judged comparison with the two responses' lengths, in whatever unit, the same for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What the verdict means for the candidate.
    pub outcome: Outcome,
    /// Length of the candidate's response.
    pub candidate_length: usize,
    /// Length of the baseline's response.
    pub baseline_length: usize,
}

/// The paper's length-corrected win rate (section 5, "Length Correction").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthCorrected {
    /// Mean of the two strata's rates: neither length can buy wins by being frequent.
    pub rate: f64,
    /// Standard error of that mean, ½ √(se₁² + se₂²).
    pub standard_error: f64,
    /// Where the candidate's response is longer.
    pub longer: WinRate,
    /// Where it is shorter or as long.
    pub shorter_or_equal: WinRate,
}

/// Splits comparisons by whether the candidate's response is longer than the baseline's, and averages the two rates.
///
/// # Errors
///
/// [`WinRateError::EmptyStratum`] when one stratum has no verdict that counts, [`WinRateError::Z`].
pub fn length_corrected(judged: &[Judged], ties: Ties, z: f64) -> Result<LengthCorrected, WinRateError> {
    let stratum = |longer: bool, name: &'static str| {
        let inside = judged.iter().filter(|one| (one.candidate_length > one.baseline_length) == longer);
        let tally: Tally = inside.map(|one| one.outcome).collect();
        tally.win_rate(ties, z).map_err(|error| match error {
            WinRateError::NoVerdict { .. } => WinRateError::EmptyStratum { stratum: name },
            other => other,
        })
    };
    let (longer, shorter_or_equal) = (stratum(true, "longer")?, stratum(false, "shorter or equal")?);
    let spread = longer.standard_error.hypot(shorter_or_equal.standard_error);
    Ok(LengthCorrected {
        rate: 0.5 * (longer.rate + shorter_or_equal.rate),
        standard_error: 0.5 * spread,
        longer,
        shorter_or_equal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn wilson_interval_has_the_textbook_values() {
        // 10 of 20: center .5, half-width z √(.25/20 + z²/1600) / (1 + z²/20) = .2007019.
        let tally = Tally { wins: 10, losses: 10, ..Tally::default() };
        let rate = tally.win_rate(Ties::Half, Z_95).unwrap();
        assert_eq!((rate.rate, rate.n), (0.5, 20));
        assert_abs_diff_eq!(rate.low, 0.299_298, epsilon = 1e-6);
        assert_abs_diff_eq!(rate.high, 0.700_702, epsilon = 1e-6);
        assert_abs_diff_eq!(rate.standard_error, 0.111_803, epsilon = 1e-6);
        // 0 of 10: [0, z²/(10 + z²)].
        let none = Tally { losses: 10, ..Tally::default() }.win_rate(Ties::Half, Z_95).unwrap();
        assert_eq!(none.low, 0.0);
        assert_abs_diff_eq!(none.high, 0.277_533, epsilon = 1e-6);
    }

    #[test]
    fn ties_count_half_or_not_and_failures_never() {
        let tally = Tally { wins: 3, losses: 1, ties: 4, unparsable: 5, failed: 6 };
        let half = tally.win_rate(Ties::Half, Z_95).unwrap();
        assert_eq!((half.rate, half.n), (0.625, 8));
        let without = tally.win_rate(Ties::Excluded, Z_95).unwrap();
        assert_eq!((without.rate, without.n), (0.75, 4));
        assert_eq!(without.tally, tally);
        let nothing = Tally { ties: 2, failed: 1, ..Tally::default() };
        assert_eq!(nothing.win_rate(Ties::Excluded, Z_95), Err(WinRateError::NoVerdict { tally: nothing }));
        assert_eq!(tally.win_rate(Ties::Half, 0.0), Err(WinRateError::Z(0.0)));
    }

    #[test]
    fn verdicts_are_read_through_the_position() {
        let unparsable = Verdict::Unparsable { answer: "both".into() };
        let failed = Verdict::Failed { reason: "timeout".into() };
        let seen: Vec<_> = [&Verdict::A, &Verdict::B, &Verdict::Tie, &unparsable, &failed]
            .map(|verdict| [Position::A, Position::B].map(|position| Outcome::new(verdict, position)))
            .concat();
        use Outcome::*;
        assert_eq!(seen, [Win, Loss, Loss, Win, Tie, Tie, Unparsable, Unparsable, Failed, Failed]);
    }

    fn judged(outcome: Outcome, candidate_length: usize) -> Judged {
        Judged { outcome, candidate_length, baseline_length: 10 }
    }

    #[test]
    fn length_correction_averages_the_strata_not_the_comparisons() {
        // Longer: 3 of 4. Shorter or equal: 0 of 1. Uncorrected 3/5, corrected 3/8.
        let longer = [Outcome::Win, Outcome::Win, Outcome::Win, Outcome::Loss].map(|o| judged(o, 11));
        let all = [longer.as_slice(), &[judged(Outcome::Loss, 10)]].concat();
        let corrected = length_corrected(&all, Ties::Half, Z_95).unwrap();
        assert_eq!((corrected.rate, corrected.longer.n, corrected.shorter_or_equal.n), (0.375, 4, 1));
        // ½ √(.75 · .25 / 4 + 0)
        assert_abs_diff_eq!(corrected.standard_error, 0.108_253, epsilon = 1e-6);
        let missing = length_corrected(&all[..4], Ties::Half, Z_95);
        assert_eq!(missing, Err(WinRateError::EmptyStratum { stratum: "shorter or equal" }));
        let unjudged = [judged(Outcome::Failed, 11), judged(Outcome::Win, 9)];
        assert_eq!(
            length_corrected(&unjudged, Ties::Half, Z_95),
            Err(WinRateError::EmptyStratum { stratum: "longer" })
        );
    }
}
