//! Intervals and tests for means of scores between 0 and 1. Every interval is one of 95%.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sami_core::Estimate;
use serde::{Deserialize, Serialize};

/// Quantile of the standard normal for intervals of 95%.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// An interval of 95%.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether it holds `value`, ends included.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// How a bootstrap interval is drawn. The same settings and data give the same interval, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Samples drawn with replacement.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 2000, seed: 0 }
    }
}

impl Bootstrap {
    /// Percentile interval of a figure that `figure` computes from drawn positions `0..n`. Draws for which there is no figure
    /// are left out; `None` when that is every tenth or more, for then the figure hangs on a handful of queries.
    pub fn interval(&self, n: usize, mut figure: impl FnMut(&[usize]) -> Option<f64>) -> Option<Interval> {
        if n == 0 || self.resamples == 0 {
            return None;
        }
        let mut draws = ChaCha12Rng::seed_from_u64(self.seed);
        let mut positions = vec![0; n];
        let mut figures = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            positions.iter_mut().for_each(|position| *position = draws.random_range(0..n));
            figures.extend(figure(&positions));
        }
        if figures.len() * 10 <= self.resamples * 9 {
            return None;
        }
        figures.sort_unstable_by(f64::total_cmp);
        Some(Interval { low: quantile(&figures, 0.025)?, high: quantile(&figures, 0.975)? })
    }
}

/// Quantile of sorted values, linear between neighbours; `None` of nothing.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

/// Mean and standard error (sample standard deviation over √n) of equally weighted values; `None` of nothing.
pub fn estimate(values: impl IntoIterator<Item = f64>) -> Option<Estimate> {
    let values: Vec<f64> = values.into_iter().collect();
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some(Estimate { mean, standard_error: (n > 1.0).then(|| (squares / (n - 1.0) / n).sqrt()) })
}

/// The Wilson score interval of a rate over `n` units (Wilson 1927). Exact in form for units that are 0 or 1; where units are
/// means of several verdicts it is too wide, never too narrow, for such a unit varies less than a coin of the same mean.
pub fn wilson(rate: f64, n: usize) -> Option<Interval> {
    let count = n as f64;
    let z2 = Z_95 * Z_95;
    let shrink = 1.0 + z2 / count;
    let center = (rate + z2 / (2.0 * count)) / shrink;
    let half = Z_95 * (rate * (1.0 - rate) / count + z2 / (4.0 * count * count)).sqrt() / shrink;
    (n > 0).then(|| Interval { low: (center - half).max(0.0), high: (center + half).min(1.0) })
}

/// Exact two-sided p value of the sign test: how likely a fair coin is to land `better` of `better + worse` times on one side,
/// or more extremely. 1 when nothing differs.
pub fn sign_test(better: usize, worse: usize) -> f64 {
    let n = better + worse;
    let tail = better.min(worse);
    // ln of n-choose-k / 2^n, term by term; the sum is of at most n/2 terms, each below 1.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = log_term.exp();
    for k in 1..=tail {
        log_term += ((n - k + 1) as f64 / k as f64).ln();
        sum += log_term.exp();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn wilson_is_the_textbook_one() {
        // p = 0.7, n = 10: (0.7 + z²/20 ± z √(0.021 + z²/400)) / (1 + z²/10)
        let interval = wilson(0.7, 10).unwrap();
        assert_abs_diff_eq!(interval.low, 0.396_775, epsilon = 1e-5);
        assert_abs_diff_eq!(interval.high, 0.892_209, epsilon = 1e-5);
        // All won: the upper end is 1, the lower n / (n + z²).
        let all = wilson(1.0, 10).unwrap();
        assert_abs_diff_eq!(all.low, 10.0 / (10.0 + Z_95 * Z_95), epsilon = 1e-12);
        assert_abs_diff_eq!(all.high, 1.0, epsilon = 1e-12);
        assert_eq!(wilson(0.5, 0), None);
    }

    #[test]
    fn standard_errors_are_those_of_samples() {
        // 1, 1, 0, 0: s² = 1/3, s/√4 = .288675.
        let found = estimate([1.0, 1.0, 0.0, 0.0]).unwrap();
        assert_eq!(found.mean, 0.5);
        assert_abs_diff_eq!(found.standard_error.unwrap(), 0.288_675, epsilon = 1e-6);
        assert_eq!(estimate([0.3]).unwrap().standard_error, None);
        assert_eq!(estimate([]), None);
    }

    #[test]
    fn sign_test_counts_coins() {
        // 9 of 10: 2 · (1 + 10) / 1024. 5 of 10: more than everything, so 1.
        assert_abs_diff_eq!(sign_test(9, 1), 22.0 / 1024.0, epsilon = 1e-15);
        assert_abs_diff_eq!(sign_test(1, 9), 22.0 / 1024.0, epsilon = 1e-15);
        assert_eq!(sign_test(5, 5), 1.0);
        assert_eq!(sign_test(0, 0), 1.0);
        // 2^-2000 is no f64, but what is left of it is no NaN.
        assert_eq!(sign_test(2001, 0), 0.0);
        assert_abs_diff_eq!(sign_test(1000, 1000), 1.0, epsilon = 1e-12);
    }

    #[test]
    fn a_bootstrap_of_many_queries_is_the_normal_interval() {
        let scores: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 != 0))).collect();
        let mean = |drawn: &[usize]| Some(drawn.iter().map(|&i| scores[i]).sum::<f64>() / drawn.len() as f64);
        let interval = Bootstrap::default().interval(400, mean).unwrap();
        // .75 ± 1.96 · √(.1875 / 400)
        assert_abs_diff_eq!(interval.low, 0.7076, epsilon = 0.006);
        assert_abs_diff_eq!(interval.high, 0.7924, epsilon = 0.006);
        assert_eq!(Bootstrap::default().interval(400, mean), Some(interval));
        assert_ne!(Bootstrap { seed: 1, ..Bootstrap::default() }.interval(400, mean), Some(interval));
        assert_eq!(Bootstrap::default().interval(0, mean), None);
        assert_eq!(Bootstrap::default().interval(9, |_| None), None);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
