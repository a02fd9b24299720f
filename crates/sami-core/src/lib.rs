//! The SAMI objective (contract in progress).
use thiserror::Error;

/// How per-token log-probabilities become one entry of the contrast matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduction {
    /// Mean over tokens.
    Mean,
    /// Sum over tokens.
    Sum,
    /// Sum divided by tokens^exponent.
    LengthWeighted {
        /// The exponent.
        exponent: f64,
    },
}

impl Reduction {
    /// The factor that turns a sum over `tokens` tokens into the reduced value.
    pub fn weight(&self, tokens: usize) -> f64 {
        match *self {
            Self::Mean => 1.0 / tokens as f64,
            Self::Sum => 1.0,
            Self::LengthWeighted { exponent } => (tokens as f64).powf(-exponent),
        }
    }
}

/// What is wrong with an input.
#[derive(Debug, Error)]
pub enum Error {
    /// Not square.
    #[error("not square")]
    NotSquare,
}
