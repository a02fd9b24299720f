//! From per-token log-probabilities to one entry of the contrast matrix.

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis};

use crate::objective::same_shape;
use crate::{Element, Error};

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

    /// The reduced log-probabilities of B responses, from those of their tokens: `[B, T]` to `[B]`.
    ///
    /// `response_mask` is true where a token is counted: the response's own tokens, not the prompt's and not padding.
    /// What stands elsewhere in `per_token_logps` is never looked at. A counted token of −∞ makes its response −∞, which
    /// the objective accepts under another constitution. Sums are made in `f64`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`]; [`Error::EmptyResponse`] for a response without a counted token; [`Error::Token`] for a counted
    /// NaN or +∞.
    pub fn reduce<F: Element>(
        &self,
        per_token_logps: ArrayView2<'_, F>,
        response_mask: ArrayView2<'_, bool>,
    ) -> Result<Array1<F>, Error> {
        same_shape("response_mask", response_mask.shape(), per_token_logps.shape())?;
        let mut reduced = Vec::with_capacity(per_token_logps.nrows());
        let rows = per_token_logps.outer_iter().zip(response_mask.outer_iter());
        for (response, (logps, mask)) in rows.enumerate() {
            let (mut sum, mut tokens) = (0.0, 0);
            for (token, (logp, _)) in
                logps.iter().zip(&mask).enumerate().filter(|(_, (_, counted))| **counted)
            {
                let value = logp.to_f64();
                if value.is_nan() || value == f64::INFINITY {
                    let (what, needs) =
                        ("per_token_logps", "a counted token needs a number, at most 0 or −∞");
                    return Err(Error::Token { what, response, token, value, needs });
                }
                sum += value;
                tokens += 1;
            }
            if tokens == 0 {
                return Err(Error::EmptyResponse { response });
            }
            reduced.push(F::from_f64(sum * self.weight(tokens)));
        }
        Ok(Array1::from_vec(reduced))
    }

    /// The chain rule of [`Reduction::reduce`]: from ∂loss/∂reduced `[B]` to ∂loss/∂per_token_logps `[B, T]`.
    ///
    /// A framework back-propagates with one weighted sum: the gradient of Σ weights ⊙ per_token_logps, with the weights
    /// held constant, is the gradient of the loss. Tokens that are not counted weigh 0.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::EmptyResponse`].
    pub fn token_weights<F: Element>(
        &self,
        grad: ArrayView1<'_, F>,
        response_mask: ArrayView2<'_, bool>,
    ) -> Result<Array2<F>, Error> {
        same_shape("grad", grad.shape(), &response_mask.shape()[..1])?;
        let mut weights = Array2::from_elem(response_mask.dim(), F::default());
        let rows = weights.outer_iter_mut().zip(response_mask.outer_iter()).zip(&grad);
        for (response, ((mut weights, mask), g)) in rows.enumerate() {
            let tokens = mask.iter().filter(|counted| **counted).count();
            if tokens == 0 {
                return Err(Error::EmptyResponse { response });
            }
            let weight = F::from_f64(g.to_f64() * self.weight(tokens));
            for (to, _) in weights.iter_mut().zip(&mask).filter(|(_, counted)| **counted) {
                *to = weight;
            }
        }
        Ok(weights)
    }

    /// The contrast matrix L [C, R] of a query, from per-token log-probabilities [C, R, T]: entry (c, r, t) is
    /// log π(token t of response r | its predecessors, query, constitution c). The mask has the same shape, as a response
    /// may fall into other tokens after another prompt; where it does not depend on c, broadcast it.
    ///
    /// # Errors
    ///
    /// As [`Reduction::reduce`], in [`Error::InConstitution`].
    pub fn matrix<F: Element>(
        &self,
        per_token_logps: ArrayView3<'_, F>,
        response_mask: ArrayView3<'_, bool>,
    ) -> Result<Array2<F>, Error> {
        same_shape("response_mask", response_mask.shape(), per_token_logps.shape())?;
        let (c, r, _) = per_token_logps.dim();
        let mut matrix = Array2::from_elem((c, r), F::default());
        for row in 0..c {
            let (logps, mask) =
                (per_token_logps.index_axis(Axis(0), row), response_mask.index_axis(Axis(0), row));
            let reduced = self.reduce(logps, mask).map_err(|error| error.in_constitution(row))?;
            matrix.row_mut(row).assign(&reduced);
        }
        Ok(matrix)
    }

    /// The chain rule of [`Reduction::matrix`]: from G = ∂loss/∂L [C, R] to the weight of each token's log-probability
    /// [C, R, T], as in [`Reduction::token_weights`].
    ///
    /// # Errors
    ///
    /// As [`Reduction::token_weights`], in [`Error::InConstitution`].
    pub fn matrix_token_weights<F: Element>(
        &self,
        grad: ArrayView2<'_, F>,
        response_mask: ArrayView3<'_, bool>,
    ) -> Result<Array3<F>, Error> {
        same_shape("grad", grad.shape(), &response_mask.shape()[..2])?;
        let mut weights = Array3::from_elem(response_mask.dim(), F::default());
        for (row, mut to) in weights.outer_iter_mut().enumerate() {
            let of_row = self
                .token_weights(grad.row(row), response_mask.index_axis(Axis(0), row))
                .map_err(|error| error.in_constitution(row))?;
            to.assign(&of_row);
        }
        Ok(weights)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::LengthWeighted { exponent } if !exponent.is_finite() => Err(Error::Exponent(exponent)),
            _ => Ok(()),
        }
    }
}
