//! Mutual information between constitutions and responses, from one query's contrast matrix.

use std::f64::consts::LN_2;

use ndarray::ArrayView2;

use crate::Error;
use crate::contrast::{self, Contrast, Slot};
use crate::kernel::{Terms, Weights};

/// Estimates of I(Y; C | X = x) from one query, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MutualInformation {
    /// ln C + mean log softmax over constitutions: the usable figure, a lower bound in expectation.
    pub constitutions: f64,
    /// ln R + mean log softmax over responses: swamped by the responses' own entropy when L holds sums.
    pub responses: f64,
    /// Mean of the two, as in the paper's loss.
    pub two_sided: f64,
    /// ln C, which none of the figures exceeds.
    pub cap: f64,
}

/// [`MutualInformation`] in bits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MutualInformationBits {
    /// As [`MutualInformation::constitutions`], in bits.
    pub constitutions: f64,
    /// As [`MutualInformation::responses`], in bits.
    pub responses: f64,
    /// As [`MutualInformation::two_sided`], in bits.
    pub two_sided: f64,
    /// log₂ C.
    pub cap: f64,
}

impl MutualInformation {
    /// The same figures in bits.
    pub fn to_bits(&self) -> MutualInformationBits {
        MutualInformationBits {
            constitutions: self.constitutions / LN_2,
            responses: self.responses / LN_2,
            two_sided: self.two_sided / LN_2,
            cap: self.cap / LN_2,
        }
    }
}

/// The estimates from one C × C matrix of summed log-probabilities; response r was sampled under constitution r.
///
/// # Errors
///
/// [`Error::Empty`], [`Error::NotSquare`], and NaN, +∞ or (on the diagonal) −∞ with row and column.
pub fn mutual_information(sum_logps: ArrayView2<'_, f64>) -> Result<MutualInformation, Error> {
    of(&Contrast::new(sum_logps))
}

/// The estimates from a C × R matrix of summed log-probabilities whose response r was sampled under `targets[r]`.
///
/// # Errors
///
/// As [`mutual_information`], and [`Error::TargetCount`], [`Error::TargetRange`].
pub fn mutual_information_with_targets(
    sum_logps: ArrayView2<'_, f64>,
    targets: &[usize],
) -> Result<MutualInformation, Error> {
    of(&Contrast::with_targets(sum_logps, targets))
}

fn of(contrast: &Contrast<'_, f64>) -> Result<MutualInformation, Error> {
    contrast::checked(contrast)?;
    let (mut terms, weights) = (Terms::default(), Weights { rows: 1.0, cols: 1.0 });
    contrast::evaluate(contrast, weights, 1.0, None, &mut Slot::default(), &mut terms)?;
    let (c, r) = contrast.logps().dim();
    let cap = (c as f64).ln();
    let (constitutions, responses) = (cap - terms.cols, (r as f64).ln() - terms.rows);
    Ok(MutualInformation { constitutions, responses, two_sided: 0.5 * (constitutions + responses), cap })
}
