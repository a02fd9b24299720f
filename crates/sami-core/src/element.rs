//! The two floating-point types of log-probabilities.

mod sealed {
    /// Keeps [`super::Element`] closed: the error bounds are stated for these two types only.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A type that log-probabilities come in: `f32` or `f64`. Sealed.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialOrd + Send + Sync + std::fmt::Debug + 'static
{
    /// Widens to `f64`, exactly.
    fn to_f64(self) -> f64;
    /// Rounds to the nearest.
    fn from_f64(value: f64) -> Self;
}

impl Element for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Element for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}
