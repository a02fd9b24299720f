//! Mutual information of discrete channels, known exactly: what each figure estimates, and what it bounds.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

use ndarray::{Array2, ArrayView2};
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sami_core::{MiAccumulator, mutual_information, mutual_information_with_targets};

/// P(y | c), one row per constitution.
#[derive(Debug)]
struct Channel(Array2<f64>);

impl Channel {
    /// Rows proportional to positive weights.
    fn new(weights: Array2<f64>) -> Self {
        let mut p = weights;
        for mut row in p.rows_mut() {
            let sum = row.sum();
            row.map_inplace(|w| *w /= sum);
        }
        Self(p)
    }

    /// I(Y; C) in nats, C uniform.
    fn information(&self) -> f64 {
        let c = self.0.nrows() as f64;
        let marginal = self.0.sum_axis(ndarray::Axis(0)) / c;
        let terms = self.0.indexed_iter().filter(|(_, p)| **p > 0.0);
        terms.map(|((_, y), &p)| p / c * (p / marginal[y]).ln()).sum()
    }

    fn sample(&self, c: usize, rng: &mut ChaCha8Rng) -> usize {
        let mut u: f64 = rng.random();
        let row = self.0.row(c);
        for (y, p) in row.iter().enumerate() {
            if u < *p {
                return y;
            }
            u -= p;
        }
        row.len() - 1
    }

    /// The contrast matrix of responses y_r, as `critic` scores them.
    fn logps(critic: ArrayView2<'_, f64>, responses: &[usize]) -> Array2<f64> {
        Array2::from_shape_fn((critic.nrows(), responses.len()), |(c, r)| critic[[c, responses[r]]])
    }

    /// The exact expectation of the figure over constitutions: columns are independent, so one response at a time.
    fn expected_over_constitutions(&self, critic: ArrayView2<'_, f64>) -> f64 {
        let c = self.0.nrows() as f64;
        let terms = self.0.indexed_iter().filter(|(_, p)| **p > 0.0);
        terms
            .map(|((own, y), p)| {
                let logps = Self::logps(critic, &[y]);
                p / c * mutual_information_with_targets(logps.view(), &[own]).unwrap().constitutions
            })
            .sum()
    }

    /// The exact expectation of the figure over responses: over all ways to draw one response per constitution.
    fn expected_over_responses(&self) -> f64 {
        let (c, k) = self.0.dim();
        let critic = self.0.ln();
        let mut sum = 0.0;
        for code in 0..k.pow(c as u32) {
            let responses: Vec<usize> = (0..c).map(|i| code / k.pow(i as u32) % k).collect();
            let p: f64 = responses.iter().enumerate().map(|(c, &y)| self.0[[c, y]]).product();
            if p > 0.0 {
                let logps = Self::logps(critic.view(), &responses);
                sum += p * mutual_information(logps.view()).unwrap().responses;
            }
        }
        sum
    }
}

fn channel(c: std::ops::Range<usize>, k: std::ops::Range<usize>) -> impl Strategy<Value = Channel> {
    (c, k).prop_flat_map(|(c, k)| {
        proptest::collection::vec(0.01..1.0f64, c * k)
            .prop_map(move |w| Channel::new(Array2::from_shape_vec((c, k), w).unwrap()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn column_figure_is_unbiased_over_the_whole_population(channel in channel(1..7, 1..6)) {
        let expected = channel.expected_over_constitutions(channel.0.ln().view());
        prop_assert!((expected - channel.information()).abs() < 1e-12);
    }

    #[test]
    fn column_figure_bounds_from_below_with_any_critic(channel in channel(2..6, 2..6), scores in proptest::collection::vec(-4.0..0.0f64, 36)) {
        let (c, k) = channel.0.dim();
        let critic = Array2::from_shape_fn((c, k), |(c, y)| scores[c * 6 + y]);
        let expected = channel.expected_over_constitutions(critic.view());
        prop_assert!(expected <= channel.information() + 1e-12);
    }

    #[test]
    fn column_figure_bounds_from_below_with_subsets(channel in channel(3..6, 2..5)) {
        let c = channel.0.nrows();
        let (mut sum, mut n) = (0.0, 0.0);
        for left_out in 0..c {
            let rows: Vec<usize> = (0..c).filter(|row| *row != left_out).collect();
            let subset = Channel(channel.0.select(ndarray::Axis(0), &rows));
            sum += subset.expected_over_constitutions(subset.0.ln().view());
            n += 1.0;
        }
        prop_assert!(sum / n <= channel.information() + 1e-12);
    }
}

#[test]
fn sampled_column_figure_and_its_interval() {
    let channel = Channel::new(ndarray::array![[6.0, 2.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 4.0]]);
    let (truth, critic) = (channel.information(), channel.0.ln());
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut all, mut covered, experiments) = (MiAccumulator::new(), 0, 500);
    for _ in 0..experiments {
        let mut sum = MiAccumulator::new();
        for _ in 0..100 {
            let responses: Vec<usize> = (0..3).map(|c| channel.sample(c, &mut rng)).collect();
            sum.push(&mutual_information(Channel::logps(critic.view(), &responses).view()).unwrap());
        }
        let (low, high) = sum.finish().unwrap().constitutions.interval(1.96).unwrap();
        covered += usize::from(low <= truth && truth <= high);
        all.merge(&sum);
    }
    let estimate = all.finish().unwrap().constitutions;
    let error = estimate.standard_error.unwrap();
    assert!((estimate.mean - truth).abs() < 4.0 * error, "{estimate:?}, true {truth}");
    assert!(error < 0.004);
    // 95%, give or take four standard deviations of 500 tries.
    assert!((456..=494).contains(&covered), "{covered} of {experiments} intervals cover the true value");
}

/// Distinct constitutions are not drawn i.i.d., so the row figure bounds nothing.
#[test]
fn row_figure_may_exceed_the_truth() {
    let channel = Channel::new(ndarray::array![[0.9, 0.1], [0.1, 0.9]]);
    let (row, col) =
        (channel.expected_over_responses(), channel.expected_over_constitutions(channel.0.ln().view()));
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 5e-4, "{found} {expected}");
    near(channel.information(), 0.368);
    near(col, 0.368);
    near(row, 0.460);
    near(0.5 * (row + col), 0.414);
}

/// Response = a style that the constitution decides + noise that it does not. Sums hold the noise's log-probability, which
/// is the same down a column and differs along a row.
#[test]
fn row_figure_drowns_in_the_entropy_of_sums() {
    let channel = Channel::new(ndarray::array![[0.7, 0.3], [0.3, 0.7]]);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut sum = MiAccumulator::new();
    for _ in 0..4000 {
        let responses: Vec<usize> = (0..2).map(|c| channel.sample(c, &mut rng)).collect();
        let mut logps = Channel::logps(channel.0.ln().view(), &responses);
        for mut column in logps.columns_mut() {
            let noise: f64 = (0..30).map(|_| f64::ln(rng.random_range(0.02..1.0))).sum();
            column.map_inplace(|l| *l += noise);
        }
        sum.push(&mutual_information(logps.view()).unwrap());
    }
    let figures = sum.finish().unwrap();
    assert!((figures.constitutions.mean - channel.information()).abs() < 0.02, "{figures:?}");
    assert!(figures.responses.mean < -1.0, "{figures:?}");
    assert!(figures.two_sided.mean < -0.5, "{figures:?}");
}
