//! What holds for every matrix.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

mod common;

use common::{distance, identity, objectives, reference, square, terms, with_targets};
use ndarray::{Array2, Array3, Axis, s};
use proptest::prelude::*;
use sami_core::{Contrast, MiAccumulator, Objective, Side, diagnostics, mutual_information};

/// Rounding of `f64` at the sizes of the entries here.
const TINY: f64 = 1e-11;

fn one_sided(side: Side) -> Objective {
    Objective::builder().side(side).check().unwrap()
}

/// A permutation of 0..n.
fn permutation(n: usize) -> impl Strategy<Value = Vec<usize>> {
    Just(identity(n)).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_definition(logps in square(1..20, 8.0)) {
        for objective in objectives() {
            let (loss, grad) = reference(&objective, logps.view(), &identity(logps.nrows()));
            let found = objective.loss_and_grad(logps.view()).unwrap();
            prop_assert!((found.loss - loss).abs() < 1e-13, "{} {loss}", found.loss);
            prop_assert_eq!(objective.loss(logps.view()).unwrap(), found.loss);
            prop_assert!(distance(&found.grad, &grad) < 1e-14);
            let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt();
            prop_assert!((found.grad_norm() - norm).abs() < 1e-13);
        }
    }

    #[test]
    fn agrees_with_the_definition_at_1e4(logps in square(1..20, 1e4)) {
        for objective in objectives() {
            let (loss, grad) = reference(&objective, logps.view(), &identity(logps.nrows()));
            let found = objective.loss_and_grad(logps.view()).unwrap();
            prop_assert!((found.loss - loss).abs() < TINY, "{} {loss}", found.loss);
            prop_assert!(distance(&found.grad, &grad) < TINY);
        }
    }

    #[test]
    fn agrees_with_the_definition_with_targets((logps, targets) in with_targets(30.0)) {
        for objective in objectives() {
            let (loss, grad) = reference(&objective, logps.view(), &targets);
            let found = objective.loss_and_grad_with_targets(logps.view(), &targets).unwrap();
            prop_assert!((found.loss - loss).abs() < TINY, "{} {loss}", found.loss);
            prop_assert!(distance(&found.grad, &grad) < TINY);
        }
    }

    #[test]
    fn loss_is_not_negative_and_mi_not_above_its_cap(logps in square(1..12, 1e3)) {
        for objective in objectives() {
            prop_assert!(objective.loss(logps.view()).unwrap() >= 0.0);
        }
        let mi = mutual_information(logps.view()).unwrap();
        prop_assert!(mi.cap == (logps.nrows() as f64).ln());
        for figure in [mi.constitutions, mi.responses, mi.two_sided] {
            prop_assert!(figure <= mi.cap);
        }
    }

    #[test]
    fn mi_and_loss_say_the_same(logps in square(1..12, 20.0)) {
        let mi = mutual_information(logps.view()).unwrap();
        let (row, col) = terms(logps.view(), &identity(logps.nrows()));
        prop_assert!((mi.constitutions - (mi.cap - col)).abs() < TINY);
        prop_assert!((mi.responses - (mi.cap - row)).abs() < TINY);
        let loss = Objective::default().loss(logps.view()).unwrap();
        prop_assert!((mi.two_sided - (mi.cap - loss)).abs() < TINY);
        let bits = mi.to_bits();
        prop_assert!((bits.constitutions - mi.constitutions * std::f64::consts::LOG2_E).abs() < TINY);
        prop_assert!((bits.cap - (logps.nrows() as f64).log2()).abs() < TINY);
    }

    #[test]
    fn a_constant_on_a_row_leaves_the_row_term(logps in square(2..10, 5.0), at in any::<prop::sample::Index>(), shift in -9.0..9.0) {
        let at = at.index(logps.nrows());
        let mut shifted = logps.clone();
        shifted.row_mut(at).map_inplace(|l| *l += shift);
        let objective = one_sided(Side::OverResponses);
        let (before, after) =
            (objective.loss_and_grad(logps.view()).unwrap(), objective.loss_and_grad(shifted.view()).unwrap());
        prop_assert!((before.loss - after.loss).abs() < TINY);
        prop_assert!(distance(&before.grad, &after.grad) < TINY);
    }

    #[test]
    fn a_constant_on_a_column_leaves_the_column_term(logps in square(2..10, 5.0), at in any::<prop::sample::Index>(), shift in -9.0..9.0) {
        let at = at.index(logps.nrows());
        let mut shifted = logps.clone();
        shifted.column_mut(at).map_inplace(|l| *l += shift);
        let objective = one_sided(Side::OverConstitutions);
        let (before, after) =
            (objective.loss_and_grad(logps.view()).unwrap(), objective.loss_and_grad(shifted.view()).unwrap());
        prop_assert!((before.loss - after.loss).abs() < TINY);
        prop_assert!(distance(&before.grad, &after.grad) < TINY);
    }

    #[test]
    fn the_same_permutation_of_both_changes_nothing((logps, order) in square(1..12, 6.0).prop_flat_map(|l| { let n = l.nrows(); (Just(l), permutation(n)) })) {
        let permuted = logps.select(Axis(0), &order).select(Axis(1), &order);
        for objective in objectives() {
            let (plain, found) =
                (objective.loss_and_grad(logps.view()).unwrap(), objective.loss_and_grad(permuted.view()).unwrap());
            prop_assert!((plain.loss - found.loss).abs() < TINY);
            let expected = plain.grad.select(Axis(0), &order).select(Axis(1), &order);
            prop_assert!(distance(&found.grad, &expected) < TINY);
        }
        let (a, b) = (diagnostics(logps.view()).unwrap(), diagnostics(permuted.view()).unwrap());
        prop_assert_eq!((a.accuracy_row, a.accuracy_col), (b.accuracy_row, b.accuracy_col));
    }

    #[test]
    fn transposition_exchanges_the_terms(logps in square(1..12, 6.0)) {
        let row = one_sided(Side::OverResponses).loss_and_grad(logps.view()).unwrap();
        let col = one_sided(Side::OverConstitutions).loss_and_grad(logps.t()).unwrap();
        prop_assert!((row.loss - col.loss).abs() < TINY);
        prop_assert!(distance(&row.grad.t().to_owned(), &col.grad) < TINY);
    }

    #[test]
    fn gradient_against_central_differences((logps, targets) in with_targets(4.0)) {
        let step = 1e-5;
        for objective in objectives() {
            let grad = objective.loss_and_grad_with_targets(logps.view(), &targets).unwrap().grad;
            for at in [(0, 0), (logps.nrows() - 1, logps.ncols() / 2), (targets[0], 0)] {
                let loss = |delta: f64| {
                    let mut moved = logps.clone();
                    moved[at] += delta;
                    objective.loss_with_targets(moved.view(), &targets).unwrap()
                };
                let difference = (loss(step) - loss(-step)) / (2.0 * step);
                prop_assert!((difference - grad[at]).abs() < 1e-8, "{difference} {}", grad[at]);
            }
        }
    }

    #[test]
    fn sums_of_the_gradient(logps in square(1..14, 6.0)) {
        let row = one_sided(Side::OverResponses).loss_and_grad(logps.view()).unwrap().grad;
        let col = one_sided(Side::OverConstitutions).loss_and_grad(logps.view()).unwrap().grad;
        let both = Objective::default().loss_and_grad(logps.view()).unwrap().grad;
        prop_assert!(row.sum_axis(Axis(1)).iter().all(|sum| sum.abs() < TINY));
        prop_assert!(col.sum_axis(Axis(0)).iter().all(|sum| sum.abs() < TINY));
        prop_assert!(both.sum().abs() < TINY);
        prop_assert!(distance(&both, &((&row + &col) * 0.5)) < TINY);
    }

    #[test]
    fn raising_a_diagonal_entry_never_raises_the_loss(logps in square(1..12, 8.0), at in any::<prop::sample::Index>(), by in 0.0..20.0) {
        let at = at.index(logps.nrows());
        let mut raised = logps.clone();
        raised[[at, at]] += by;
        for objective in objectives() {
            let found = objective.loss_and_grad(logps.view()).unwrap();
            prop_assert!(objective.loss(raised.view()).unwrap() <= found.loss + TINY);
            prop_assert!(found.grad[[at, at]] <= TINY);
        }
    }

    #[test]
    fn a_constant_matrix_is_at_chance(c in 1..40usize, value in -900.0..0.0) {
        let logps = Array2::from_elem((c, c), value);
        let ln_c = (c as f64).ln();
        let loss: f64 = Objective::default().loss(logps.view()).unwrap();
        prop_assert!((loss - ln_c).abs() < TINY);
        prop_assert!(mutual_information(logps.view()).unwrap().two_sided.abs() < TINY);
        let seen = diagnostics(logps.view()).unwrap();
        prop_assert!((seen.accuracy_row - 1.0 / c as f64).abs() < TINY);
        prop_assert!((seen.accuracy_col - 1.0 / c as f64).abs() < TINY);
    }

    #[test]
    fn a_sharper_identity_tends_to_zero(c in 2..20usize) {
        let mut before = f64::INFINITY;
        for sharpness in [0.0, 1.0, 4.0, 10.0, 40.0, 1000.0] {
            let loss = Objective::default().loss((Array2::eye(c) * sharpness).view()).unwrap();
            prop_assert!(loss < before || loss == 0.0);
            before = loss;
        }
        prop_assert!(before == 0.0);
    }

    #[test]
    fn batch_is_the_mean_of_singles(c in 1..14usize, b in 1..40usize, seed in any::<u64>()) {
        let mut state = seed | 1;
        let logps = Array3::from_shape_simple_fn((b, c, c), || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / 1e8
        });
        for objective in objectives() {
            let batch = objective.batch_loss_and_grad(logps.view()).unwrap();
            let mut mean = 0.0;
            for (q, matrix) in logps.outer_iter().enumerate() {
                let single = objective.loss_and_grad(matrix).unwrap();
                mean += single.loss / b as f64;
                prop_assert_eq!(batch.per_query[q], single.loss);
                prop_assert!(distance(&(batch.grad.slice(s![q, .., ..]).to_owned() * b as f64), &single.grad) < 1e-14);
            }
            prop_assert!((batch.loss - mean).abs() < TINY);
            let singles: Vec<_> = logps.outer_iter().map(Contrast::new).collect();
            let ragged = objective.ragged_loss_and_grad(&singles).unwrap();
            prop_assert_eq!(&ragged.per_query, &batch.per_query);
            prop_assert_eq!(ragged.loss, batch.loss);
            for (q, grad) in ragged.grads.iter().enumerate() {
                prop_assert_eq!(grad, &batch.grad.slice(s![q, .., ..]));
            }
        }
    }

    #[test]
    fn merged_accumulators_equal_one_pass(values in proptest::collection::vec(-5.0..0.7f64, 1..60), cut in any::<prop::sample::Index>()) {
        let query = |&own: &f64| mutual_information(ndarray::array![[own, 0.0], [0.3, own]].view()).unwrap();
        let of = |part: &[f64]| {
            let mut sum = MiAccumulator::new();
            part.iter().for_each(|own| sum.push(&query(own)));
            sum
        };
        let cut = cut.index(values.len());
        let (mut left, right) = (of(&values[..cut]), of(&values[cut..]));
        left.merge(&right);
        let (merged, whole) = (left.finish().unwrap(), of(&values).finish().unwrap());
        prop_assert_eq!(merged.n, values.len() as u64);
        let figures: Vec<f64> = values.iter().map(|own| query(own).constitutions).collect();
        let mean = figures.iter().sum::<f64>() / figures.len() as f64;
        prop_assert!((whole.constitutions.mean - mean).abs() < TINY);
        for (a, b) in [(merged.constitutions, whole.constitutions), (merged.responses, whole.responses), (merged.two_sided, whole.two_sided)] {
            prop_assert!((a.mean - b.mean).abs() < TINY);
            match (a.standard_error, b.standard_error) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < TINY),
                (a, b) => prop_assert!(a.is_none() && b.is_none() && values.len() == 1),
            }
        }
        if values.len() > 1 {
            let n = figures.len() as f64;
            let variance = figures.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / (n - 1.0);
            prop_assert!((whole.constitutions.standard_error.unwrap() - (variance / n).sqrt()).abs() < TINY);
        }
    }
}
