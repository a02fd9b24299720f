//! Blocks of rows of one matrix: the unit that runs on one thread.

use std::convert::Infallible;

use super::lanes::{Job, Lanes};
use super::rows::{add_exp, add_exp_apart, exp_scale, exp_scale_apart, raise, scale};
use crate::Element;
use crate::par::Task;

/// Rows per block. Sums over a column are made block by block whether or not blocks run in parallel, so that the number
/// of threads changes no bit.
pub(crate) const BLOCK: usize = 64;
/// Column statistics are padded to a multiple of this, the widest vector.
pub(crate) const PAD: usize = 16;

/// What is done with the rows.
#[derive(Clone, Copy)]
pub(crate) enum Op<F> {
    /// rows, partial ← sums of e^(l − shift); out ← e^(l − shift) unless it is empty.
    Sweep { shift: F },
    /// out ← out (rows + factors).
    Scale,
    /// out ← e^(l − shift) (rows + factors).
    ExpScale { shift: F },
    /// row_max, partial ← largest entries.
    Raise,
    /// rows ← sums of e^(l − row_max), partial ← sums of e^(l − col_max).
    SweepApart,
    /// out ← rows e^(l − row_max) + factors e^(l − col_max).
    ScaleApart,
}

/// An operation on all rows. Slices that it does not name may be empty.
pub(crate) struct Blocks<'a, F> {
    pub(crate) op: Op<F>,
    pub(crate) cols: usize,
    pub(crate) logps: &'a [F],
    /// One entry per row.
    pub(crate) rows: &'a mut [F],
    /// One entry per row.
    pub(crate) row_max: &'a mut [F],
    /// One entry per column, padded.
    pub(crate) factors: &'a [F],
    /// One entry per column, padded.
    pub(crate) col_max: &'a [F],
    /// One padded row of column statistics per block.
    pub(crate) partial: &'a mut [F],
    pub(crate) out: &'a mut [F],
    /// The matrix after this one and the place of its gradient, for the caches.
    pub(crate) next: (&'a [F], &'a [F]),
}

impl<F> Blocks<'_, F> {
    pub(crate) fn new(op: Op<F>, cols: usize) -> Self {
        Self {
            op,
            cols,
            logps: &[],
            rows: &mut [],
            row_max: &mut [],
            factors: &[],
            col_max: &[],
            partial: &mut [],
            out: &mut [],
            next: (&[], &[]),
        }
    }
}

/// The two parts of a slice that may also be empty.
fn cut<T>(slice: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
    slice.split_at_mut(at.min(slice.len()))
}

impl<F: Element> Task for Blocks<'_, F> {
    type Error = Infallible;

    fn parts(&self) -> usize {
        (self.logps.len() / self.cols).div_ceil(BLOCK)
    }

    fn split(self) -> (Self, Self) {
        let blocks = self.parts() / 2;
        let rows = blocks * BLOCK;
        let padded = self.cols.next_multiple_of(PAD);
        let (logps, rest_logps) = self.logps.split_at(rows * self.cols);
        let (first_rows, rest_rows) = cut(self.rows, rows);
        let (row_max, rest_max) = cut(self.row_max, rows);
        let (partial, rest_partial) = cut(self.partial, blocks * padded);
        let (out, rest_out) = cut(self.out, rows * self.cols);
        let Self { op, cols, factors, col_max, next, .. } = self;
        (
            Self { op, cols, logps, rows: first_rows, row_max, factors, col_max, partial, out, next },
            Self {
                op,
                cols,
                logps: rest_logps,
                rows: rest_rows,
                row_max: rest_max,
                factors,
                col_max,
                partial: rest_partial,
                out: rest_out,
                next,
            },
        )
    }

    fn run(self) -> Result<(), Infallible> {
        F::run(self);
        Ok(())
    }
}

impl<F: Element> Job<F> for Blocks<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<E = F>>(self, lanes: L) {
        let Self { op, cols, logps, rows, row_max, factors, col_max, partial, out, next } = self;
        let all = logps;
        let logps = logps.chunks_exact(cols);
        // The row after this one, or this row of the next matrix.
        let soon = |row: usize| {
            let (of, row) = if next.0.is_empty() { (all, row + 1) } else { (next.0, row) };
            of.get(row * cols..(row + 1) * cols).unwrap_or_default()
        };
        match op {
            Op::Sweep { shift } => {
                partial.fill(F::default());
                let shift = lanes.splat(shift);
                if out.is_empty() {
                    for (i, (row, sum)) in logps.zip(rows).enumerate() {
                        let soon = (soon(i), &[][..]);
                        *sum = lanes.sum(add_exp::<L, false>(lanes, row, shift, partial, &mut [], soon));
                    }
                } else {
                    for (i, ((row, sum), out)) in logps.zip(rows).zip(out.chunks_exact_mut(cols)).enumerate()
                    {
                        let soon = (soon(i), next.1.get(i * cols..).unwrap_or_default());
                        *sum = lanes.sum(add_exp::<L, true>(lanes, row, shift, partial, out, soon));
                    }
                }
            }
            Op::Scale => {
                for (row, out) in rows.iter().zip(out.chunks_exact_mut(cols)) {
                    scale(lanes, lanes.splat(*row), factors, out);
                }
            }
            Op::ExpScale { shift } => {
                let shift = lanes.splat(shift);
                for (i, ((row, out), factor)) in logps.zip(out.chunks_exact_mut(cols)).zip(rows).enumerate() {
                    exp_scale(lanes, row, shift, lanes.splat(*factor), factors, out, soon(i));
                }
            }
            Op::Raise => {
                partial.fill(F::NEG_INFINITY);
                for (row, max) in logps.zip(row_max) {
                    *max = lanes.largest(raise(lanes, row, partial));
                }
            }
            Op::SweepApart => {
                partial.fill(F::default());
                for ((row, sum), max) in logps.zip(rows).zip(row_max) {
                    *sum = lanes.sum(add_exp_apart(lanes, row, lanes.splat(*max), col_max, partial));
                }
            }
            Op::ScaleApart => {
                for (((row, out), a), max) in logps.zip(out.chunks_exact_mut(cols)).zip(rows).zip(row_max) {
                    let of_row = (lanes.splat(*max), lanes.splat(*a));
                    exp_scale_apart(lanes, row, of_row, (col_max, factors), out);
                }
            }
        }
    }
}
