//! Losses and gradients that PyTorch's autograd found (`fixtures/generate.py`).
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

use ndarray::{Array2, Array3};
use sami_core::{KlEstimator, Objective, Reduction, Side, kl_penalty};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    matrices: Vec<Matrix>,
    tokens: Vec<Tokens>,
    kl: Vec<Kl>,
}

#[derive(Deserialize)]
struct Matrix {
    name: String,
    rows: usize,
    cols: usize,
    targets: Vec<usize>,
    logps: Vec<Option<f64>>,
    over_responses: Expected,
    over_constitutions: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    grad: Vec<f64>,
}

#[derive(Deserialize)]
struct Tokens {
    name: String,
    exponent: f64,
    shape: (usize, usize, usize),
    per_token_logps: Vec<f64>,
    response_mask: Vec<bool>,
    loss: f64,
    grad: Vec<f64>,
}

#[derive(Deserialize)]
struct Kl {
    name: String,
    shape: (usize, usize),
    per_token_logps: Vec<f64>,
    reference_logps: Vec<f64>,
    response_mask: Vec<bool>,
    kl: f64,
    grad: Vec<f64>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/objective.json")).unwrap()
}

fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-13 * (1.0 + expected.abs()),
        "{what}: {found}, PyTorch {expected}"
    );
}

#[test]
fn matrices() {
    let cases = fixture().matrices;
    assert!(cases.len() >= 20);
    for case in cases {
        let entries = case.logps.iter().map(|entry| entry.unwrap_or(f64::NEG_INFINITY)).collect();
        let logps = Array2::from_shape_vec((case.rows, case.cols), entries).unwrap();
        let sides = [
            (Side::OverResponses, &case.over_responses),
            (Side::OverConstitutions, &case.over_constitutions),
        ];
        for (side, expected) in sides {
            let objective = Objective::builder().side(side).check().unwrap();
            let found = objective.loss_and_grad_with_targets(logps.view(), &case.targets).unwrap();
            close(found.loss, expected.loss, &case.name);
            for (found, expected) in found.grad.iter().zip(&expected.grad) {
                close(*found, *expected, &case.name);
            }
            if case.rows == case.cols {
                let square = objective.loss_and_grad(logps.view()).unwrap();
                close(square.loss, expected.loss, &case.name);
                for (found, expected) in square.grad.iter().zip(&expected.grad) {
                    close(*found, *expected, &case.name);
                }
            }
        }
        let both = Objective::default().loss_with_targets(logps.view(), &case.targets).unwrap();
        close(both, 0.5 * (case.over_responses.loss + case.over_constitutions.loss), &case.name);
    }
}

#[test]
fn from_tokens_to_tokens() {
    for case in fixture().tokens {
        let per_token = Array3::from_shape_vec(case.shape, case.per_token_logps).unwrap();
        let mask = Array3::from_shape_vec(case.shape, case.response_mask).unwrap();
        let mut reductions = vec![Reduction::LengthWeighted { exponent: case.exponent }];
        match case.name.as_str() {
            "mean" => reductions.push(Reduction::Mean),
            "sum" => reductions.push(Reduction::Sum),
            _ => {}
        }
        for reduction in reductions {
            let objective = Objective::builder().reduction(reduction).check().unwrap();
            let logps = objective.reduction().matrix(per_token.view(), mask.view()).unwrap();
            let found = objective.loss_and_grad(logps.view()).unwrap();
            close(found.loss, case.loss, &case.name);
            let weights = objective.reduction().matrix_token_weights(found.grad.view(), mask.view()).unwrap();
            for (found, expected) in weights.iter().zip(&case.grad) {
                close(*found, *expected, &case.name);
            }
        }
    }
}

#[test]
fn kl_estimators() {
    for case in fixture().kl {
        let estimator = match case.name.as_str() {
            "k1" => KlEstimator::K1,
            "k2" => KlEstimator::K2,
            _ => KlEstimator::K3,
        };
        let logps = Array2::from_shape_vec(case.shape, case.per_token_logps).unwrap();
        let reference = Array2::from_shape_vec(case.shape, case.reference_logps).unwrap();
        let mask = Array2::from_shape_vec(case.shape, case.response_mask).unwrap();
        let found =
            kl_penalty(estimator, Reduction::Mean, logps.view(), reference.view(), mask.view()).unwrap();
        close(found.kl, case.kl, &case.name);
        for (found, expected) in found.weights.iter().zip(&case.grad) {
            close(*found, *expected, &case.name);
        }
    }
}
