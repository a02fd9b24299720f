//! KL divergence from a reference, from the log-probabilities of sampled tokens.

use ndarray::{Array1, Array2, ArrayView2};

use crate::objective::same_shape;
use crate::{Element, Error, Reduction};

/// An estimator of KL(π ‖ reference) from one sampled token (Schulman 2020, "Approximating KL divergence"), with
/// δ = log π(token) − log reference(token). All three are meant for tokens that π itself sampled.
///
/// As figures, k1 and k3 are unbiased and k2 is nearly so where the two are close; k1 may be negative, the others not.
///
/// As losses they differ, because only δ is differentiated and not the sampling. In expectation over tokens from π, the
/// gradient of k1 is zero, that of k2 is the gradient of KL(π ‖ reference), and that of k3 is the gradient of
/// KL(reference ‖ π). Away from π's own samples none of this holds. A trainer with the whole distributions at hand should
/// use the exact KL at each position instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum KlEstimator {
    /// δ: a figure only; useless as a loss.
    K1,
    /// δ² / 2: as a loss, the reverse KL, which RLHF's penalty means.
    K2,
    /// e^−δ − 1 + δ: low variance as a figure; as a loss, the forward KL.
    K3,
}

impl KlEstimator {
    /// The estimate from one token, in nats.
    pub fn value(self, logp: f64, reference_logp: f64) -> f64 {
        let delta = logp - reference_logp;
        match self {
            Self::K1 => delta,
            Self::K2 => 0.5 * delta * delta,
            Self::K3 => (-delta).exp_m1() + delta,
        }
    }

    /// Its derivative with respect to `logp`.
    pub fn weight(self, logp: f64, reference_logp: f64) -> f64 {
        let delta = logp - reference_logp;
        match self {
            Self::K1 => 1.0,
            Self::K2 => delta,
            Self::K3 => -(-delta).exp_m1(),
        }
    }
}

/// A KL estimate over responses, and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct KlPenalty<F> {
    /// Mean over responses: nats per token with [`Reduction::Mean`], per response with [`Reduction::Sum`].
    pub kl: F,
    /// Each response's estimate, `[B]`.
    pub per_response: Array1<F>,
    /// ∂kl/∂per_token_logps, [B, T]; 0 where a token is not counted. Times `beta`, added to
    /// [`Reduction::token_weights`], it puts the penalty into a trainer's weighted sum.
    pub weights: Array2<F>,
}

/// The KL divergence from the reference over B responses, from the log-probabilities [B, T] of their tokens under the
/// policy and under the reference.
///
/// # Errors
///
/// [`Error::Shape`]; [`Error::EmptyBatch`]; [`Error::EmptyResponse`]; [`Error::Token`] for a counted log-probability that is
/// not finite: a policy cannot have sampled what it rules out, and what the reference rules out is infinitely far from it.
pub fn kl_penalty<F: Element>(
    estimator: KlEstimator,
    reduction: Reduction,
    per_token_logps: ArrayView2<'_, F>,
    reference_logps: ArrayView2<'_, F>,
    response_mask: ArrayView2<'_, bool>,
) -> Result<KlPenalty<F>, Error> {
    same_shape("reference_logps", reference_logps.shape(), per_token_logps.shape())?;
    same_shape("response_mask", response_mask.shape(), per_token_logps.shape())?;
    let n = per_token_logps.nrows();
    if n == 0 {
        return Err(Error::EmptyBatch);
    }
    let mut per_response = Array1::from_elem(n, F::default());
    let mut weights = Array2::from_elem(per_token_logps.dim(), F::default());
    let mut total = 0.0;
    for response in 0..n {
        let mask = response_mask.row(response);
        let tokens = mask.iter().filter(|counted| **counted).count();
        if tokens == 0 {
            return Err(Error::EmptyResponse { response });
        }
        let weight = reduction.weight(tokens);
        let mut sum = 0.0;
        for (token, _) in mask.iter().enumerate().filter(|(_, counted)| **counted) {
            let finite = |what, value: f64| {
                let needs = "the KL divergence needs finite log-probabilities of counted tokens";
                if value.is_finite() {
                    Ok(value)
                } else {
                    Err(Error::Token { what, response, token, value, needs })
                }
            };
            let logp = finite("per_token_logps", per_token_logps[[response, token]].to_f64())?;
            let reference = finite("reference_logps", reference_logps[[response, token]].to_f64())?;
            sum += estimator.value(logp, reference);
            weights[[response, token]] = F::from_f64(estimator.weight(logp, reference) * weight / n as f64);
        }
        per_response[response] = F::from_f64(sum * weight);
        total += sum * weight;
    }
    Ok(KlPenalty { kl: F::from_f64(total / n as f64), per_response, weights })
}
