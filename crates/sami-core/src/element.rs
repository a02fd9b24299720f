//! The two floating-point types of log-probabilities.

pub(crate) mod sealed {
    use crate::kernel::Job;

    /// Keeps [`super::Element`] closed (the error bounds are stated for these two types only), and holds what the
    /// kernel needs to know of a type.
    pub trait Sealed: Sized + std::ops::Add<Output = Self> {
        /// −∞
        const NEG_INFINITY: Self;
        /// The least sum of e^(l − reference) over a row or column, and (as its inverse, per entry) the largest, up to
        /// which all rows and columns share one reference point. Entries that count are then within −ln LEAST nats of it,
        /// and rounding l − reference costs them a relative error of at most half an ulp of that number.
        const LEAST: f64;
        /// How many sums in that range multiply without leaving the range of `f64`.
        const LOG_GROUP: usize;
        /// Runs a job over vectors of this type.
        fn run<J: Job<Self>>(job: J) -> J::Output;
    }
}

use crate::kernel::{Job, run_f32, run_f64};
use sealed::Sealed;

/// A type that log-probabilities come in: `f32` or `f64`. Sealed.
pub trait Element: Sealed + Copy + Default + PartialOrd + Send + Sync + std::fmt::Debug + 'static {
    /// Widens to `f64`, exactly.
    fn to_f64(self) -> f64;
    /// Rounds to the nearest.
    fn from_f64(value: f64) -> Self;
}

impl Sealed for f32 {
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const LEAST: f64 = 1.0 / 8_388_608.0; // 2^−23, e^−15.9
    const LOG_GROUP: usize = 16;
    fn run<J: Job<Self>>(job: J) -> J::Output {
        run_f32(job)
    }
}

impl Sealed for f64 {
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const LEAST: f64 = f64::from_bits((1023 - 369) << 52); // 2^−369, e^−255.8
    const LOG_GROUP: usize = 2;
    fn run<J: Job<Self>>(job: J) -> J::Output {
        run_f64(job)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Element for f64 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }
}
