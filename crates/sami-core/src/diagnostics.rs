//! What a contrast matrix shows about how well responses and constitutions are told apart.

use ndarray::ArrayView2;

use crate::kernel::{self, Targets};
use crate::{Element, Error};

/// How well one matrix tells responses and constitutions apart.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Diagnostics {
    /// Share of responses that are the likeliest one in their own constitution's row. k tied entries count 1/k, so a
    /// constant matrix is at chance.
    pub accuracy_row: f64,
    /// Share of responses whose own constitution is the likeliest one in their column; ties as above.
    pub accuracy_col: f64,
    /// Mean over both directions of the own entry minus its strongest rival, in the units of the matrix: in the row, the
    /// likeliest response of another constitution; in the column, the likeliest other constitution. +∞ without rivals.
    pub margin: f64,
}

/// Diagnostics of one C × C matrix; response r was sampled under constitution r.
///
/// # Errors
///
/// [`Error::Empty`], [`Error::NotSquare`], and NaN, +∞ or (on the diagonal) −∞ with row and column.
pub fn diagnostics<F: Element>(logps: ArrayView2<'_, F>) -> Result<Diagnostics, Error> {
    of(logps, Targets::Diagonal)
}

/// Diagnostics of a C × R matrix whose response r was sampled under `targets[r]`. In a row, the constitution's other
/// responses are no rivals: any of them being the likeliest is right.
///
/// # Errors
///
/// As [`diagnostics`], and [`Error::TargetCount`], [`Error::TargetRange`].
pub fn diagnostics_with_targets<F: Element>(
    logps: ArrayView2<'_, F>,
    targets: &[usize],
) -> Result<Diagnostics, Error> {
    of(logps, Targets::Of(targets))
}

/// Compares one entry with its rivals: its share of a possible tie (0 if beaten), and own − strongest rival.
fn compare(own: f64, rivals: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut ties, mut best) = (1.0, f64::NEG_INFINITY);
    for rival in rivals {
        if rival == own {
            ties += 1.0;
        }
        best = f64::max(best, rival);
    }
    (if best > own { 0.0 } else { 1.0 / ties }, own - best)
}

fn of<F: Element>(logps: ArrayView2<'_, F>, targets: Targets<'_>) -> Result<Diagnostics, Error> {
    kernel::shape(logps.nrows(), logps.ncols(), targets)?;
    let copy = logps.as_standard_layout();
    kernel::values(copy.as_slice().unwrap_or_default(), logps.ncols(), targets)?;
    let responses = logps.ncols();
    let (mut rows, mut cols, mut margins) = (0.0, 0.0, 0.0);
    for response in 0..responses {
        let target = targets.of(response);
        let own = logps[[target, response]].to_f64();
        let in_row = logps.row(target);
        let in_row =
            in_row.iter().enumerate().filter(|&(r, _)| targets.of(r) != target).map(|(_, v)| v.to_f64());
        let (row, row_margin) = compare(own, in_row);
        let in_col = logps.column(response);
        let in_col = in_col.iter().enumerate().filter(|&(c, _)| c != target).map(|(_, v)| v.to_f64());
        let (col, col_margin) = compare(own, in_col);
        rows += row;
        cols += col;
        margins += 0.5 * (row_margin + col_margin);
    }
    let n = responses as f64;
    Ok(Diagnostics { accuracy_row: rows / n, accuracy_col: cols / n, margin: margins / n })
}
