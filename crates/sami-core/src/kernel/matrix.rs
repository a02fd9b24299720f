//! One matrix of any shape.

use super::blocks::{BLOCK, Blocks, Op, PAD};
use super::check::values;
use super::terms::{Sink, Weights, sum_of_logs};
use super::{Targets, in_range};
use crate::par;
use crate::{Element, Error};

/// From this many entries on, exponentials are computed again for the gradient: reading L twice is less memory traffic
/// than writing e^L, reading it and writing G.
const RECOMPUTE: usize = 1 << 18;

/// Memory that one matrix needs besides L and G; grows to the largest matrix seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch<F> {
    own: Vec<usize>,
    rows: Vec<F>,
    row_max: Vec<F>,
    cols: Vec<F>,
    col_max: Vec<F>,
    partial: Vec<F>,
}

/// One matrix and what is wanted of it; `grad` is empty where no gradient is wanted. Shape and targets are checked.
pub(crate) struct Matrix<'a, F> {
    pub(crate) cols: usize,
    pub(crate) logps: &'a [F],
    pub(crate) targets: Targets<'a>,
    pub(crate) weights: Weights,
    /// Divides the gradient: the number of queries it is a mean over.
    pub(crate) divisor: f64,
    pub(crate) grad: &'a mut [F],
    pub(crate) parallel: bool,
    /// The matrix after this one and the place of its gradient, for the caches; may be empty.
    pub(crate) next: (&'a [F], &'a [F]),
}

impl<F: Element> Matrix<'_, F> {
    /// Finds the loss (handed to `sink` as matrix `index`) and the gradient.
    pub(crate) fn run(
        mut self,
        scratch: &mut Scratch<F>,
        index: usize,
        sink: &mut impl Sink<F>,
    ) -> Result<(), Error> {
        let (rows, padded) = (self.logps.len() / self.cols, self.cols.next_multiple_of(PAD));
        let zero = F::default();
        scratch.own.clear();
        scratch.own.resize(rows, 0);
        for response in 0..self.cols {
            scratch.own[self.targets.of(response)] += 1;
        }
        scratch.rows.resize(rows, zero);
        scratch.cols.resize(padded, zero);
        scratch.partial.resize(rows.div_ceil(BLOCK) * padded, zero);
        if self.together(scratch, index, sink) {
            return Ok(());
        }
        values(self.logps, self.cols, self.targets)?;
        scratch.row_max.resize(rows, zero);
        scratch.col_max.resize(padded, zero);
        self.apart(scratch, index, sink);
        Ok(())
    }

    fn own(&self, response: usize) -> F {
        self.logps[self.targets.of(response) * self.cols + response]
    }

    /// Relative to one reference point, the middle of the range of the responses' own entries. False if the matrix
    /// spreads too far for that, or holds what no loss can be made of.
    fn together(&mut self, scratch: &mut Scratch<F>, index: usize, sink: &mut impl Sink<F>) -> bool {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for response in 0..self.cols {
            let own = self.own(response).to_f64();
            (low, high) = (low.min(own), high.max(own));
        }
        let (shift, spread) = (F::from_f64(0.5 * low + 0.5 * high), 0.5 * high - 0.5 * low);
        // A sum is at least its own entry's share.
        if spread > (self.cols as f64 / F::LEAST).ln() {
            return false;
        }
        let store = !self.grad.is_empty() && self.logps.len() < RECOMPUTE;
        let (logps, cols) = (self.logps, self.cols);
        let Scratch { rows, partial, .. } = scratch;
        let out = if store { &mut *self.grad } else { &mut [] };
        let op = Op::Sweep { shift };
        let parallel = self.parallel;
        let next = self.next;
        run(Blocks { logps, rows, partial, out, next, ..Blocks::new(op, cols) }, parallel);
        add_up(&scratch.partial, &mut scratch.cols);
        let n = self.cols as f64;
        let rows_fit = scratch.rows.iter().zip(&scratch.own).all(|(&sum, &own)| in_range(own == 0, sum, n));
        if !rows_fit || !scratch.cols[..self.cols].iter().all(|&sum| in_range(false, sum, n)) {
            return false;
        }
        let slack = (0..self.cols).map(|r| shift.to_f64() - self.own(r).to_f64()).sum();
        self.report(scratch, index, sink, slack, slack);
        if !self.grad.is_empty() {
            self.factors(scratch);
            let Scratch { rows, cols: factors, .. } = scratch;
            let op = if store { Op::Scale } else { Op::ExpScale { shift } };
            let out = &mut *self.grad;
            run(Blocks { logps, rows, factors, out, ..Blocks::new(op, cols) }, parallel);
            self.subtract_targets();
        }
        true
    }

    /// Relative to each row's and each column's own largest entry.
    fn apart(&mut self, scratch: &mut Scratch<F>, index: usize, sink: &mut impl Sink<F>) {
        let (logps, cols, parallel) = (self.logps, self.cols, self.parallel);
        let Scratch { rows, row_max, partial, .. } = scratch;
        run(Blocks { logps, rows, row_max, partial, ..Blocks::new(Op::Raise, cols) }, parallel);
        let padded = scratch.cols.len();
        scratch.col_max.fill(F::NEG_INFINITY);
        for block in scratch.partial.chunks_exact(padded) {
            for (max, &of_block) in scratch.col_max.iter_mut().zip(block) {
                if of_block > *max {
                    *max = of_block;
                }
            }
        }
        // A constitution without responses may find every response impossible. Its row counts for nothing.
        for max in scratch.row_max.iter_mut().filter(|max| **max == F::NEG_INFINITY) {
            *max = F::default();
        }
        let Scratch { rows, row_max, partial, col_max, .. } = scratch;
        run(Blocks { logps, rows, row_max, col_max, partial, ..Blocks::new(Op::SweepApart, cols) }, parallel);
        add_up(&scratch.partial, &mut scratch.cols);
        let row_slack =
            (0..cols).map(|r| scratch.row_max[self.targets.of(r)].to_f64() - self.own(r).to_f64()).sum();
        let col_slack = (0..cols).map(|r| scratch.col_max[r].to_f64() - self.own(r).to_f64()).sum();
        self.report(scratch, index, sink, row_slack, col_slack);
        if !self.grad.is_empty() {
            self.factors(scratch);
            let Scratch { rows, row_max, cols: factors, col_max, .. } = scratch;
            let out = &mut *self.grad;
            let op = Op::ScaleApart;
            run(Blocks { logps, rows, row_max, factors, col_max, out, ..Blocks::new(op, cols) }, parallel);
            self.subtract_targets();
        }
    }

    fn report(
        &self,
        scratch: &Scratch<F>,
        index: usize,
        sink: &mut impl Sink<F>,
        row_slack: f64,
        col_slack: f64,
    ) {
        let rows = sum_of_logs((0..self.cols).map(|r| scratch.rows[self.targets.of(r)]));
        let cols = sum_of_logs(scratch.cols[..self.cols].iter().copied());
        sink.take(index, rows + row_slack, cols + col_slack, self.cols);
    }

    /// rows ← α own / (R sum), cols ← β / (R sum).
    fn factors(&self, scratch: &mut Scratch<F>) {
        let n = self.cols as f64 * self.divisor;
        for (row, &own) in scratch.rows.iter_mut().zip(&scratch.own) {
            let factor = if own == 0 { 0.0 } else { self.weights.rows * own as f64 / (n * row.to_f64()) };
            *row = F::from_f64(factor);
        }
        for col in &mut scratch.cols[..self.cols] {
            *col = F::from_f64(self.weights.cols / (n * col.to_f64()));
        }
    }

    /// Takes (α + β) / R off each response's own entry.
    fn subtract_targets(&mut self) {
        let target = (self.weights.rows + self.weights.cols) / (self.cols as f64 * self.divisor);
        for response in 0..self.cols {
            let g = &mut self.grad[self.targets.of(response) * self.cols + response];
            *g = F::from_f64(g.to_f64() - target);
        }
    }
}

fn run<F: Element>(blocks: Blocks<'_, F>, parallel: bool) {
    let Ok(()) = par::run(blocks, parallel);
}

/// Adds the blocks' column sums in order.
fn add_up<F: Element>(partial: &[F], cols: &mut [F]) {
    cols.fill(F::default());
    for block in partial.chunks_exact(cols.len()) {
        for (col, &of_block) in cols.iter_mut().zip(block) {
            *col = *col + of_block;
        }
    }
}
