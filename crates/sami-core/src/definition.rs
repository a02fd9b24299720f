//! The objective as the paper defines it, in `f64` and as plainly as possible. Read this first.
//!
//! L is a C × R matrix: `logps[[c, r]]` = log π(y_r | x, c), in nats. Row c is a constitution, column r a
//! response, and `targets[r]` is the constitution that response r was sampled under (r itself in the
//! paper, where R = C).
//!
//! - The *row term* asks of each response: among all responses, is it the one that its constitution makes
//!   likely? The *column term*: among all constitutions, is its own the one that makes it likely? Each is a
//!   mean of −log softmax over the R responses (InfoNCE, arXiv 1807.03748).
//! - The loss (Eq. 3 of arXiv 2404.14313) weighs the two by ½ each.
//! - Mutual information (Eq. 2) is ln C less the column term, and ln R less the row term.
//!
//! Everything else in this crate computes the same numbers faster, for `f32` too, into buffers of the
//! caller; property tests hold it to these functions.
//!
//! ```
//! use sami_core::{Objective, definition, ndarray::array};
//!
//! let logps = array![[-1.2, -1.9], [-2.0, -1.1]];
//! let terms = definition::terms(logps.view(), &[0, 1])?;
//! let step = Objective::default().loss_and_grad(logps.view())?;
//! assert!((step.loss - 0.5 * (terms.rows + terms.cols)).abs() < 1e-12);
//! # Ok::<(), sami_core::Error>(())
//! ```

use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::kernel::{self, Targets};
use crate::{Error, MutualInformation, TermWeights};

/// The two terms of the loss, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// 1/R Σ_r −log `softmax(L[t(r), ·])[r]`: over responses.
    pub rows: f64,
    /// 1/R Σ_r −log `softmax(L[·, r])[t(r)]`: over constitutions.
    pub cols: f64,
}

/// Refuses what has no loss.
fn check(logps: ArrayView2<'_, f64>, targets: &[usize]) -> Result<(), Error> {
    let targets = Targets::Of(targets);
    kernel::shape(logps.nrows(), logps.ncols(), targets)?;
    let entries = logps.as_standard_layout();
    kernel::values(entries.as_slice().unwrap_or_default(), logps.ncols(), targets)
}

/// ln Σ exp, without overflow.
fn log_sum_exp(values: ArrayView1<'_, f64>) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// The terms of a C × R matrix whose response r was sampled under `targets[r]`.
///
/// # Errors
///
/// [`Error::Empty`], [`Error::TargetCount`], [`Error::TargetRange`], and NaN, +∞ or (where a response
/// meets its own constitution) −∞ with row and column.
pub fn terms(logps: ArrayView2<'_, f64>, targets: &[usize]) -> Result<Terms, Error> {
    check(logps, targets)?;
    let (mut rows, mut cols) = (0.0, 0.0);
    for (r, &c) in targets.iter().enumerate() {
        rows += log_sum_exp(logps.row(c)) - logps[[c, r]];
        cols += log_sum_exp(logps.column(r)) - logps[[c, r]];
    }
    let responses = targets.len() as f64;
    Ok(Terms { rows: rows / responses, cols: cols / responses })
}

/// α · rows + β · cols, with α and β the `weights`; ½ and ½ in the paper.
///
/// # Errors
///
/// As [`terms`].
pub fn loss(logps: ArrayView2<'_, f64>, targets: &[usize], weights: TermWeights) -> Result<f64, Error> {
    let Terms { rows, cols } = terms(logps, targets)?;
    // A term that is left out stays out, though it be infinite.
    let weighted = |weight: f64, term: f64| if weight > 0.0 { weight * term } else { 0.0 };
    Ok(weighted(weights.over_responses, rows) + weighted(weights.over_constitutions, cols))
}

/// G = ∂loss/∂L, C × R. Of each response r: softmax of its constitution's row and of its own column,
/// weighted, less α + β at its own entry, over R.
///
/// # Errors
///
/// As [`terms`].
pub fn gradient(
    logps: ArrayView2<'_, f64>,
    targets: &[usize],
    weights: TermWeights,
) -> Result<Array2<f64>, Error> {
    check(logps, targets)?;
    let TermWeights { over_responses: alpha, over_constitutions: beta } = weights;
    let mut gradient = Array2::zeros(logps.dim());
    for (r, &c) in targets.iter().enumerate() {
        let (of_row, of_column) = (log_sum_exp(logps.row(c)), log_sum_exp(logps.column(r)));
        gradient.row_mut(c).zip_mut_with(&logps.row(c), |g, l| *g += alpha * (l - of_row).exp());
        gradient.column_mut(r).zip_mut_with(&logps.column(r), |g, l| *g += beta * (l - of_column).exp());
        gradient[[c, r]] -= alpha + beta;
    }
    Ok(gradient / targets.len() as f64)
}

/// The estimates of I(Y; C | X = x) from summed log-probabilities, in nats; what each of them is worth
/// stands in the crate's documentation.
///
/// # Errors
///
/// As [`terms`].
pub fn mutual_information(
    sum_logps: ArrayView2<'_, f64>,
    targets: &[usize],
) -> Result<MutualInformation, Error> {
    let Terms { rows, cols } = terms(sum_logps, targets)?;
    let (c, r) = sum_logps.dim();
    let cap = (c as f64).ln();
    let (constitutions, responses) = (cap - cols, (r as f64).ln() - rows);
    Ok(MutualInformation { constitutions, responses, two_sided: 0.5 * (constitutions + responses), cap })
}
