//! The KL estimators on a softmax policy over a few tokens, where every expectation is a finite sum.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

use ndarray::array;
use sami_core::{Error, KlEstimator, Reduction, kl_penalty};

const LOGITS: [f64; 4] = [0.3, -1.2, 0.8, 0.1];
const REFERENCE: [f64; 4] = [-0.4, 0.2, 0.5, 0.9];

fn log_softmax(logits: [f64; 4]) -> [f64; 4] {
    let lse = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
    logits.map(|l| l - lse)
}

/// KL(softmax a ‖ softmax b).
fn divergence(a: [f64; 4], b: [f64; 4]) -> f64 {
    let (a, b) = (log_softmax(a), log_softmax(b));
    (0..4).map(|k| a[k].exp() * (a[k] - b[k])).sum()
}

/// The gradient of `f` in the policy's logits, by central differences.
fn gradient(f: impl Fn([f64; 4]) -> f64) -> [f64; 4] {
    std::array::from_fn(|k| {
        let moved = |by: f64| {
            let mut logits = LOGITS;
            logits[k] += by;
            f(logits)
        };
        (moved(1e-5) - moved(-1e-5)) / 2e-5
    })
}

/// E_π[weight(y) ∇ ln π(y)]: the expected gradient that an estimator gives as a loss.
fn expected_gradient(estimator: KlEstimator) -> [f64; 4] {
    let (policy, reference) = (log_softmax(LOGITS), log_softmax(REFERENCE));
    std::array::from_fn(|k| {
        (0..4)
            .map(|y| {
                let score = f64::from(u8::from(y == k)) - policy[k].exp();
                policy[y].exp() * estimator.weight(policy[y], reference[y]) * score
            })
            .sum()
    })
}

fn assert_close(found: [f64; 4], expected: [f64; 4]) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() < 1e-9, "{found:?} {expected:?}");
    }
}

#[test]
fn as_losses() {
    assert_close(expected_gradient(KlEstimator::K1), [0.0; 4]);
    assert_close(expected_gradient(KlEstimator::K2), gradient(|logits| divergence(logits, REFERENCE)));
    assert_close(expected_gradient(KlEstimator::K3), gradient(|logits| divergence(REFERENCE, logits)));
}

#[test]
fn as_figures() {
    let (policy, reference) = (log_softmax(LOGITS), log_softmax(REFERENCE));
    let expected = |estimator: KlEstimator| -> f64 {
        (0..4).map(|y| policy[y].exp() * estimator.value(policy[y], reference[y])).sum()
    };
    let truth = divergence(LOGITS, REFERENCE);
    assert!((expected(KlEstimator::K1) - truth).abs() < 1e-14);
    assert!((expected(KlEstimator::K3) - truth).abs() < 1e-14);
    for y in 0..4 {
        assert!(KlEstimator::K2.value(policy[y], reference[y]) >= 0.0);
        assert!(KlEstimator::K3.value(policy[y], reference[y]) >= 0.0);
    }
    // Near zero, 1 − e^−δ and e^−δ − 1 + δ cancel; the weights keep their digits.
    assert_eq!(KlEstimator::K3.weight(1e-18, 0.0), 1e-18);
}

#[test]
fn over_responses() {
    let logps = array![[-1.0, -2.0, 7.0], [-0.5, f64::NAN, f64::NAN]];
    let reference = array![[-1.5, -1.0, f64::NAN], [-1.0, 0.0, 0.0]];
    let mask = array![[true, true, false], [true, false, false]];
    let of = |reduction| {
        kl_penalty(KlEstimator::K1, reduction, logps.view(), reference.view(), mask.view()).unwrap()
    };
    let mean = of(Reduction::Mean);
    assert_eq!(mean.per_response, array![-0.25, 0.5]);
    assert_eq!(mean.kl, 0.125);
    assert_eq!(mean.weights, array![[0.25, 0.25, 0.0], [0.5, 0.0, 0.0]]);
    let sum = of(Reduction::Sum);
    assert_eq!(sum.per_response, array![-0.5, 0.5]);
    assert_eq!(sum.weights, array![[0.5, 0.5, 0.0], [0.5, 0.0, 0.0]]);
}

#[test]
fn refuses() {
    let logps = array![[-1.0f32, -2.0]];
    let of = |reference: &ndarray::Array2<f32>, mask: &ndarray::Array2<bool>| {
        kl_penalty(KlEstimator::K2, Reduction::Mean, logps.view(), reference.view(), mask.view()).unwrap_err()
    };
    let error = of(&array![[-1.0, f32::NEG_INFINITY]], &array![[true, true]]);
    assert_eq!(
        error.to_string(),
        "reference_logps of response 0 at token 1 is -inf; the KL divergence needs finite log-probabilities of counted tokens"
    );
    let error = of(&array![[-1.0, -1.0]], &array![[false, false]]);
    assert_eq!(error.to_string(), "response 0 has no counted token; drop it, there is nothing to score");
    let error = of(&array![[-1.0, -1.0], [0.0, 0.0]], &array![[true, true]]);
    assert_eq!(error.to_string(), "reference_logps has shape [2, 2], expected [1, 2]");
    let empty = ndarray::Array2::<f32>::zeros((0, 3));
    let mask = ndarray::Array2::from_elem((0, 3), true);
    let error =
        kl_penalty(KlEstimator::K1, Reduction::Sum, empty.view(), empty.view(), mask.view()).unwrap_err();
    assert_eq!(error, Error::EmptyBatch);
}
