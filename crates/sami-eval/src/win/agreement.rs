//! Two judges on the same contests.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::verdicts::{Outcome, VerdictLine};
use crate::statistics::{Interval, wilson};

/// How far two judges agree on the showings that both gave a verdict on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Share of showings with the same verdict.
    pub share: f64,
    /// Its Wilson interval of 95%, over showings.
    pub wilson: Interval,
    /// Cohen's κ (1960): the share beyond what two judges with these habits share by chance. `None` where chance alone gives
    /// full agreement.
    pub kappa: Option<f64>,
    /// Showings with both verdicts.
    pub showings: usize,
    /// Showings that one judge did not see, or gave no verdict on: in no figure.
    pub left_out: usize,
}

impl Agreement {
    /// Compares two verdict files; `None` when no showing (query, constitution and order) has a verdict in both.
    pub fn new(one: &[VerdictLine], other: &[VerdictLine]) -> Option<Self> {
        const KINDS: [Outcome; 3] = [Outcome::Win, Outcome::Loss, Outcome::Tie];
        let key = |line: &VerdictLine| (line.id.clone(), line.constitution.clone(), line.position);
        let seen: HashMap<_, _> = one.iter().map(|line| (key(line), line.outcome())).collect();
        let mut table = [[0_usize; 3]; 3];
        let place = |outcome| KINDS.iter().position(|kind| *kind == outcome);
        for line in other {
            let first = seen.get(&key(line)).and_then(|outcome| place(*outcome));
            if let (Some(row), Some(column)) = (first, place(line.outcome())) {
                table[row][column] += 1;
            }
        }
        let showings: usize = table.iter().flatten().sum();
        let n = showings as f64;
        let share = (0..3).map(|i| table[i][i]).sum::<usize>() as f64 / n;
        let chance: f64 = (0..3)
            .map(|i| {
                let (row, column): (usize, usize) =
                    (table[i].iter().sum(), table.iter().map(|row| row[i]).sum());
                row as f64 * column as f64 / (n * n)
            })
            .sum();
        Some(Self {
            share,
            wilson: wilson(share, showings)?,
            kappa: (chance < 1.0).then(|| (share - chance) / (1.0 - chance)),
            showings,
            left_out: one.len().max(other.len()) - showings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::Position;
    use super::*;
    use approx::assert_abs_diff_eq;
    use sami_policy::Verdict;

    fn lines(verdicts: &[Verdict]) -> Vec<VerdictLine> {
        let line = |(i, verdict): (usize, &Verdict)| VerdictLine {
            id: format!("q{i}"),
            constitution: "c".into(),
            position: Position::A,
            verdict: verdict.clone(),
            candidate_length: 1,
            baseline_length: 1,
            identical: false,
            digest: String::new(),
        };
        verdicts.iter().enumerate().map(line).collect()
    }

    #[test]
    fn kappa_is_the_textbook_one() {
        use Verdict::{A, B, Tie};
        let failed = Verdict::Failed { reason: String::new() };
        // Table: A/A 2, A/B 1, B/B 1, Tie/Tie 1; one without a verdict. Share 4/5; chance (3·2 + 1·2 + 1·1)/25 = .36.
        let one = lines(&[A, A, A, B, Tie, failed]);
        let other = lines(&[A, A, B, B, Tie, A]);
        let agreement = Agreement::new(&one, &other).unwrap();
        assert_eq!((agreement.share, agreement.showings, agreement.left_out), (0.8, 5, 1));
        assert_abs_diff_eq!(agreement.kappa.unwrap(), 0.6875, epsilon = 1e-12);
        assert_eq!(Agreement::new(&lines(&[A, A]), &lines(&[A, A])).unwrap().kappa, None);
        assert_eq!(Agreement::new(&one, &[]), None);
    }
}
