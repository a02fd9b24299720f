//! The loss and its gradient over checked shapes: one core of row operations (`rows`), used on a plain matrix in blocks
//! of rows (`matrix`, `blocks`) and on many small matrices at once, one per lane (`small`).
//!
//! The usual matrix is swept once: with one reference point m for all entries, e^(l − m) serves the row and the column
//! softmax alike. That is exact to rounding while every row's and column's sum lies between the constant `LEAST` of its
//! type and, per entry, the inverse of that. Otherwise, and where an entry is NaN or infinite (which the sums show), values
//! are checked one by one and each row and column gets its own largest entry as its reference.

mod blocks;
mod check;
mod group;
mod lanes;
mod matrix;
mod rows;
mod small;
mod terms;
#[cfg(test)]
mod tests;

use crate::Element;

pub(crate) use check::{shape, values};
pub(crate) use group::LARGEST;
pub(crate) use lanes::Job;
pub(crate) use lanes::{run_f32, run_f64};
pub(crate) use matrix::{Matrix, Scratch};
pub(crate) use small::Small;
pub(crate) use terms::{Losses, Sink, Terms, Weights};

/// Whose the responses are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Targets<'a> {
    /// Response r belongs to constitution r.
    Diagonal,
    /// Response r belongs to constitution `of[r]`.
    Of(&'a [usize]),
}

impl Targets<'_> {
    /// The constitution that a response was sampled under.
    #[inline(always)]
    pub(crate) fn of(&self, response: usize) -> usize {
        match self {
            Self::Diagonal => response,
            Self::Of(of) => of[response],
        }
    }
}

/// Whether a sum of exponentials over a row or a column of up to `n` entries is one that a common reference holds for.
/// NaN never is. A row that counts for nothing has no lower bound.
#[inline(always)]
fn in_range<F: Element>(unbounded_below: bool, sum: F, n: f64) -> bool {
    let sum = sum.to_f64();
    (unbounded_below || sum >= F::LEAST) && sum <= n / F::LEAST
}
