//! The objective written down as plainly as possible, in `f64`, and strategies for matrices.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

use ndarray::{Array2, ArrayView2};
use proptest::prelude::*;
use sami_core::{Objective, Side};

/// One-sided and two-sided objectives, and one with weights of its own.
pub fn objectives() -> Vec<Objective> {
    let side = |side| Objective::builder().side(side).check().unwrap();
    vec![
        Objective::default(),
        side(Side::OverResponses),
        side(Side::OverConstitutions),
        Objective::builder().weights(0.3, 1.7).check().unwrap(),
    ]
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY { max } else { max + values.map(|v| (v - max).exp()).sum::<f64>().ln() }
}

/// The row term and the column term.
pub fn terms(logps: ArrayView2<'_, f64>, targets: &[usize]) -> (f64, f64) {
    let (mut row, mut col) = (0.0, 0.0);
    for (r, &c) in targets.iter().enumerate() {
        row += log_sum_exp(logps.row(c).iter().copied()) - logps[[c, r]];
        col += log_sum_exp(logps.column(r).iter().copied()) - logps[[c, r]];
    }
    (row / targets.len() as f64, col / targets.len() as f64)
}

/// The weighted loss and its gradient.
pub fn reference(objective: &Objective, logps: ArrayView2<'_, f64>, targets: &[usize]) -> (f64, Array2<f64>) {
    let (row, col) = terms(logps, targets);
    let (alpha, beta) = (objective.weights().over_responses, objective.weights().over_constitutions);
    let n = targets.len() as f64;
    let mut grad = Array2::zeros(logps.dim());
    for (r, &c) in targets.iter().enumerate() {
        let of_row = log_sum_exp(logps.row(c).iter().copied());
        for (to, l) in grad.row_mut(c).iter_mut().zip(logps.row(c)) {
            *to += alpha * (l - of_row).exp() / n;
        }
        let of_col = log_sum_exp(logps.column(r).iter().copied());
        for (to, l) in grad.column_mut(r).iter_mut().zip(logps.column(r)) {
            *to += beta * (l - of_col).exp() / n;
        }
        grad[[c, r]] -= (alpha + beta) / n;
    }
    let weighted = |weight: f64, term: f64| if weight > 0.0 { weight * term } else { 0.0 };
    (weighted(alpha, row) + weighted(beta, col), grad)
}

/// Square matrices with entries of up to `scale` in size.
pub fn square(sizes: std::ops::Range<usize>, scale: f64) -> impl Strategy<Value = Array2<f64>> {
    sizes.prop_flat_map(move |c| {
        proptest::collection::vec(-scale..scale, c * c)
            .prop_map(move |entries| Array2::from_shape_vec((c, c), entries).unwrap())
    })
}

/// Matrices of any shape, with targets.
pub fn with_targets(scale: f64) -> impl Strategy<Value = (Array2<f64>, Vec<usize>)> {
    (1..12usize, 1..40usize).prop_flat_map(move |(rows, cols)| {
        let entries = proptest::collection::vec(-scale..scale, rows * cols)
            .prop_map(move |entries| Array2::from_shape_vec((rows, cols), entries).unwrap());
        (entries, proptest::collection::vec(0..rows, cols))
    })
}

/// 0, 1, … n − 1.
pub fn identity(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// Largest distance between two matrices.
pub fn distance(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
