//! Buffers of the caller, layouts in memory, threads, files.
#![allow(clippy::unwrap_used, reason = "what fails in a test is to be seen")]

mod common;

use allocation_counter::measure;
use common::objectives;
use ndarray::{Array2, Array3, ArrayViewMut2, Axis, s};
use sami_core::{Contrast, Error, MutualInformation, Objective, Workspace, mutual_information};

fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed | 1;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 * -6.0
    }
}

fn matrix(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, cols), numbers(seed))
}

#[test]
fn into_gives_the_same_bits() {
    let mut workspace = Workspace::new();
    for c in [2, 5, 8, 9, 40, 3] {
        let logps = matrix(c, c, 3);
        for objective in objectives() {
            let expected = objective.loss_and_grad(logps.view()).unwrap();
            let mut grad = Array2::from_elem((c, c), f32::NAN);
            let loss = objective.loss_and_grad_into(logps.view(), grad.view_mut(), &mut workspace).unwrap();
            assert_eq!((loss, grad), (expected.loss, expected.grad));
        }
    }
    let (logps, targets) = (matrix(3, 11, 4), [2, 0, 1, 1, 2, 0, 0, 0, 1, 2, 1]);
    let expected = Objective::default().loss_and_grad_with_targets(logps.view(), &targets).unwrap();
    let mut grad = Array2::zeros((3, 11));
    let contrast = Contrast::with_targets(logps.view(), &targets);
    let loss = Objective::default().loss_and_grad_into(contrast, grad.view_mut(), &mut workspace).unwrap();
    assert_eq!((loss, grad), (expected.loss, expected.grad));
}

#[test]
fn any_layout_in_memory() {
    for c in [3, 12] {
        let wide = matrix(2 * c, 3 * c, 9);
        let strided = wide.slice(s![..;2, ..;3]);
        let plain = strided.to_owned();
        let expected = Objective::default().loss_and_grad(plain.view()).unwrap();
        assert_eq!(Objective::default().loss_and_grad(strided).unwrap(), expected);
        let mut wide_grad = Array2::<f32>::zeros((2 * c, 3 * c));
        let grad = wide_grad.slice_mut(s![..;2, ..;3]);
        Objective::default().loss_and_grad_into(strided, grad, &mut Workspace::new()).unwrap();
        assert_eq!(wide_grad.slice(s![..;2, ..;3]), expected.grad);
        assert!(wide_grad.slice(s![1..;2, ..]).iter().all(|g| *g == 0.0));

        let batch = Array3::from_shape_simple_fn((c, c, 5), numbers(2));
        let turned = batch.view().permuted_axes([2, 0, 1]);
        let expected = Objective::default().batch_loss_and_grad(turned.to_owned().view()).unwrap();
        assert_eq!(Objective::default().batch_loss_and_grad(turned).unwrap(), expected);
        let (mut grad, mut losses) = (Array3::zeros((c, c, 5)), vec![0.0; 5]);
        Objective::default()
            .batch_loss_and_grad_into(
                turned,
                &mut losses,
                grad.view_mut().permuted_axes([2, 0, 1]),
                &mut Workspace::new(),
            )
            .unwrap();
        assert_eq!(grad.permuted_axes([2, 0, 1]), expected.grad);
        assert_eq!(losses, expected.per_query);
    }
}

#[test]
fn from_the_second_call_on_nothing_is_allocated() {
    let objective = Objective::default();
    for c in [2, 8, 12, 70] {
        let (logps, mut grad, mut workspace) = (matrix(c, c, 1), Array2::zeros((c, c)), Workspace::new());
        let mut single =
            || objective.loss_and_grad_into(logps.view(), grad.view_mut(), &mut workspace).unwrap();
        single();
        assert_eq!(measure(|| _ = single()).count_total, 0, "one matrix, C = {c}");

        let batch = Array3::from_shape_simple_fn((3, c, c), numbers(8));
        let (mut losses, mut grads, mut workspace) = ([0.0; 3], Array3::zeros((3, c, c)), Workspace::new());
        let mut batched = || {
            objective
                .batch_loss_and_grad_into(batch.view(), &mut losses, grads.view_mut(), &mut workspace)
                .unwrap()
        };
        batched();
        assert_eq!(measure(|| _ = batched()).count_total, 0, "a batch, C = {c}");

        let queries: Vec<_> = batch.outer_iter().map(Contrast::new).collect();
        let mut views: Vec<ArrayViewMut2<'_, f32>> = grads.outer_iter_mut().collect();
        let mut workspace = Workspace::new();
        let mut ragged = || {
            objective.ragged_loss_and_grad_into(&queries, &mut losses, &mut views, &mut workspace).unwrap()
        };
        ragged();
        assert_eq!(measure(|| _ = ragged()).count_total, 0, "ragged, C = {c}");
    }
}

#[test]
fn buffers_of_the_wrong_shape() {
    let (logps, mut workspace) = (Array3::<f32>::zeros((3, 2, 2)), Workspace::new());
    let objective = Objective::default();
    let mut grad = Array3::zeros((3, 2, 2));
    let error = objective
        .batch_loss_and_grad_into(logps.view(), &mut [0.0; 2], grad.view_mut(), &mut workspace)
        .unwrap_err();
    assert_eq!(error.to_string(), "per_query has shape [2], expected [3]");
    let mut grad = Array3::zeros((3, 2, 1));
    let error = objective
        .batch_loss_and_grad_into(logps.view(), &mut [0.0; 3], grad.view_mut(), &mut workspace)
        .unwrap_err();
    assert_eq!(error.to_string(), "grad has shape [3, 2, 1], expected [3, 2, 2]");
    let queries: Vec<_> = logps.outer_iter().map(Contrast::new).collect();
    let error =
        objective.ragged_loss_and_grad_into(&queries, &mut [0.0; 3], &mut [], &mut workspace).unwrap_err();
    assert_eq!(error.to_string(), "grads has shape [0], expected [3]");
    assert_eq!(objective.ragged_loss::<f32>(&[]).unwrap_err(), Error::EmptyBatch);
}

#[test]
fn ragged_of_many_shapes() {
    let shapes = [2, 3, 9, 2, 17, 8, 5, 64, 4];
    let matrices: Vec<_> = shapes.iter().map(|&c| matrix(c, c, c as u64)).collect();
    let wide = matrix(4, 12, 99);
    let targets: Vec<usize> = (0..12).map(|r| r / 3).collect();
    let mut queries: Vec<_> = matrices.iter().map(|m| Contrast::new(m.view())).collect();
    queries.push(Contrast::with_targets(wide.view(), &targets));
    for objective in objectives() {
        let found = objective.ragged_loss_and_grad(&queries).unwrap();
        let n = queries.len() as f32;
        let mut mean = 0.0;
        for (q, query) in queries.iter().enumerate() {
            let single = match q {
                9 => objective.loss_and_grad_with_targets(query.logps(), &targets).unwrap(),
                _ => objective.loss_and_grad(query.logps()).unwrap(),
            };
            assert_eq!(found.per_query[q], single.loss);
            for (of_batch, of_one) in found.grads[q].iter().zip(&single.grad) {
                assert!((of_batch * n - of_one).abs() < 1e-6);
            }
            mean += single.loss / n;
        }
        assert!((found.loss - mean).abs() < 1e-5);
        assert_eq!(objective.ragged_loss(&queries).unwrap().loss, found.loss);
    }
}

/// Large enough that blocks, parts and nested parallelism all occur.
#[cfg(feature = "rayon")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let large = matrix(400, 400, 6);
    let small = Array3::from_shape_simple_fn((9001, 3, 3), numbers(12));
    let medium = Array3::from_shape_simple_fn((90, 30, 30), numbers(13));
    let run = |threads| {
        pool(threads).install(|| {
            let objective = Objective::default();
            (
                objective.loss_and_grad(large.view()).unwrap(),
                objective.batch_loss_and_grad(small.view()).unwrap(),
                objective.batch_loss_and_grad(medium.view()).unwrap(),
            )
        })
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn the_order_of_queries_changes_no_query() {
    let batch = Array3::from_shape_simple_fn((100, 3, 3), numbers(21));
    let mut turned = batch.clone();
    turned.invert_axis(Axis(0));
    let forward = Objective::default().batch_loss_and_grad(batch.view()).unwrap();
    let backward = Objective::default().batch_loss_and_grad(turned.view()).unwrap();
    let mut grad = backward.grad;
    grad.invert_axis(Axis(0));
    assert_eq!(grad, forward.grad);
    assert!(backward.per_query.iter().rev().eq(&forward.per_query));
    assert!((backward.loss - forward.loss).abs() <= f32::EPSILON);
}

/// A query that needs the slow way leaves its neighbours' bits alone.
#[test]
fn neighbours_do_not_matter() {
    let mut batch = Array3::from_shape_simple_fn((33, 4, 4), numbers(31));
    let before = Objective::default().batch_loss_and_grad(batch.view()).unwrap();
    batch.index_axis_mut(Axis(0), 18).map_inplace(|l| *l *= 500.0);
    let after = Objective::default().batch_loss_and_grad(batch.view()).unwrap();
    for q in (0..33).filter(|q| *q != 18) {
        assert_eq!(before.per_query[q], after.per_query[q]);
        assert_eq!(before.grad.index_axis(Axis(0), q), after.grad.index_axis(Axis(0), q));
    }
    let single = Objective::default().loss(batch.index_axis(Axis(0), 18)).unwrap();
    assert_eq!(after.per_query[18], single);
}

#[test]
fn figures_in_bits() {
    let mi: MutualInformation = mutual_information(Array2::eye(4).view()).unwrap();
    assert_eq!(mi.to_bits().cap, 2.0);
}

#[cfg(feature = "serde")]
mod files {
    use sami_core::{MiAccumulator, Objective, Reduction, Side, mutual_information};

    #[test]
    fn an_objective_comes_back() {
        let objective = Objective::builder()
            .side(Side::TwoSided)
            .weights(0.25, 0.75)
            .reduction(Reduction::LengthWeighted { exponent: 0.5 })
            .check()
            .unwrap();
        let text = serde_json::to_string(&objective).unwrap();
        assert_eq!(serde_json::from_str::<Objective>(&text).unwrap(), objective);
        assert_eq!(serde_json::from_str::<Objective>("{}").unwrap(), Objective::default());
        let error = serde_json::from_str::<Objective>(
            r#"{"weights": {"over_responses": -1, "over_constitutions": 1}}"#,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "the weight of the term over_responses is -1; it must be a finite number, 0 or above"
        );
        assert!(serde_json::from_str::<Objective>(r#"{"sides": "two_sided"}"#).is_err());
    }

    #[test]
    fn an_accumulator_goes_on_where_it_stopped() {
        let query = |own: f64| mutual_information(ndarray::array![[own, 0.0], [0.0, own]].view()).unwrap();
        let (mut whole, mut part) = (MiAccumulator::new(), MiAccumulator::new());
        for own in [0.1, 0.5, 0.9] {
            whole.push(&query(own));
            part.push(&query(own));
        }
        let text = serde_json::to_string(&part).unwrap();
        let mut part: MiAccumulator = serde_json::from_str(&text).unwrap();
        for own in [1.5, 0.2] {
            whole.push(&query(own));
            part.push(&query(own));
        }
        assert_eq!(part, whole);
    }
}

/// Small matrices are interleaved on the stack. Threads of a pool have 2 MiB; builds without optimisation waste most.
#[test]
fn a_small_stack_is_enough() {
    let work = || {
        for c in [1, 2, 3, 4, 5, 6, 7, 8, 9, 40] {
            let spread = matrix(c, c, 1).mapv(|l| l * 200.0);
            for logps in [matrix(c, c, 1), spread] {
                Objective::default().loss_and_grad(logps.view()).unwrap();
                Objective::default().loss_and_grad(logps.mapv(f64::from).view()).unwrap();
                mutual_information(logps.mapv(f64::from).view()).unwrap();
            }
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}
