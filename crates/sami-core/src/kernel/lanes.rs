//! Vectors of log-probabilities: the few operations that the kernel needs, for `f32` and `f64`.
//!
//! `f32` runs on the widest instruction set that the processor offers (AVX-512, AVX2, NEON, WebAssembly SIMD, else
//! plain code), chosen at run time by `rten-simd`, with the exponential of `rten-vecmath` (at most 1 ulp off the
//! standard library's). No crate on stable Rust offers that for `f64`, so there the arithmetic is left to the
//! compiler's vectoriser under the same instruction set, and the exponential is the standard library's.

use std::f32::consts::LN_2;

use rten_simd::ops::{FloatOps, IntOps, NumOps, ToFloat};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};
use rten_vecmath::Exp;

use crate::Element;

/// A piece of work over vectors of `F`.
#[allow(unreachable_pub, reason = "it stands in the signature of a sealed public trait")]
pub trait Job<F> {
    /// What it answers.
    type Output;
    /// Does it. Implementations are `#[inline(always)]`, so that all of it is compiled for the instruction set.
    fn run<L: Lanes<E = F>>(self, lanes: L) -> Self::Output;
}

/// Operations on vectors of [`Lanes::width`] elements. Comparisons with NaN are left open, as processors differ.
#[allow(unreachable_pub, reason = "as Job, whose signature it stands in")]
pub trait Lanes: Copy {
    /// The element.
    type E: Element;
    /// The vector.
    type V: Copy;

    /// How many sums in the range of a common reference multiply without leaving the element's range.
    const LANE_LOG_GROUP: usize;

    /// Elements per vector.
    fn width(self) -> usize;
    /// The same value in every lane.
    fn splat(self, value: Self::E) -> Self::V;
    /// The first `width` elements.
    fn load(self, from: &[Self::E]) -> Self::V;
    /// Fewer than `width` elements, and `pad` in the lanes behind them.
    fn load_part(self, from: &[Self::E], pad: Self::E) -> Self::V;
    /// Writes the first `width` elements.
    fn store(self, vector: Self::V, to: &mut [Self::E]);
    /// Writes as many elements as `to` has, which are fewer than `width`.
    fn store_part(self, vector: Self::V, to: &mut [Self::E]);
    /// Asks for the cache line of `from[at]`, if there is such an entry, before it is needed.
    fn prefetch(self, from: &[Self::E], at: usize);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// e^a: 0 at −∞, +∞ at +∞, NaN at NaN.
    fn exp(self, a: Self::V) -> Self::V;
    /// e^a, or 0 where that is below the smallest normal number: processors take a hundred cycles for numbers below it.
    fn exp_or_zero(self, a: Self::V) -> Self::V;
    /// ln a of a normal positive number.
    fn ln(self, a: Self::V) -> Self::V;
    /// Sum over lanes.
    fn sum(self, a: Self::V) -> Self::E;
    /// Largest lane.
    fn largest(self, a: Self::V) -> Self::E;
}

/// Vectors of `f32` on the instruction set `I`.
#[derive(Clone, Copy)]
pub(crate) struct F32Lanes<I>(pub(crate) I);

impl<I: Isa> Lanes for F32Lanes<I> {
    type E = f32;
    type V = I::F32;
    const LANE_LOG_GROUP: usize = 4; // 2^-92 to 2^104

    #[inline(always)]
    fn width(self) -> usize {
        self.0.f32().len()
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        self.0.f32().splat(value)
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        self.0.f32().load(from)
    }
    #[inline(always)]
    fn load_part(self, from: &[f32], pad: f32) -> Self::V {
        let ops = self.0.f32();
        let (vector, mask) = ops.load_pad(from);
        ops.select(vector, ops.splat(pad), mask)
    }
    #[inline(always)]
    fn store(self, vector: Self::V, to: &mut [f32]) {
        self.0.f32().store(vector, to);
    }
    #[inline(always)]
    fn store_part(self, vector: Self::V, to: &mut [f32]) {
        let array = vector.to_array();
        let n = to.len();
        to.copy_from_slice(&array.as_ref()[..n]);
    }
    #[inline(always)]
    fn prefetch(self, from: &[f32], at: usize) {
        if let Some(entry) = from.get(at) {
            self.0.f32().prefetch(entry);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.f32().add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.f32().sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.f32().mul(a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.f32().div(a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.f32().max(a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.f32().min(a, b)
    }
    #[inline(always)]
    fn exp(self, a: Self::V) -> Self::V {
        let ops = self.0.f32();
        if ops.len() > 4 {
            return Exp::apply(self.0, a);
        }
        // Below −105 the result is 0 anyway; without the bound, the crate's plain-code variant (of width 4) overflows an
        // integer there, which builds with overflow checks turn into a panic. A select, unlike `max`, keeps NaN.
        let bound = ops.splat(-105.0);
        Exp::apply(self.0, ops.select(bound, a, ops.lt(a, bound)))
    }
    #[inline(always)]
    fn exp_or_zero(self, a: Self::V) -> Self::V {
        let ops = self.0.f32();
        let (zero, below) = (ops.zero(), ops.lt(a, ops.splat(-87.3)));
        ops.select(zero, Exp::apply(self.0, ops.select(zero, a, below)), below)
    }
    /// The inverse of [`Lanes::exp`]: a guess from the exponent and a parabola in the mantissa, .0035 off at most, then one
    /// step of Halley's method on e^y = a, which leaves a twelfth of the cube of that and the exponential's own rounding:
    /// at most 2 ulp of 1 plus an ulp of the result.
    #[inline(always)]
    fn ln(self, a: Self::V) -> Self::V {
        let (ops, int_ops) = (self.0.f32(), self.0.i32());
        let bits: I::I32 = a.reinterpret_cast();
        let exponent = int_ops.sub(int_ops.shift_right::<23>(bits), int_ops.splat(127));
        let mantissa = int_ops.or(int_ops.and(bits, int_ops.splat(0x007f_ffff)), int_ops.splat(0x3f80_0000));
        let mantissa: I::F32 = mantissa.reinterpret_cast();
        // The parabola nearest to ln on [1, 2]: its largest error there is least.
        let slope = ops.mul_add(mantissa, ops.splat(-0.239_030_72), ops.splat(1.403_391_4));
        let of_mantissa = ops.mul_add(mantissa, slope, ops.splat(-1.160_936_7));
        let guess = ops.mul_add(int_ops.to_float(exponent), ops.splat(LN_2), of_mantissa);
        let (one, ratio) = (ops.one(), ops.mul(a, Exp::apply(self.0, ops.neg(guess))));
        let half_step = ops.div(ops.sub(ratio, one), ops.add(ratio, one));
        ops.add(guess, ops.add(half_step, half_step))
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        self.0.f32().sum(a)
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f32 {
        self.0.f32().fold_splat(a, f32::NEG_INFINITY, f32::max).to_array()[0]
    }
}

/// `f64` lanes per vector: one AVX-512 register, two AVX2 ones, four of SSE2 or NEON.
const F64_LANES: usize = 8;

/// Vectors of `f64`.
#[derive(Clone, Copy)]
pub(crate) struct F64Lanes;

#[inline(always)]
fn map(a: [f64; F64_LANES], b: [f64; F64_LANES], op: impl Fn(f64, f64) -> f64) -> [f64; F64_LANES] {
    std::array::from_fn(
        #[inline(always)]
        |lane| op(a[lane], b[lane]),
    )
}

impl Lanes for F64Lanes {
    type E = f64;
    type V = [f64; F64_LANES];
    const LANE_LOG_GROUP: usize = 2; // 2^-738 to 2^744

    #[inline(always)]
    fn width(self) -> usize {
        F64_LANES
    }
    #[inline(always)]
    fn splat(self, value: f64) -> Self::V {
        [value; F64_LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f64]) -> Self::V {
        let mut vector = [0.0; F64_LANES];
        vector.copy_from_slice(&from[..F64_LANES]);
        vector
    }
    #[inline(always)]
    fn load_part(self, from: &[f64], pad: f64) -> Self::V {
        let mut vector = [pad; F64_LANES];
        vector[..from.len()].copy_from_slice(from);
        vector
    }
    #[inline(always)]
    fn store(self, vector: Self::V, to: &mut [f64]) {
        to[..F64_LANES].copy_from_slice(&vector);
    }
    #[inline(always)]
    fn store_part(self, vector: Self::V, to: &mut [f64]) {
        let n = to.len();
        to.copy_from_slice(&vector[..n]);
    }
    /// The exponential takes longer than memory here.
    #[inline(always)]
    fn prefetch(self, _: &[f64], _: usize) {}
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, f64::max)
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, f64::min)
    }
    #[inline(always)]
    fn exp(self, a: Self::V) -> Self::V {
        a.map(f64::exp)
    }
    #[inline(always)]
    fn exp_or_zero(self, a: Self::V) -> Self::V {
        a.map(f64::exp)
    }
    #[inline(always)]
    fn ln(self, a: Self::V) -> Self::V {
        a.map(f64::ln)
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f64 {
        a.iter().sum()
    }
    #[inline(always)]
    fn largest(self, a: Self::V) -> f64 {
        a.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

struct OnF32<J>(J);

impl<J: Job<f32>> SimdOp for OnF32<J> {
    type Output = J::Output;
    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> J::Output {
        self.0.run(F32Lanes(isa))
    }
}

struct OnF64<J>(J);

impl<J: Job<f64>> SimdOp for OnF64<J> {
    type Output = J::Output;
    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> J::Output {
        self.0.run(F64Lanes)
    }
}

/// Runs a job over `f32` on the best instruction set.
pub(crate) fn run_f32<J: Job<f32>>(job: J) -> J::Output {
    OnF32(job).dispatch()
}

/// Runs a job over `f64`, compiled for the best instruction set.
pub(crate) fn run_f64<J: Job<f64>>(job: J) -> J::Output {
    OnF64(job).dispatch()
}
