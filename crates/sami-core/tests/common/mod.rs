//! The objective by its definition, and strategies for matrices.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use ndarray::{Array2, ArrayView2};
use proptest::prelude::*;
use sami_core::definition::{self, Terms};
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

/// The row term and the column term.
pub fn terms(logps: ArrayView2<'_, f64>, targets: &[usize]) -> (f64, f64) {
    let Terms { rows, cols } = definition::terms(logps, targets).unwrap();
    (rows, cols)
}

/// The loss and its gradient, by definition.
pub fn reference(objective: &Objective, logps: ArrayView2<'_, f64>, targets: &[usize]) -> (f64, Array2<f64>) {
    let weights = objective.weights();
    let loss = definition::loss(logps, targets, weights).unwrap();
    (loss, definition::gradient(logps, targets, weights).unwrap())
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
