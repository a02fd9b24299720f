//! As many small matrices as a vector has lanes, entry by entry, and what is known of them.

use super::in_range;
use super::lanes::Lanes;
use super::rows::{add_exp, add_exp_apart, exp_scale_apart, raise, scale};
use super::terms::{Weights, sum_of_logs};
use crate::Element;

/// The largest C whose matrices are interleaved.
pub(crate) const LARGEST: usize = 8;
/// Lanes of the widest vectors there are.
pub(super) const WIDEST: usize = 16;

/// Entry k of the matrix in lane i stands at `k * width + i`.
pub(super) struct Group<F> {
    logps: [F; LARGEST * LARGEST * WIDEST],
    /// Exponentials, then the gradient.
    pub(super) out: [F; LARGEST * LARGEST * WIDEST],
    rows: [F; LARGEST * WIDEST],
    cols: [F; LARGEST * WIDEST],
    row_max: [F; LARGEST * WIDEST],
    col_max: [F; LARGEST * WIDEST],
}

/// What one sweep says of every lane.
pub(super) struct Found<F> {
    /// The row term, summed over responses, or both terms.
    pub(super) rows: [F; WIDEST],
    /// The column term, or 0.
    pub(super) cols: [F; WIDEST],
    /// Whether these hold.
    pub(super) fit: [bool; WIDEST],
}

impl<F: Element> Group<F> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let zero = F::default();
        Self {
            logps: [zero; LARGEST * LARGEST * WIDEST],
            out: [zero; LARGEST * LARGEST * WIDEST],
            rows: [zero; LARGEST * WIDEST],
            cols: [zero; LARGEST * WIDEST],
            row_max: [zero; LARGEST * WIDEST],
            col_max: [zero; LARGEST * WIDEST],
        }
    }

    /// Takes up to `width` matrices in. Lanes without one keep what they held. `out` is lost.
    #[inline(always)]
    pub(super) fn load<L: Lanes<E = F>>(&mut self, lanes: L, c: usize, logps: &[F]) {
        let (n, w) = (c * c, lanes.width());
        if logps.len() == n * w {
            if c == 2 {
                rotate(n, logps, &mut self.logps[..n * w]);
            } else {
                rotate(c, logps, &mut self.out[..n * w]);
                rotate(c, &self.out[..n * w], &mut self.logps[..n * w]);
            }
            return;
        }
        for (lane, matrix) in (0..w).zip(logps.chunks_exact(n)) {
            for (k, &value) in matrix.iter().enumerate() {
                self.logps[k * w + lane] = value;
            }
        }
    }

    /// Puts the gradients of up to `width` matrices out. `logps` is lost.
    #[inline(always)]
    pub(super) fn unload<L: Lanes<E = F>>(&mut self, lanes: L, c: usize, grads: &mut [F]) {
        let (n, w) = (c * c, lanes.width());
        if grads.len() == n * w {
            if c == 2 {
                rotate_back(n, &self.out[..n * w], grads);
            } else {
                rotate_back(c, &self.out[..n * w], &mut self.logps[..n * w]);
                rotate_back(c, &self.logps[..n * w], grads);
            }
            return;
        }
        for (lane, grad) in (0..w).zip(grads.chunks_exact_mut(n)) {
            for (k, g) in grad.iter_mut().enumerate() {
                *g = self.out[k * w + lane];
            }
        }
    }

    /// Sums relative to one reference per matrix, the middle of its diagonal's range.
    #[inline(always)]
    pub(super) fn sweep<L: Lanes<E = F>>(
        &mut self,
        lanes: L,
        c: usize,
        store: bool,
        joint: bool,
    ) -> Found<F> {
        let w = lanes.width();
        let (mut low, mut high) = (lanes.load(&self.logps), lanes.load(&self.logps));
        for i in 1..c {
            let own = lanes.load(&self.logps[i * (c + 1) * w..]);
            (low, high) = (lanes.min(low, own), lanes.max(high, own));
        }
        let half = lanes.splat(F::from_f64(0.5));
        let shift = lanes.add(lanes.mul(low, half), lanes.mul(high, half));
        let mut slack = lanes.splat(F::default());
        for i in 0..c {
            slack = lanes.add(slack, lanes.sub(shift, lanes.load(&self.logps[i * (c + 1) * w..])));
        }
        self.cols[..c * w].fill(F::default());
        for i in 0..c {
            let row = &self.logps[i * c * w..(i + 1) * c * w];
            let (cols, out) = (&mut self.cols[..c * w], &mut self.out[i * c * w..(i + 1) * c * w]);
            let sum = if store {
                add_exp::<L, true>(lanes, row, shift, cols, out, (&[], &[]))
            } else {
                add_exp::<L, false>(lanes, row, shift, cols, out, (&[], &[]))
            };
            lanes.store(sum, &mut self.rows[i * w..]);
        }
        let (rows, cols) = (&self.rows[..c * w], &self.cols[..c * w]);
        let mut found =
            Found { rows: [F::default(); WIDEST], cols: [F::default(); WIDEST], fit: [false; WIDEST] };
        self.fit(lanes, c, &mut found.fit);
        if joint {
            let logs = log_product(lanes, rows.chunks_exact(w).chain(cols.chunks_exact(w)));
            lanes.store(lanes.add(logs, lanes.add(slack, slack)), &mut found.rows);
        } else {
            lanes.store(lanes.add(log_product(lanes, rows.chunks_exact(w)), slack), &mut found.rows);
            lanes.store(lanes.add(log_product(lanes, cols.chunks_exact(w)), slack), &mut found.cols);
        }
        found
    }

    /// The lanes whose sums lie in the range that one reference holds for.
    #[inline(always)]
    fn fit<L: Lanes<E = F>>(&self, lanes: L, c: usize, fit: &mut [bool; WIDEST]) {
        let w = lanes.width();
        // `least` may miss a NaN, `total` shows it.
        let (mut least, mut total) = (lanes.load(&self.cols), lanes.splat(F::default()));
        for i in 0..c {
            let (row, col) = (lanes.load(&self.rows[i * w..]), lanes.load(&self.cols[i * w..]));
            least = lanes.min(least, lanes.min(row, col));
            total = lanes.add(total, col);
        }
        let (mut leasts, mut totals) = ([F::default(); WIDEST], [F::default(); WIDEST]);
        lanes.store(least, &mut leasts);
        lanes.store(total, &mut totals);
        let n = c as f64;
        for ((fit, least), total) in fit[..w].iter_mut().zip(leasts).zip(totals) {
            *fit = in_range(false, least, n) & in_range(false, total, n);
        }
    }

    /// Sums relative to each row's and each column's own largest entry.
    #[inline(always)]
    pub(super) fn sweep_apart<L: Lanes<E = F>>(&mut self, lanes: L, c: usize) {
        let w = lanes.width();
        self.cols[..c * w].fill(F::default());
        self.col_max[..c * w].fill(F::NEG_INFINITY);
        for i in 0..c {
            let row = &self.logps[i * c * w..(i + 1) * c * w];
            let max = raise(lanes, row, &mut self.col_max[..c * w]);
            lanes.store(max, &mut self.row_max[i * w..]);
        }
        for i in 0..c {
            let row = &self.logps[i * c * w..(i + 1) * c * w];
            let max = lanes.load(&self.row_max[i * w..]);
            let sum = add_exp_apart(lanes, row, max, &self.col_max[..c * w], &mut self.cols[..c * w]);
            lanes.store(sum, &mut self.rows[i * w..]);
        }
    }

    /// One lane's terms after [`Group::sweep_apart`], summed over responses.
    #[inline(always)]
    pub(super) fn terms_apart<L: Lanes<E = F>>(&self, lanes: L, c: usize, lane: usize) -> (f64, f64) {
        let w = lanes.width();
        let of = |sums: &[F], max: &[F]| {
            let logs = sum_of_logs((0..c).map(|i| sums[i * w + lane]));
            let own = |i: usize| self.logps[i * (c + 1) * w + lane].to_f64();
            logs + (0..c).map(|i| max[i * w + lane].to_f64() - own(i)).sum::<f64>()
        };
        (of(&self.rows, &self.row_max), of(&self.cols, &self.col_max))
    }

    /// rows ← α / (C sum), cols ← β / (C sum), divided by the number of queries.
    #[inline(always)]
    fn factors<L: Lanes<E = F>>(&mut self, lanes: L, c: usize, weights: Weights, divisor: f64) {
        let w = lanes.width();
        let scaled = |weight: f64| lanes.splat(F::from_f64(weight / (c as f64 * divisor)));
        let (alpha, beta) = (scaled(weights.rows), scaled(weights.cols));
        for i in 0..c {
            let (row, col) = (&mut self.rows[i * w..], &mut self.cols[i * w..]);
            lanes.store(lanes.div(alpha, lanes.load(row)), row);
            lanes.store(lanes.div(beta, lanes.load(col)), col);
        }
    }

    /// out ← the gradient, from stored exponentials.
    #[inline(always)]
    pub(super) fn gradient<L: Lanes<E = F>>(&mut self, lanes: L, c: usize, weights: Weights, divisor: f64) {
        let w = lanes.width();
        self.factors(lanes, c, weights, divisor);
        for i in 0..c {
            let a = lanes.load(&self.rows[i * w..]);
            scale(lanes, a, &self.cols[..c * w], &mut self.out[i * c * w..(i + 1) * c * w]);
        }
        self.subtract_targets(lanes, c, weights, divisor);
    }

    /// out ← the gradient, from sums relative to the maxima.
    #[inline(always)]
    pub(super) fn gradient_apart<L: Lanes<E = F>>(
        &mut self,
        lanes: L,
        c: usize,
        weights: Weights,
        divisor: f64,
    ) {
        let w = lanes.width();
        self.factors(lanes, c, weights, divisor);
        for i in 0..c {
            let row = (lanes.load(&self.row_max[i * w..]), lanes.load(&self.rows[i * w..]));
            let cols = (&self.col_max[..c * w], &self.cols[..c * w]);
            let logps = &self.logps[i * c * w..(i + 1) * c * w];
            exp_scale_apart(lanes, logps, row, cols, &mut self.out[i * c * w..(i + 1) * c * w]);
        }
        self.subtract_targets(lanes, c, weights, divisor);
    }

    /// Takes (α + β) / C off the diagonal, divided by the number of queries.
    #[inline(always)]
    fn subtract_targets<L: Lanes<E = F>>(&mut self, lanes: L, c: usize, weights: Weights, divisor: f64) {
        let w = lanes.width();
        let target = lanes.splat(F::from_f64((weights.rows + weights.cols) / (c as f64 * divisor)));
        for i in 0..c {
            let own = &mut self.out[i * (c + 1) * w..];
            lanes.store(lanes.sub(lanes.load(own), target), own);
        }
    }
}

/// Entry (i, j) to place (j, i) of a matrix with `c` columns. Places in whole matrices count as (lane, row, column); doing
/// this twice with C columns, or once with C², makes them (row, column, lane). Compilers do it with shuffles where `c` is
/// known and at most 8, while entries further apart would be gathered one by one.
#[inline(always)]
fn rotate<F: Copy>(c: usize, from: &[F], to: &mut [F]) {
    let rows = to.len() / c;
    for (i, row) in (0..rows).zip(from.chunks_exact(c)) {
        for j in 0..c {
            to[j * rows + i] = row[j];
        }
    }
}

/// Undoes [`rotate`].
#[inline(always)]
fn rotate_back<F: Copy>(c: usize, from: &[F], to: &mut [F]) {
    let rows = from.len() / c;
    for (i, row) in (0..rows).zip(to.chunks_exact_mut(c)) {
        for j in 0..c {
            row[j] = from[j * rows + i];
        }
    }
}

/// Σ ln over vectors of sums, lane by lane, with one logarithm for as many as multiply without leaving the type's range.
#[inline(always)]
fn log_product<'a, L: Lanes>(lanes: L, sums: impl Iterator<Item = &'a [L::E]>) -> L::V {
    let one = lanes.splat(L::E::from_f64(1.0));
    let (mut product, mut in_product, mut total) = (one, 0, lanes.splat(L::E::default()));
    for sum in sums {
        if in_product == L::LANE_LOG_GROUP {
            total = lanes.add(total, lanes.ln(product));
            (product, in_product) = (one, 0);
        }
        product = lanes.mul(product, lanes.load(sum));
        in_product += 1;
    }
    lanes.add(total, lanes.ln(product))
}
