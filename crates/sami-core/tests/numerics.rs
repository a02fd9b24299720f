//! Precision, extremes, and what has no loss.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

mod common;

use common::{identity, objectives, reference};
use ndarray::{Array2, Array3, array};
use proptest::prelude::*;
use sami_core::{
    Contrast, Element, Error, Objective, Side, diagnostics, diagnostics_with_targets, mutual_information,
    mutual_information_with_targets,
};

/// The bounds of the crate's documentation, in units of ε = 2^−23.
fn f32_is_as_precise_as_stated(logps: &Array2<f32>, targets: &[usize]) -> Result<(), TestCaseError> {
    let (epsilon, wide) = (f64::from(f32::EPSILON), logps.mapv(f64::from));
    let square = logps.nrows() == logps.ncols() && targets == identity(logps.nrows());
    for objective in objectives() {
        let weights = objective.weights().over_responses + objective.weights().over_constitutions;
        let (loss, grad) = reference(&objective, wide.view(), targets);
        let mut found = vec![objective.loss_and_grad_with_targets(logps.view(), targets).unwrap()];
        if square {
            found.push(objective.loss_and_grad(logps.view()).unwrap());
        }
        for found in found {
            let error = (f64::from(found.loss) - loss).abs() / epsilon;
            prop_assert!(error <= 8.0 * weights + loss, "loss {loss}: off by {error} ε");
            for (f, g) in found.grad.iter().zip(&grad) {
                let unit = epsilon * g.abs().max(weights / targets.len() as f64);
                let error = (f64::from(*f) - g).abs() / unit;
                prop_assert!(error <= 24.0, "gradient {g}: off by {error} ε");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn f32_within_the_stated_bounds(c in 1..34usize, scale in prop::sample::select(vec![0.1, 3.0, 12.0, 30.0, 1e3, 1e4]), shift in -1e4..0.0f64, seed in any::<u64>()) {
        let mut state = seed | 1;
        let logps = Array2::from_shape_simple_fn((c, c), || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (shift + scale * ((state >> 40) as f64 / (1u64 << 24) as f64 - 0.5)) as f32
        });
        f32_is_as_precise_as_stated(&logps, &identity(c))?;
    }

    #[test]
    fn f32_within_the_stated_bounds_with_targets((logps, targets) in common::with_targets(9.0)) {
        f32_is_as_precise_as_stated(&logps.mapv(|l| l as f32), &targets)?;
    }

    #[test]
    fn any_bits_give_a_loss_or_an_error(c in 1..12usize, r in 1..12usize, bits in proptest::collection::vec(any::<u32>(), 144), targets in proptest::collection::vec(0..14usize, 0..14)) {
        let logps = Array2::from_shape_fn((c, r), |(i, j)| f32::from_bits(bits[i * 12 + j]));
        survives(&logps, &targets)?;
        survives(&logps.mapv(f64::from), &targets)?;
        // Few of the bit patterns above are free of NaN, so once more without.
        let finite = logps.mapv(|l| if l.is_finite() { l } else { -3.0 });
        survives(&finite, &targets)?;
        survives(&finite.mapv(f64::from), &targets)?;
        let huge = finite.mapv(|l| f64::from(l) * 1e270);
        survives(&huge, &targets)?;
    }
}

fn survives<F: Element + std::fmt::Display>(
    logps: &Array2<F>,
    targets: &[usize],
) -> Result<(), TestCaseError> {
    for objective in objectives() {
        let found = [
            objective.loss_and_grad(logps.view()),
            objective.loss_and_grad_with_targets(logps.view(), targets),
        ];
        for found in found.into_iter().flatten() {
            prop_assert!(found.loss.to_f64() >= 0.0, "loss {}", found.loss);
            prop_assert!(found.grad.iter().all(|g| g.to_f64().is_finite()));
        }
    }
    let _ = (diagnostics(logps.view()), diagnostics_with_targets(logps.view(), targets));
    let wide = logps.mapv(|l| l.to_f64());
    for mi in [mutual_information(wide.view()), mutual_information_with_targets(wide.view(), targets)] {
        prop_assert!(mi.map_or(true, |mi| !mi.two_sided.is_nan()));
    }
    Ok(())
}

/// Large matrices take other ways through the kernel: several blocks, and exponentials computed twice.
#[test]
fn large_f32_within_the_stated_bounds() {
    for (rows, cols, scale) in [(300, 300, 6.0), (515, 515, 3.0), (200, 200, 80.0), (130, 2100, 4.0)] {
        let mut state = 7u64;
        let logps = Array2::from_shape_simple_fn((rows, cols), || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (scale * ((state >> 40) as f64 / (1u64 << 24) as f64 - 1.0)) as f32
        });
        let targets: Vec<usize> = (0..cols).map(|r| r % rows).collect();
        f32_is_as_precise_as_stated(&logps, &targets).unwrap();
    }
}

#[test]
fn ruled_out_under_other_constitutions() {
    for c in [2, 3, 5, 8, 9, 20, 70] {
        let mut logps = Array2::<f64>::from_elem((c, c), f64::NEG_INFINITY);
        logps.diag_mut().fill(-700.0);
        for objective in objectives() {
            let found = objective.loss_and_grad(logps.view()).unwrap();
            assert_eq!(found.loss, 0.0);
            assert!(found.grad.iter().all(|g| g.abs() < 1e-15));
            let found = objective.loss_and_grad(logps.mapv(|l| l as f32).view()).unwrap();
            assert!((0.0..1e-7).contains(&found.loss), "{}", found.loss);
            assert!(found.grad.iter().all(|g| g.abs() < 1e-6));
        }
        let mi = mutual_information(logps.view()).unwrap();
        assert_eq!((mi.constitutions, mi.responses), (mi.cap, mi.cap));
        assert_eq!(diagnostics(logps.view()).unwrap().margin, f64::INFINITY);
    }
}

/// A constitution that has no response, and rules out all there are.
#[test]
fn a_row_without_responses() {
    let logps = array![[-1.0, -2.0], [f64::NEG_INFINITY, f64::NEG_INFINITY], [-2.0, -1.0]];
    for scale in [1.0, 1000.0] {
        let logps = &logps * scale;
        let found = Objective::default().loss_and_grad_with_targets(logps.view(), &[0, 2]).unwrap();
        let square =
            Objective::default().loss_and_grad((array![[-1.0, -2.0], [-2.0, -1.0]] * scale).view()).unwrap();
        assert!((found.loss - square.loss).abs() < 1e-15);
        assert_eq!(found.grad.row(1).to_vec(), [0.0, 0.0]);
        assert!((found.grad[[0, 1]] - square.grad[[0, 1]]).abs() < 1e-15);
    }
}

#[test]
fn faults_by_row_and_column_in_every_layout() {
    for c in [1, 2, 3, 4, 7, 8, 9, 17, 70] {
        for (row, col) in [(0, 0), (c - 1, 0), (c / 2, c - 1), (c - 1, c - 1)] {
            let with = |value: f64| {
                let mut logps = Array2::from_elem((c, c), -2.0);
                logps[[row, col]] = value;
                logps
            };
            let cases = [
                (f64::NAN, Some(Error::NotANumber { row, col })),
                (f64::INFINITY, Some(Error::PositiveInfinity { row, col })),
                (f64::NEG_INFINITY, (row == col).then_some(Error::ImpossibleTarget { row, col })),
            ];
            for (value, expected) in cases {
                let logps = with(value);
                for objective in objectives() {
                    assert_eq!(objective.loss(logps.view()).err(), expected, "C = {c}");
                    assert_eq!(objective.loss(logps.mapv(|l| l as f32).view()).err(), expected, "C = {c}");
                    let mut batch = Array3::from_elem((40, c, c), -1.0);
                    batch.index_axis_mut(ndarray::Axis(0), 37).assign(&logps);
                    let in_batch =
                        expected.clone().map(|error| Error::InBatch { index: 37, source: Box::new(error) });
                    assert_eq!(objective.batch_loss(batch.view()).err(), in_batch);
                    assert_eq!(objective.batch_loss_and_grad(batch.view()).err(), in_batch);
                    let ragged: Vec<_> = batch.outer_iter().map(Contrast::new).collect();
                    assert_eq!(objective.ragged_loss_and_grad(&ragged).err(), in_batch);
                }
                assert_eq!(mutual_information(logps.view()).err(), expected);
                assert_eq!(diagnostics(logps.view()).err(), expected);
            }
        }
    }
}

#[test]
fn messages() {
    let of = |logps: Array2<f64>| Objective::default().loss(logps.view()).unwrap_err().to_string();
    assert_eq!(
        of(array![[0.0, 0.0], [f64::NAN, 0.0]]),
        "the log-probability at row 1 (constitution), column 0 (response) is NaN; the model's forward pass went wrong there"
    );
    assert_eq!(
        of(array![[0.0, f64::INFINITY], [0.0, 0.0]]),
        "the log-probability at row 0 (constitution), column 1 (response) is +∞; log-probabilities are at most 0"
    );
    assert_eq!(
        of(array![[0.0, 0.0], [0.0, f64::NEG_INFINITY]]),
        "the log-probability at row 1 (constitution), column 1 (response) is −∞, but that is the constitution the \
         response was sampled under; only other constitutions may rule a response out"
    );
    assert_eq!(
        of(Array2::zeros((2, 3))),
        "the contrast matrix is 2 × 3; without targets it must be square, one response per constitution (give each \
         response's constitution as its target for C × mC)"
    );
    assert_eq!(
        of(Array2::zeros((0, 3))),
        "the contrast matrix is 0 × 3; it needs at least one constitution and one response"
    );
    let of = |targets: &[usize]| {
        let logps = Array2::<f32>::zeros((2, 3));
        Objective::default().loss_with_targets(logps.view(), targets).unwrap_err().to_string()
    };
    assert_eq!(of(&[0, 1]), "2 targets for 3 responses; give one target per response");
    assert_eq!(of(&[0, 1, 2]), "response 2 has target 2, but there are 2 constitutions (0 to 1)");
    let empty = Objective::default().batch_loss(Array3::<f32>::zeros((0, 2, 2)).view()).unwrap_err();
    assert_eq!(empty.to_string(), "the batch holds no query; there is nothing to average");
    let batch = Array3::from_elem((3, 2, 2), f64::NAN);
    assert!(
        Objective::default()
            .batch_loss(batch.view())
            .unwrap_err()
            .to_string()
            .starts_with("query 0 of the batch: the log-probability at row 0")
    );
}

#[test]
fn settings_that_make_no_objective() {
    let message = |builder: sami_core::ObjectiveBuilder| builder.check().unwrap_err().to_string();
    let builder = Objective::builder;
    assert_eq!(
        message(builder().weights(-1.0, 1.0)),
        "the weight of the term over_responses is -1; it must be a finite number, 0 or above"
    );
    assert_eq!(
        message(builder().weights(1.0, f64::NAN)),
        "the weight of the term over_constitutions is NaN; it must be a finite number, 0 or above"
    );
    assert_eq!(
        message(builder().weights(0.0, 1.0)),
        "side two_sided needs both weights above 0, got over_responses = 0, over_constitutions = 1"
    );
    assert_eq!(
        message(builder().side(Side::OverResponses).weights(1.0, 1.0)),
        "side over_responses needs over_responses above 0 and over_constitutions = 0, got over_responses = 1, \
         over_constitutions = 1"
    );
    assert_eq!(
        message(builder().reduction(sami_core::Reduction::LengthWeighted { exponent: f64::INFINITY })),
        "the length exponent is inf; it must be finite (0 is the sum, 1 the mean)"
    );
    assert_eq!(builder().check().unwrap(), Objective::default());
}
