//! Two models against the same baseline.

use std::collections::HashMap;

use sami_core::Estimate;
use serde::{Deserialize, Serialize};

use super::rates::{Ties, by_query};
use super::verdicts::JudgedContest;
use crate::statistics::{Bootstrap, Interval, estimate, sign_test};

/// Change of the win rate from one model to another, on the queries that both were judged on against the same baseline. Queries
/// differ more than models do, so errors are those of the differences, query by query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedChange {
    /// Mean difference of scores, in [−1, 1]; above 0 the later model is better.
    pub difference: Estimate,
    /// Bootstrap percentile interval of 95% over queries.
    pub bootstrap: Option<Interval>,
    /// Queries on which the later model scores higher.
    pub better: usize,
    /// Queries on which it scores lower.
    pub worse: usize,
    /// Queries on which both score the same.
    pub same: usize,
    /// Exact two-sided sign test of `better` against `worse`.
    pub p_value: f64,
    /// Queries that only one of them has a verdict on: in no figure.
    pub unpaired: usize,
}

impl PairedChange {
    /// Compares `after` with `before`; `None` when they share no query with a verdict.
    pub fn new(
        before: &[JudgedContest],
        after: &[JudgedContest],
        ties: Ties,
        bootstrap: Bootstrap,
    ) -> Option<Self> {
        let earlier: HashMap<&str, f64> = by_query(before, ties).into_iter().collect();
        let later = by_query(after, ties);
        let differences: Vec<f64> =
            later.iter().filter_map(|(id, score)| Some(score - earlier.get(id)?)).collect();
        let count = |wanted: fn(&f64) -> bool| differences.iter().filter(|one| wanted(one)).count();
        let (better, worse) = (count(|difference| *difference > 0.0), count(|difference| *difference < 0.0));
        let drawn = |positions: &[usize]| {
            Some(positions.iter().map(|&i| differences[i]).sum::<f64>() / positions.len() as f64)
        };
        Some(Self {
            difference: estimate(differences.iter().copied())?,
            bootstrap: bootstrap.interval(differences.len(), drawn),
            better,
            worse,
            same: differences.len() - better - worse,
            p_value: sign_test(better, worse),
            unpaired: earlier.len() + later.len() - 2 * differences.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::{Outcome, Position};
    use super::*;
    use approx::assert_abs_diff_eq;

    fn judged(outcomes: &[(&str, Outcome)]) -> Vec<JudgedContest> {
        let one = |(id, outcome): &(&str, Outcome)| JudgedContest {
            id: (*id).to_owned(),
            constitution: "c".to_owned(),
            outcomes: vec![(Position::A, *outcome)],
            candidate_length: 1,
            baseline_length: 1,
            identical: false,
        };
        outcomes.iter().map(one).collect()
    }

    #[test]
    fn differences_are_taken_query_by_query() {
        use Outcome::*;
        let before = judged(&[("a", Loss), ("b", Win), ("c", Loss), ("d", Failed), ("e", Tie)]);
        let after = judged(&[("e", Tie), ("a", Win), ("b", Win), ("c", Tie), ("d", Win)]);
        let change = PairedChange::new(&before, &after, Ties::Half, Bootstrap::default()).unwrap();
        // e 0, a +1, b 0, c +.5: mean .375, s² = (.375² · 2 + .625² + .125²) / 3, s/√4 = .239357.
        assert_eq!(change.difference.mean, 0.375);
        assert_abs_diff_eq!(change.difference.standard_error.unwrap(), 0.239_357, epsilon = 1e-6);
        assert_eq!((change.better, change.worse, change.same, change.unpaired), (2, 0, 2, 1));
        assert_eq!(change.p_value, 0.5);
        assert!(change.bootstrap.unwrap().contains(0.375));
        let other = judged(&[("x", Win)]);
        assert_eq!(PairedChange::new(&before, &other, Ties::Half, Bootstrap::default()), None);
    }
}
