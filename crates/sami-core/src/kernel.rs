//! The two terms of the loss over one checked matrix.

use ndarray::{Array2, ArrayView2};

use crate::{Element, Error};

/// Whose the responses are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Targets<'a> {
    /// Response r belongs to constitution r.
    Diagonal,
    /// Response r belongs to constitution `of[r]`.
    Of(&'a [usize]),
}

impl Targets<'_> {
    pub(crate) fn get(&self, response: usize) -> usize {
        match self {
            Self::Diagonal => response,
            Self::Of(of) => of[response],
        }
    }
}

/// Refuses shapes, targets and values that have no loss.
pub(crate) fn check<F: Element>(logps: &ArrayView2<'_, F>, targets: Targets<'_>) -> Result<(), Error> {
    let (rows, cols) = logps.dim();
    if rows == 0 || cols == 0 {
        return Err(Error::Empty { rows, cols });
    }
    match targets {
        Targets::Diagonal if rows != cols => return Err(Error::NotSquare { rows, cols }),
        Targets::Of(of) if of.len() != cols => {
            return Err(Error::TargetCount { targets: of.len(), responses: cols });
        }
        Targets::Of(of) => {
            if let Some(response) = of.iter().position(|&target| target >= rows) {
                return Err(Error::TargetRange { response, target: of[response], constitutions: rows });
            }
        }
        Targets::Diagonal => {}
    }
    for ((row, col), value) in logps.indexed_iter() {
        let value = value.to_f64();
        if value.is_nan() {
            return Err(Error::NotANumber { row, col });
        }
        if value == f64::INFINITY {
            return Err(Error::PositiveInfinity { row, col });
        }
        if value == f64::NEG_INFINITY && targets.get(col) == row {
            return Err(Error::ImpossibleTarget { row, col });
        }
    }
    Ok(())
}

/// ln Σ exp, in f64.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values.map(|value| (value - max).exp()).sum::<f64>().ln()
}

/// Mean over responses of the two terms: −log softmax over responses (row), −log softmax over constitutions (column).
pub(crate) fn terms<F: Element>(logps: &ArrayView2<'_, F>, targets: Targets<'_>) -> (f64, f64) {
    let (rows, cols) = (lse_rows(logps), lse_cols(logps));
    let (mut over_responses, mut over_constitutions) = (0.0, 0.0);
    for (response, col) in cols.iter().enumerate() {
        let target = targets.get(response);
        let own = logps[[target, response]].to_f64();
        over_responses += rows[target] - own;
        over_constitutions += col - own;
    }
    let n = cols.len() as f64;
    (over_responses / n, over_constitutions / n)
}

/// Gradient of `weights.0` × the row term + `weights.1` × the column term.
pub(crate) fn gradient<F: Element>(
    logps: &ArrayView2<'_, F>,
    targets: Targets<'_>,
    weights: (f64, f64),
) -> Array2<F> {
    let (rows, cols) = (lse_rows(logps), lse_cols(logps));
    let n = cols.len() as f64;
    let mut own = vec![0.0; rows.len()];
    for response in 0..cols.len() {
        own[targets.get(response)] += 1.0;
    }
    Array2::from_shape_fn(logps.dim(), |(row, col)| {
        let value = logps[[row, col]].to_f64();
        let softmax_row = if own[row] == 0.0 { 0.0 } else { (value - rows[row]).exp() * own[row] };
        let softmax_col = (value - cols[col]).exp();
        let target = if targets.get(col) == row { weights.0 + weights.1 } else { 0.0 };
        F::from_f64((weights.0 * softmax_row + weights.1 * softmax_col - target) / n)
    })
}

fn lse_rows<F: Element>(logps: &ArrayView2<'_, F>) -> Vec<f64> {
    logps.rows().into_iter().map(|row| log_sum_exp(row.into_iter().map(|v| v.to_f64()))).collect()
}

fn lse_cols<F: Element>(logps: &ArrayView2<'_, F>) -> Vec<f64> {
    logps.columns().into_iter().map(|col| log_sum_exp(col.into_iter().map(|v| v.to_f64()))).collect()
}
