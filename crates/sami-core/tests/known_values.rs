//! Losses and figures that can be worked out by hand.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

use approx::assert_relative_eq;
use ndarray::{Array2, array};
use sami_core::{Error, MiAccumulator, Objective, Side, diagnostics, mutual_information};

#[test]
fn two_by_two() {
    let logps = array![[0.0, -1.0], [-2.0, 0.0]];
    let row = 0.5 * ((1.0 + (-1f64).exp()).ln() + (1.0 + (-2f64).exp()).ln());
    let col = 0.5 * ((1.0 + (-2f64).exp()).ln() + (1.0 + (-1f64).exp()).ln());
    let of = |side| Objective::builder().side(side).check().unwrap().loss(logps.view()).unwrap();
    assert_relative_eq!(of(Side::OverResponses), row, epsilon = 1e-15);
    assert_relative_eq!(of(Side::OverConstitutions), col, epsilon = 1e-15);
    assert_relative_eq!(of(Side::TwoSided), 0.5 * (row + col), epsilon = 1e-15);
    let mi = mutual_information(logps.view()).unwrap();
    assert_relative_eq!(mi.constitutions, 2f64.ln() - col, epsilon = 1e-15);
    assert_relative_eq!(mi.responses, 2f64.ln() - row, epsilon = 1e-15);
    let seen = diagnostics(logps.view()).unwrap();
    assert_eq!((seen.accuracy_row, seen.accuracy_col, seen.margin), (1.0, 1.0, 1.5));
}

#[test]
fn gradient_of_a_constant_matrix() {
    let logps = Array2::<f64>::from_elem((4, 4), -3.0);
    let found = Objective::default().loss_and_grad(logps.view()).unwrap();
    assert_relative_eq!(found.loss, 4f64.ln(), epsilon = 1e-15);
    for ((row, col), g) in found.grad.indexed_iter() {
        let expected = if row == col { 0.25 * (0.25 - 1.0) } else { 0.0625 };
        assert_relative_eq!(*g, expected, epsilon = 1e-15);
    }
}

#[test]
fn accumulates() {
    let mut all = MiAccumulator::new();
    assert_eq!(all.finish(), None);
    for diagonal in [0.0, 1.0, 2.0] {
        all.push(&mutual_information(array![[diagonal, 0.0], [0.0, diagonal]].view()).unwrap());
    }
    let figures = all.finish().unwrap();
    assert_eq!(figures.n, 3);
    assert_relative_eq!(figures.cap, 2f64.ln());
    assert!(figures.constitutions.standard_error.unwrap() > 0.0);
}

#[test]
fn refuses_by_row_and_column() {
    let objective = Objective::default();
    let of = |logps: Array2<f64>| objective.loss(logps.view()).unwrap_err();
    assert_eq!(of(Array2::zeros((2, 3))), Error::NotSquare { rows: 2, cols: 3 });
    assert_eq!(of(Array2::zeros((0, 0))), Error::Empty { rows: 0, cols: 0 });
    assert_eq!(of(array![[0.0, f64::NAN], [0.0, 0.0]]), Error::NotANumber { row: 0, col: 1 });
    assert_eq!(of(array![[0.0, 0.0], [f64::INFINITY, 0.0]]), Error::PositiveInfinity { row: 1, col: 0 });
    assert_eq!(of(array![[0.0, 0.0], [0.0, f64::NEG_INFINITY]]), Error::ImpossibleTarget { row: 1, col: 1 });
    assert!(objective.loss(array![[0.0, f64::NEG_INFINITY], [0.0, 0.0]].view()).is_ok());
}
