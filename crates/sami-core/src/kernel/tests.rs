//! Every instruction set that this processor has, not only the one that calls would choose.

use rten_simd::isa::GenericIsa;
use rten_simd::{Isa, SimdOp};

use super::blocks::{Blocks, Op};
use super::lanes::{F32Lanes, F64Lanes, Job, Lanes};
use super::small::Small;
use super::terms::{Losses, Weights};

/// Runs a check on each of them.
fn on_every_isa(check: impl Check + Copy) {
    check.run(F32Lanes(GenericIsa::new()));
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
            check.run(F32Lanes(isa));
        }
    }
    OnBest(check).dispatch();
}

trait Check {
    fn run<I: Isa>(self, lanes: F32Lanes<I>);
}

struct OnBest<C>(C);

impl<C: Check> SimdOp for OnBest<C> {
    type Output = ();
    fn eval<I: Isa>(self, isa: I) {
        self.0.run(F32Lanes(isa));
    }
}

fn each<L: Lanes<E = f32>>(lanes: L, inputs: &[f32], op: impl Fn(L::V) -> L::V) -> Vec<f32> {
    let w = lanes.width();
    let mut out = vec![0.0; inputs.len()];
    for (x, y) in inputs.chunks(w).zip(out.chunks_mut(w)) {
        let vector = if x.len() == w { lanes.load(x) } else { lanes.load_part(x, 1.0) };
        let result = op(vector);
        if y.len() == w { lanes.store(result, y) } else { lanes.store_part(result, y) }
    }
    out
}

#[derive(Clone, Copy)]
struct Exponential;

impl Check for Exponential {
    fn run<I: Isa>(self, lanes: F32Lanes<I>) {
        let inputs: Vec<f32> = (0..40_003).map(|i| 20.0 - i as f32 * 0.002_7).collect();
        for (x, y) in inputs.iter().zip(each(lanes, &inputs, |v| lanes.exp(v))) {
            let exact = f64::from(*x).exp();
            if exact < f64::from(f32::MIN_POSITIVE) {
                assert!(f64::from(y) <= 2.0 * exact.max(1e-45), "e^{x} = {y:e}");
            } else {
                assert!((f64::from(y) / exact - 1.0).abs() < 1.5e-7, "e^{x} = {y:e}, {exact:e}");
            }
        }
        let special =
            [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e9, f32::MIN, f32::MAX, 0.0, -0.0, -1e-42, 89.0];
        let found = each(lanes, &special, |v| lanes.exp(v));
        assert!(found[2].is_nan() && each(lanes, &special, |v| lanes.exp_or_zero(v))[2].is_nan());
        let expected = [0.0, f32::INFINITY, f32::NAN, 0.0, 0.0, f32::INFINITY, 1.0, 1.0, 1.0, f32::INFINITY];
        for (i, (found, expected)) in found.iter().zip(expected).enumerate().filter(|(i, _)| *i != 2) {
            assert_eq!(*found, expected, "e^{}", special[i]);
        }
    }
}

#[derive(Clone, Copy)]
struct Logarithm;

impl Check for Logarithm {
    fn run<I: Isa>(self, lanes: F32Lanes<I>) {
        // 2^-100 to 2^110, which products of sums stay within.
        let inputs: Vec<f32> = (0..50_021).map(|i| (-100.0 + f64::from(i) * 0.004_2).exp2() as f32).collect();
        for (x, y) in inputs.iter().zip(each(lanes, &inputs, |v| lanes.ln(v))) {
            let exact = f64::from(*x).ln();
            let bound = f64::from(f32::EPSILON) * (2.0 + 0.5 * exact.abs());
            assert!((f64::from(y) - exact).abs() < bound, "ln {x:e} = {y}, {exact}");
        }
    }
}

/// A little of everything: some matrices within the common range, one beyond it.
fn batch(c: usize, n: usize) -> Vec<f32> {
    let mut state = 77u64;
    let entry = |i: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let scale = if i / (c * c) == n / 2 { 400.0 } else { 5.0 };
        (state >> 40) as f32 / (1u64 << 24) as f32 * -scale
    };
    (0..n * c * c).map(entry).collect()
}

#[derive(Clone, Copy)]
struct SmallMatrices;

impl Check for SmallMatrices {
    fn run<I: Isa>(self, lanes: F32Lanes<I>) {
        let weights = Weights { rows: 0.4, cols: 0.6 };
        for c in 1..=super::LARGEST {
            let n = 21;
            let logps = batch(c, n);
            let (mut losses, mut grads) = (vec![0.0; n], vec![0.0; n * c * c]);
            let sink = Losses { weights, losses: &mut losses };
            Small { c, logps: &logps, weights, divisor: 1.0, grads: &mut grads, sink }
                .groups::<_, 0>(lanes)
                .unwrap();
            let wide: Vec<f64> = logps.iter().map(|l| f64::from(*l)).collect();
            let (mut exact_losses, mut exact) = (vec![0.0; n], vec![0.0; n * c * c]);
            let sink = Losses { weights, losses: &mut exact_losses };
            Small { c, logps: &wide, weights, divisor: 1.0, grads: &mut exact, sink }
                .groups::<_, 0>(F64Lanes)
                .unwrap();
            for (loss, exact) in losses.iter().zip(exact_losses) {
                assert!((f64::from(*loss) - exact).abs() < 3e-6 + 1e-7 * exact, "C = {c}: {loss} {exact}");
            }
            for (g, exact) in grads.iter().zip(exact) {
                assert!((f64::from(*g) - exact).abs() < 3e-6 / c as f64, "C = {c}: {g} {exact}");
            }
        }
    }
}

#[derive(Clone, Copy)]
struct OneBlock;

impl Check for OneBlock {
    fn run<I: Isa>(self, lanes: F32Lanes<I>) {
        for cols in [9, 16, 17, 31, 64, 70] {
            let rows = 12;
            let logps: Vec<f32> = batch(1, rows * cols).iter().map(|l| l.max(-9.0)).collect();
            let padded = cols.next_multiple_of(super::blocks::PAD);
            let (mut sums, mut partial, mut out) =
                (vec![0.0; rows], vec![0.0; padded], vec![0.0; logps.len()]);
            Blocks {
                logps: &logps,
                rows: &mut sums,
                partial: &mut partial,
                out: &mut out,
                ..Blocks::new(Op::Sweep { shift: -1.0 }, cols)
            }
            .run(lanes);
            let e = |i: usize, j: usize| (f64::from(logps[i * cols + j]) + 1.0).exp();
            for (i, sum) in sums.iter().enumerate() {
                let exact: f64 = (0..cols).map(|j| e(i, j)).sum();
                assert!((f64::from(*sum) / exact - 1.0).abs() < 2e-6, "{cols} columns, row {i}");
            }
            for (j, sum) in partial[..cols].iter().enumerate() {
                let exact: f64 = (0..rows).map(|i| e(i, j)).sum();
                assert!((f64::from(*sum) / exact - 1.0).abs() < 2e-6, "{cols} columns, column {j}");
            }
            for (at, found) in out.iter().enumerate() {
                assert!((f64::from(*found) / e(at / cols, at % cols) - 1.0).abs() < 2e-6);
            }
        }
    }
}

#[test]
fn exponential() {
    on_every_isa(Exponential);
}

#[test]
fn logarithm() {
    on_every_isa(Logarithm);
}

#[test]
fn small_matrices() {
    on_every_isa(SmallMatrices);
}

#[test]
fn one_block() {
    on_every_isa(OneBlock);
}
