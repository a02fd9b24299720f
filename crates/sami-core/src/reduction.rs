//! From per-token log-probabilities to one entry of the contrast matrix.

use crate::Error;

/// How the log-probabilities of a response's tokens become its entry L[c, r].
///
/// Every reduction is a sum over the counted tokens times [`Reduction::weight`], so the same factor carries a gradient
/// with respect to L back to every token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Reduction {
    /// Mean over tokens, nats per token: what the paper trains with, and where its length bias comes from.
    #[default]
    Mean,
    /// Sum over tokens, nats: the log-probability of the whole response, which mutual information is about.
    Sum,
    /// Sum divided by tokens^exponent: 0 is the sum, 1 the mean, values between them weigh length in part.
    LengthWeighted {
        /// The exponent; finite.
        exponent: f64,
    },
}

impl Reduction {
    /// The factor that turns a sum over `tokens` tokens into the reduced value. A response without tokens has no mean:
    /// the factor is then +∞ for [`Reduction::Mean`], and the product with its empty sum is NaN, which the loss refuses.
    pub fn weight(&self, tokens: usize) -> f64 {
        match *self {
            Self::Mean => 1.0 / tokens as f64,
            Self::Sum => 1.0,
            Self::LengthWeighted { exponent } => (tokens as f64).powf(-exponent),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::LengthWeighted { exponent } if !exponent.is_finite() => Err(Error::Exponent(exponent)),
            _ => Ok(()),
        }
    }
}
