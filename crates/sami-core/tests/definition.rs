//! The definition itself: known values, its gradient against differences, and what it refuses.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

mod common;

use approx::assert_abs_diff_eq;
use common::with_targets;
use ndarray::{Array2, array};
use proptest::prelude::*;
use sami_core::definition::{gradient, loss, mutual_information, terms};
use sami_core::{Error, TermWeights, mutual_information_with_targets};

const PAPER: TermWeights = TermWeights { over_responses: 0.5, over_constitutions: 0.5 };

#[test]
fn two_by_two_is_what_one_computes_by_hand() {
    // Own entries 1 above their rivals in the rows, 2 in the columns.
    let logps = array![[-1.0, -2.0], [-3.0, -2.0 + 2.0]];
    let softplus = |x: f64| x.exp().ln_1p();
    let found = terms(logps.view(), &[0, 1]).unwrap();
    assert_abs_diff_eq!(found.rows, 0.5 * (softplus(-1.0) + softplus(-3.0)), epsilon = 1e-15);
    assert_abs_diff_eq!(found.cols, softplus(-2.0), epsilon = 1e-15);
    assert_abs_diff_eq!(
        loss(logps.view(), &[0, 1], PAPER).unwrap(),
        0.5 * (found.rows + found.cols),
        epsilon = 1e-15
    );
    let mi = mutual_information(logps.view(), &[0, 1]).unwrap();
    assert_abs_diff_eq!(mi.constitutions, 2f64.ln() - softplus(-2.0), epsilon = 1e-15);
    // Nothing to tell apart.
    let flat = mutual_information(Array2::from_elem((4, 4), -7.0).view(), &[0, 1, 2, 3]).unwrap();
    assert_abs_diff_eq!(flat.two_sided, 0.0, epsilon = 1e-15);
}

#[test]
fn what_has_no_loss_is_refused_and_a_response_may_be_ruled_out() {
    let two = |entry: f64| array![[-1.0, entry], [-2.0, -1.0]];
    for (bad, at) in [(f64::NAN, [0, 1]), (f64::INFINITY, [0, 1])] {
        assert!(matches!(
            terms(two(bad).view(), &at),
            Err(Error::NotANumber { row: 0, col: 1 } | Error::PositiveInfinity { row: 0, col: 1 })
        ));
    }
    let own = terms(two(f64::NEG_INFINITY).view(), &[0, 0]);
    assert_eq!(own, Err(Error::ImpossibleTarget { row: 0, col: 1 }));
    assert!(matches!(terms(two(-1.0).view(), &[0]), Err(Error::TargetCount { .. })));
    assert!(matches!(gradient(two(-1.0).view(), &[0, 2], PAPER), Err(Error::TargetRange { .. })));
    assert!(matches!(terms(Array2::zeros((0, 0)).view(), &[]), Err(Error::Empty { .. })));
    let ruled_out = gradient(two(f64::NEG_INFINITY).view(), &[0, 1], PAPER).unwrap();
    assert_eq!(ruled_out[[0, 1]], 0.0);
    assert!(ruled_out.iter().all(|g| g.is_finite()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_gradient_is_the_loss_differentiated(
        (logps, targets) in with_targets(4.0),
        over_responses in 0.0..2.0f64,
        over_constitutions in 0.0..2.0f64,
    ) {
        let weights = TermWeights { over_responses, over_constitutions };
        let found = gradient(logps.view(), &targets, weights).unwrap();
        let step = 1e-5;
        for ((c, r), g) in found.indexed_iter() {
            let at = |shift: f64| {
                let mut moved = logps.clone();
                moved[[c, r]] += shift;
                loss(moved.view(), &targets, weights).unwrap()
            };
            prop_assert!((g - (at(step) - at(-step)) / (2.0 * step)).abs() < 1e-8);
        }
        // Each softmax sums to one, so the gradient sums to nothing.
        prop_assert!(found.sum().abs() < 1e-12);
    }

    #[test]
    fn the_kernel_estimates_the_same_information((logps, targets) in with_targets(30.0)) {
        let by_definition = mutual_information(logps.view(), &targets).unwrap();
        let found = mutual_information_with_targets(logps.view(), &targets).unwrap();
        for (a, b) in [
            (by_definition.constitutions, found.constitutions),
            (by_definition.responses, found.responses),
            (by_definition.two_sided, found.two_sided),
            (by_definition.cap, found.cap),
        ] {
            prop_assert!((a - b).abs() < 1e-11);
        }
    }
}
