//! From verdicts to rates.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::verdicts::{JudgedContest, Outcome, Position, Tally};
use crate::statistics::{Bootstrap, Interval, Z_95, estimate, wilson};

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

/// The two halves of the length correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stratum {
    /// The candidate's response is longer than the baseline's.
    Longer,
    /// It is shorter, or as long.
    ShorterOrEqual,
}

impl Stratum {
    /// Where a contest belongs.
    pub fn of(contest: &JudgedContest) -> Self {
        if contest.candidate_length > contest.baseline_length { Self::Longer } else { Self::ShorterOrEqual }
    }
}

impl fmt::Display for Stratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Longer => "longer",
            Self::ShorterOrEqual => "shorter or equal",
        })
    }
}

/// Why there is no rate.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RateError {
    /// No contest has a verdict that counts.
    #[error(
        "no contest counts: {} wins, {} losses, {} ties, {} answers without a verdict, {} failed calls; look at the judge's \
         answers in the verdict file",
        tally.wins, tally.losses, tally.ties, tally.unparsable, tally.failed
    )]
    NoVerdict {
        /// What there was instead.
        tally: Tally,
    },
    /// The length correction averages two strata, and one is empty.
    #[error(
        "no contest with a verdict in which the candidate's response is {stratum}; the length-corrected rate needs both \
         strata, report the uncorrected one"
    )]
    EmptyStratum {
        /// Which.
        stratum: Stratum,
    },
}

/// A win rate. The unit is the query: contests of one query (several constitutions) are averaged first, and so are the verdicts
/// of one contest (both orders). A contest counts when all of its showings have a verdict: one that failed on one side
/// would bring the judge's preference for a place back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Mean over queries, in [0, 1]; 0.5 is chance.
    pub rate: f64,
    /// Sample standard deviation over √n: the paper's ± SEM. `None` for a single query.
    pub standard_error: Option<f64>,
    /// Wilson score interval of 95% over queries.
    pub wilson: Interval,
    /// Bootstrap percentile interval of 95% over queries.
    pub bootstrap: Option<Interval>,
    /// Queries in the rate.
    pub queries: usize,
    /// Contests in the rate.
    pub contests: usize,
    /// Contests that are not: a verdict is missing, or (with [`Ties::Excluded`]) they were all ties.
    pub left_out: usize,
    /// Contests whose two responses are the same text; they are ties.
    pub identical: usize,
    /// All verdicts, those outside the rate included.
    pub tally: Tally,
}

/// Score of a contest for the candidate, in [0, 1]; `None` when it does not count.
pub(crate) fn score(contest: &JudgedContest, ties: Ties) -> Option<f64> {
    let mut scores = Vec::with_capacity(contest.outcomes.len());
    for (_, outcome) in &contest.outcomes {
        match outcome {
            Outcome::Win => scores.push(1.0),
            Outcome::Loss => scores.push(0.0),
            Outcome::Tie if ties == Ties::Half => scores.push(0.5),
            Outcome::Tie => {}
            Outcome::Unparsable | Outcome::Failed => return None,
        }
    }
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

/// Mean score per query, in order of first appearance; queries without a contest that counts are absent.
pub(crate) fn by_query<'a>(
    contests: impl IntoIterator<Item = &'a JudgedContest>,
    ties: Ties,
) -> Vec<(&'a str, f64)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut sums: Vec<(&str, f64, f64)> = Vec::new();
    for contest in contests {
        if let Some(score) = score(contest, ties) {
            let place = *places.entry(&contest.id).or_insert_with(|| {
                sums.push((&contest.id, 0.0, 0.0));
                sums.len() - 1
            });
            sums[place].1 += score;
            sums[place].2 += 1.0;
        }
    }
    sums.into_iter().map(|(id, sum, n)| (id, sum / n)).collect()
}

impl WinRate {
    /// The rate over all contests.
    ///
    /// # Errors
    ///
    /// [`RateError::NoVerdict`].
    pub fn new(contests: &[JudgedContest], ties: Ties, bootstrap: Bootstrap) -> Result<Self, RateError> {
        Self::of(&contests.iter().collect::<Vec<_>>(), ties, bootstrap)
    }

    fn of(contests: &[&JudgedContest], ties: Ties, bootstrap: Bootstrap) -> Result<Self, RateError> {
        let tally: Tally =
            contests.iter().flat_map(|contest| &contest.outcomes).map(|(_, outcome)| *outcome).collect();
        let scores: Vec<f64> =
            by_query(contests.iter().copied(), ties).into_iter().map(|(_, score)| score).collect();
        let (Some(found), Some(interval)) =
            (estimate(scores.iter().copied()), wilson(mean(&scores), scores.len()))
        else {
            return Err(RateError::NoVerdict { tally });
        };
        let counted = contests.iter().filter(|contest| score(contest, ties).is_some()).count();
        let drawn = |positions: &[usize]| {
            Some(positions.iter().map(|&position| scores[position]).sum::<f64>() / positions.len() as f64)
        };
        Ok(Self {
            rate: found.mean,
            standard_error: found.standard_error,
            wilson: interval,
            bootstrap: bootstrap.interval(scores.len(), drawn),
            queries: scores.len(),
            contests: counted,
            left_out: contests.len() - counted,
            identical: contests.iter().filter(|contest| contest.identical).count(),
            tally,
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The paper's length-corrected win rate (section 5, "Length Correction"): a judge that likes long responses cannot be won over
/// by being long often.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthCorrected {
    /// Mean of the two strata's rates, however many contests each has.
    pub rate: f64,
    /// ½ √(se₁² + se₂²); `None` where a stratum has a single query.
    pub standard_error: Option<f64>,
    /// rate ± 1.96 standard errors, cut to [0, 1].
    pub normal: Option<Interval>,
    /// Bootstrap percentile interval of 95% over queries, which are drawn before they are divided into strata.
    pub bootstrap: Option<Interval>,
    /// Where the candidate's response is longer.
    pub longer: WinRate,
    /// Where it is shorter or as long.
    pub shorter_or_equal: WinRate,
}

impl LengthCorrected {
    /// Divides contests by whether the candidate's response is longer than the baseline's, and averages the two rates.
    ///
    /// # Errors
    ///
    /// [`RateError::EmptyStratum`] when one stratum has no contest that counts.
    pub fn new(contests: &[JudgedContest], ties: Ties, bootstrap: Bootstrap) -> Result<Self, RateError> {
        let stratum = |stratum: Stratum| {
            let inside: Vec<_> = contests.iter().filter(|one| Stratum::of(one) == stratum).collect();
            let rate = WinRate::of(&inside, ties, bootstrap);
            let rate = rate.map_err(|_| RateError::EmptyStratum { stratum })?;
            Ok((rate, by_query(inside, ties)))
        };
        let (longer, long_scores) = stratum(Stratum::Longer)?;
        let (shorter_or_equal, short_scores) = stratum(Stratum::ShorterOrEqual)?;
        let rate = 0.5 * (longer.rate + shorter_or_equal.rate);
        let standard_error = longer
            .standard_error
            .zip(shorter_or_equal.standard_error)
            .map(|(one, other)| 0.5 * one.hypot(other));
        let normal = standard_error.map(|error| Interval {
            low: (rate - Z_95 * error).max(0.0),
            high: (rate + Z_95 * error).min(1.0),
        });
        // A query may have contests in both strata, and is drawn once for both.
        let mut queries: Vec<[Option<f64>; 2]> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (side, scores) in [long_scores, short_scores].into_iter().enumerate() {
            for (id, score) in scores {
                let place = *places.entry(id).or_insert_with(|| {
                    queries.push([None; 2]);
                    queries.len() - 1
                });
                queries[place][side] = Some(score);
            }
        }
        let drawn = |positions: &[usize]| {
            let side = |side: usize| {
                let (mut sum, mut n) = (0.0, 0.0);
                for score in positions.iter().filter_map(|&position| queries[position][side]) {
                    sum += score;
                    n += 1.0;
                }
                (n > 0.0).then(|| sum / n)
            };
            Some(0.5 * (side(0)? + side(1)?))
        };
        let bootstrap = bootstrap.interval(queries.len(), drawn);
        Ok(Self { rate, standard_error, normal, bootstrap, longer, shorter_or_equal })
    }
}

/// Whether the judge went by places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionCheck {
    /// Verdicts for whatever was shown first.
    pub first: usize,
    /// Verdicts for whatever was shown second.
    pub second: usize,
    /// Contests that were shown in both orders and have both verdicts.
    pub both_orders: usize,
    /// Those in which both orders led to the same outcome.
    pub consistent: usize,
}

impl PositionCheck {
    /// Counts; identical responses, which no judge saw, are left out.
    pub fn new(contests: &[JudgedContest]) -> Self {
        let mut check = Self::default();
        for contest in contests.iter().filter(|contest| !contest.identical) {
            for (position, outcome) in &contest.outcomes {
                match (outcome, position) {
                    (Outcome::Win, Position::A) | (Outcome::Loss, Position::B) => check.first += 1,
                    (Outcome::Win, Position::B) | (Outcome::Loss, Position::A) => check.second += 1,
                    (Outcome::Tie | Outcome::Unparsable | Outcome::Failed, _) => {}
                }
            }
            if let [(_, one), (_, other)] = contest.outcomes[..]
                && one.is_verdict()
                && other.is_verdict()
            {
                check.both_orders += 1;
                check.consistent += usize::from(one == other);
            }
        }
        check
    }
}

#[cfg(test)]
mod tests;
