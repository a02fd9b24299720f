//! Mutual information principle by principle, from constitutions' ids.

/// One principle in a contrast: which side each constitution takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipleSides {
    /// Its name.
    pub name: String,
    /// For each constitution, whether it takes the principle's own side (`true`) or its antithesis.
    pub sides: Vec<bool>,
}

/// The principles that every constitution takes a side of, and on which they do not all agree. `ids` are constitutions' ids as
/// `sami-constitution` writes them: labels joined by `+`, a leading `not-` for the antithesis.
pub fn principles<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<PrincipleSides> {
    let labels: Vec<Vec<(&str, bool)>> = ids
        .into_iter()
        .map(|id| {
            let label =
                |label: &'a str| label.strip_prefix("not-").map_or((label, true), |name| (name, false));
            id.split('+').map(label).collect()
        })
        .collect();
    let names = labels.first().map_or(&[][..], Vec::as_slice);
    let side_of = |name: &str, labels: &[(&str, bool)]| {
        labels.iter().find(|(other, _)| *other == name).map(|(_, side)| *side)
    };
    let sides = names.iter().filter_map(|(name, _)| {
        let sides: Option<Vec<bool>> = labels.iter().map(|labels| side_of(name, labels)).collect();
        let sides = sides.filter(|sides| sides.contains(&true) && sides.contains(&false))?;
        Some(PrincipleSides { name: (*name).to_owned(), sides })
    });
    sides.collect()
}

impl PrincipleSides {
    /// ln p(the side that constitution `asked` takes | y), from ln p(c | y) for each constitution, in nats.
    pub fn log_side(&self, log_posterior: &[f64], asked: usize) -> f64 {
        let side = self.sides.get(asked);
        let same = self.sides.iter().zip(log_posterior).filter(|(other, _)| Some(*other) == side);
        log_sum_exp(&same.map(|(_, log_p)| *log_p).collect::<Vec<_>>())
    }

    /// ln of the share of constitutions that take the side that `asked` takes: what is known without any text.
    pub fn log_prior(&self, asked: usize) -> f64 {
        let side = self.sides.get(asked);
        let same = self.sides.iter().filter(|other| Some(*other) == side).count();
        (same as f64 / self.sides.len() as f64).ln()
    }

    /// One query's estimate of I(Y; S | X) in nats, S the side of this principle: mean over responses of
    /// ln p(S | y) / p(S). In expectation a lower bound; at most ln 2.
    ///
    /// `sum_logps[c][r]` is ln p(response r | constitution c), and `targets[r]` the constitution of response r; `None` where they
    /// do not fit each other.
    pub fn information(&self, sum_logps: &[Vec<f64>], targets: &[usize]) -> Option<f64> {
        if self.sides.len() != sum_logps.len() || targets.is_empty() {
            return None;
        }
        let mut sum = 0.0;
        for (response, &asked) in targets.iter().enumerate() {
            let column: Option<Vec<f64>> = sum_logps.iter().map(|row| row.get(response).copied()).collect();
            sum += self.log_side(&log_softmax(&column?), asked) - self.log_prior(asked);
        }
        Some(sum / targets.len() as f64)
    }
}

/// ln Σ exp, safe for large values.
fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top.is_finite() { top + values.iter().map(|value| (value - top).exp()).sum::<f64>().ln() } else { top }
}

/// ln p(c | y) from ln p(y | c), all constitutions equally likely beforehand.
pub fn log_softmax(logps: &[f64]) -> Vec<f64> {
    let total = log_sum_exp(logps);
    logps.iter().map(|logp| logp - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use std::f64::consts::LN_2;

    const ALL: [&str; 4] =
        ["harmless+helpful", "harmless+not-helpful", "helpful+not-harmless", "not-harmless+not-helpful"];

    #[test]
    fn ids_are_read_as_sides() {
        let found = principles(ALL);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].name.as_str(), &found[0].sides[..]),
            ("harmless", &[true, true, false, false][..])
        );
        assert_eq!(
            (found[1].name.as_str(), &found[1].sides[..]),
            ("helpful", &[true, false, true, false][..])
        );
        // No contrast about a principle on which all agree, or which one of them leaves out.
        assert_eq!(principles(["a+b", "a+not-b"]).len(), 1);
        assert_eq!(principles(["a", "not-a+b"]).len(), 1);
        assert!(principles(["0", "1"]).is_empty());
    }

    #[test]
    fn information_of_a_principle_is_that_of_its_sides() {
        // p(c | y): .4 .4 .1 .1 for a response to the first: harmless is .8 likely, helpful .5.
        let column = [0.4_f64, 0.4, 0.1, 0.1].map(f64::ln);
        let sums: Vec<Vec<f64>> = column.iter().map(|logp| vec![logp - 900.0]).collect();
        let found = principles(ALL);
        let harmless = found[0].information(&sums, &[0]).unwrap();
        assert_abs_diff_eq!(harmless, LN_2 + 0.8_f64.ln(), epsilon = 1e-12);
        assert_abs_diff_eq!(found[1].information(&sums, &[0]).unwrap(), 0.0, epsilon = 1e-12);
        // The same text for somebody who asked for harm is misleading.
        assert_abs_diff_eq!(found[0].information(&sums, &[2]).unwrap(), LN_2 + 0.2_f64.ln(), epsilon = 1e-12);
        assert_eq!(found[0].information(&sums, &[0, 1]), None);
    }
}
