//! What the kernel does with one row, for both layouts.
//!
//! A row is a slice of vectors. In a plain matrix a vector holds neighbouring columns, and a statistic of the row is
//! folded over the lanes by the caller; where `width` small matrices are interleaved, a vector holds one entry of each,
//! and every lane already is its matrix's statistic. Column statistics are element-wise in both. A last vector that is
//! not full is padded with −∞, whose exponential is 0; the slices of column statistics are padded to full vectors.

use super::lanes::Lanes;
use crate::element::sealed::Sealed;

/// Vectors that are added up before they join the total: keeps long sums accurate.
const RUN: usize = 32;

/// Adds e^(l − shift) to `cols`, and returns the sum over the row's vectors. With `STORE`, keeps them in `out`. `soon` are
/// what will be read and what will be written after this row, for the caches; either may be empty.
#[inline(always)]
pub(crate) fn add_exp<L: Lanes, const STORE: bool>(
    lanes: L,
    row: &[L::E],
    shift: L::V,
    cols: &mut [L::E],
    out: &mut [L::E],
    soon: (&[L::E], &[L::E]),
) -> L::V {
    let w = lanes.width();
    let zero = lanes.splat(L::E::default());
    let mut total = zero;
    let full = row.len() / w * w;
    let mut from = 0;
    while from < full {
        let to = full.min(from + RUN * w);
        let mut run = zero;
        let row = row[from..to].chunks_exact(w);
        let cols = cols[from..to].chunks_exact_mut(w);
        if STORE {
            for (k, ((l, col), out)) in row.zip(cols).zip(out[from..to].chunks_exact_mut(w)).enumerate() {
                lanes.prefetch(soon.0, from + k * w);
                lanes.prefetch(soon.1, from + k * w);
                let e = lanes.exp(lanes.sub(lanes.load(l), shift));
                run = lanes.add(run, e);
                lanes.store(lanes.add(lanes.load(col), e), col);
                lanes.store(e, out);
            }
        } else {
            for (k, (l, col)) in row.zip(cols).enumerate() {
                lanes.prefetch(soon.0, from + k * w);
                let e = lanes.exp(lanes.sub(lanes.load(l), shift));
                run = lanes.add(run, e);
                lanes.store(lanes.add(lanes.load(col), e), col);
            }
        }
        total = lanes.add(total, run);
        from = to;
    }
    if full < row.len() {
        let l = lanes.load_part(&row[full..], L::E::NEG_INFINITY);
        let e = lanes.exp(lanes.sub(l, shift));
        total = lanes.add(total, e);
        let col = &mut cols[full..full + w];
        lanes.store(lanes.add(lanes.load(col), e), col);
        if STORE {
            lanes.store_part(e, &mut out[full..]);
        }
    }
    total
}

/// out = e (a + b): turns the stored exponentials of a row into the gradient, targets left out.
#[inline(always)]
pub(crate) fn scale<L: Lanes>(lanes: L, a: L::V, b: &[L::E], out: &mut [L::E]) {
    let w = lanes.width();
    let full = out.len() / w * w;
    let (main, rest) = out.split_at_mut(full);
    for (out, b) in main.chunks_exact_mut(w).zip(b.chunks_exact(w)) {
        let sum = lanes.add(a, lanes.load(b));
        lanes.store(lanes.mul(lanes.load(out), sum), out);
    }
    if !rest.is_empty() {
        let e = lanes.load_part(rest, L::E::default());
        let sum = lanes.add(a, lanes.load(&b[full..]));
        lanes.store_part(lanes.mul(e, sum), rest);
    }
}

/// out = e^(l − shift) (a + b), without stored exponentials. `soon` is what will be read after this row.
#[inline(always)]
pub(crate) fn exp_scale<L: Lanes>(
    lanes: L,
    row: &[L::E],
    shift: L::V,
    a: L::V,
    b: &[L::E],
    out: &mut [L::E],
    soon: &[L::E],
) {
    let w = lanes.width();
    let full = row.len() / w * w;
    let (main, rest) = out.split_at_mut(full);
    for (k, ((l, out), b)) in
        row.chunks_exact(w).zip(main.chunks_exact_mut(w)).zip(b.chunks_exact(w)).enumerate()
    {
        lanes.prefetch(soon, k * w);
        let e = lanes.exp(lanes.sub(lanes.load(l), shift));
        lanes.store(lanes.mul(e, lanes.add(a, lanes.load(b))), out);
    }
    if !rest.is_empty() {
        let l = lanes.load_part(&row[full..], L::E::NEG_INFINITY);
        let e = lanes.exp(lanes.sub(l, shift));
        lanes.store_part(lanes.mul(e, lanes.add(a, lanes.load(&b[full..]))), rest);
    }
}

/// Raises `cols` to the row's entries, and returns the largest over the row's vectors.
#[inline(always)]
pub(crate) fn raise<L: Lanes>(lanes: L, row: &[L::E], cols: &mut [L::E]) -> L::V {
    let w = lanes.width();
    let full = row.len() / w * w;
    let mut largest = lanes.splat(L::E::NEG_INFINITY);
    for (l, col) in row.chunks_exact(w).zip(cols.chunks_exact_mut(w)) {
        let l = lanes.load(l);
        largest = lanes.max(largest, l);
        lanes.store(lanes.max(lanes.load(col), l), col);
    }
    if full < row.len() {
        let l = lanes.load_part(&row[full..], L::E::NEG_INFINITY);
        largest = lanes.max(largest, l);
        let col = &mut cols[full..full + w];
        lanes.store(lanes.max(lanes.load(col), l), col);
    }
    largest
}

/// Adds e^(l − col_max) to `cols`, and returns the sum of e^(l − row_max) over the row's vectors.
#[inline(always)]
pub(crate) fn add_exp_apart<L: Lanes>(
    lanes: L,
    row: &[L::E],
    row_max: L::V,
    col_max: &[L::E],
    cols: &mut [L::E],
) -> L::V {
    let w = lanes.width();
    let full = row.len() / w * w;
    let mut total = lanes.splat(L::E::default());
    for ((l, max), col) in row.chunks_exact(w).zip(col_max.chunks_exact(w)).zip(cols.chunks_exact_mut(w)) {
        total = lanes.add(total, add_entries_apart(lanes, lanes.load(l), row_max, max, col));
    }
    if full < row.len() {
        let l = lanes.load_part(&row[full..], L::E::NEG_INFINITY);
        total = lanes.add(total, add_entries_apart(lanes, l, row_max, &col_max[full..], &mut cols[full..]));
    }
    total
}

/// One vector of [`add_exp_apart`].
#[inline(always)]
fn add_entries_apart<L: Lanes>(
    lanes: L,
    l: L::V,
    row_max: L::V,
    col_max: &[L::E],
    cols: &mut [L::E],
) -> L::V {
    let of_col = lanes.exp_or_zero(lanes.sub(l, lanes.load(col_max)));
    lanes.store(lanes.add(lanes.load(cols), of_col), cols);
    lanes.exp_or_zero(lanes.sub(l, row_max))
}

/// out = a e^(l − row_max) + b e^(l − col_max).
#[inline(always)]
pub(crate) fn exp_scale_apart<L: Lanes>(
    lanes: L,
    row: &[L::E],
    of_row: (L::V, L::V),
    (col_max, b): (&[L::E], &[L::E]),
    out: &mut [L::E],
) {
    let w = lanes.width();
    let full = row.len() / w * w;
    let (main, rest) = out.split_at_mut(full);
    let cols = col_max.chunks_exact(w).zip(b.chunks_exact(w));
    for ((l, out), of_col) in row.chunks_exact(w).zip(main.chunks_exact_mut(w)).zip(cols) {
        lanes.store(entries_apart(lanes, lanes.load(l), of_row, of_col), out);
    }
    if !rest.is_empty() {
        let l = lanes.load_part(&row[full..], L::E::NEG_INFINITY);
        lanes.store_part(entries_apart(lanes, l, of_row, (&col_max[full..], &b[full..])), rest);
    }
}

/// One vector of [`exp_scale_apart`].
#[inline(always)]
fn entries_apart<L: Lanes>(
    lanes: L,
    l: L::V,
    (row_max, a): (L::V, L::V),
    (col_max, b): (&[L::E], &[L::E]),
) -> L::V {
    let of_row = lanes.mul(a, lanes.exp_or_zero(lanes.sub(l, row_max)));
    let of_col = lanes.mul(lanes.load(b), lanes.exp_or_zero(lanes.sub(l, lanes.load(col_max))));
    lanes.add(of_row, of_col)
}
