//! What has no loss.

use super::Targets;
use crate::{Element, Error};

/// Refuses shapes and targets that do not fit.
pub(crate) fn shape(rows: usize, cols: usize, targets: Targets<'_>) -> Result<(), Error> {
    if rows == 0 || cols == 0 {
        return Err(Error::Empty { rows, cols });
    }
    match targets {
        Targets::Diagonal if rows != cols => Err(Error::NotSquare { rows, cols }),
        Targets::Diagonal => Ok(()),
        Targets::Of(of) if of.len() != cols => Err(Error::TargetCount { targets: of.len(), responses: cols }),
        Targets::Of(of) => match of.iter().position(|&target| target >= rows) {
            Some(response) => Err(Error::TargetRange { response, target: of[response], constitutions: rows }),
            None => Ok(()),
        },
    }
}

/// Refuses NaN and +∞ anywhere, and −∞ in a response's own entry.
pub(crate) fn values<F: Element>(logps: &[F], cols: usize, targets: Targets<'_>) -> Result<(), Error> {
    for (at, value) in logps.iter().enumerate() {
        let value = value.to_f64();
        if value.is_finite() {
            continue;
        }
        let (row, col) = (at / cols, at % cols);
        if value.is_nan() {
            return Err(Error::NotANumber { row, col });
        }
        if value > 0.0 {
            return Err(Error::PositiveInfinity { row, col });
        }
        if targets.of(col) == row {
            return Err(Error::ImpossibleTarget { row, col });
        }
    }
    Ok(())
}
