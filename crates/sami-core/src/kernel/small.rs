//! Many small square matrices: one per lane.

use super::Targets;
use super::check::values;
use super::group::{Group, WIDEST};
use super::lanes::{Job, Lanes};
use super::terms::{Sink, Weights};
use crate::{Element, Error};

/// How many entries ahead memory is asked for: a page.
const AHEAD: usize = 1024;

/// C × C matrices one behind the other, C ≤ [`LARGEST`](super::LARGEST); `grads` is empty where no gradient is wanted.
pub(crate) struct Small<'a, F, S> {
    pub(crate) c: usize,
    pub(crate) logps: &'a [F],
    pub(crate) weights: Weights,
    /// Divides the gradient: the number of queries it is a mean over.
    pub(crate) divisor: f64,
    pub(crate) grads: &'a mut [F],
    pub(crate) sink: S,
}

/// The same for one size that the compiler knows and unrolls, or for any size if C is 0. A job each, because the frames of
/// all sizes together would not fit a thread's stack in builds without optimisation.
struct OfSize<'a, F, S, const C: usize>(Small<'a, F, S>);

impl<F: Element, S: Sink<F>, const C: usize> Job<F> for OfSize<'_, F, S, C> {
    type Output = Result<(), (usize, Error)>;

    #[inline(always)]
    fn run<L: Lanes<E = F>>(self, lanes: L) -> Self::Output {
        self.0.groups::<L, C>(lanes)
    }
}

impl<F: Element, S: Sink<F>> Small<'_, F, S> {
    /// Finds losses and gradients; an error comes with the position of its matrix.
    pub(crate) fn run(self) -> Result<(), (usize, Error)> {
        match self.c {
            2 => F::run(OfSize::<F, S, 2>(self)),
            3 => F::run(OfSize::<F, S, 3>(self)),
            4 => F::run(OfSize::<F, S, 4>(self)),
            5 => F::run(OfSize::<F, S, 5>(self)),
            6 => F::run(OfSize::<F, S, 6>(self)),
            7 => F::run(OfSize::<F, S, 7>(self)),
            8 => F::run(OfSize::<F, S, 8>(self)),
            _ => F::run(OfSize::<F, S, 0>(self)),
        }
    }

    /// All matrices, `width` at a time. `C` is the size where it is known to the compiler, else 0.
    #[inline(always)]
    pub(super) fn groups<L: Lanes<E = F>, const C: usize>(mut self, lanes: L) -> Result<(), (usize, Error)> {
        let c = if C == 0 { self.c } else { C };
        let (n, w) = (c * c, lanes.width());
        let with_grad = !self.grads.is_empty();
        let joint = self.sink.joint();
        let mut group = Group::new();
        let mut all_grads = self.grads;
        for (index, logps) in self.logps.chunks(n * w).enumerate() {
            let (first, count) = (index * w, logps.len() / n);
            let here = all_grads.len().min(n * w);
            let (grads, rest) = std::mem::take(&mut all_grads).split_at_mut(here);
            for line in (0..n * w).step_by(w) {
                lanes.prefetch(self.logps, (index + 1) * n * w + AHEAD + line);
                lanes.prefetch(rest, AHEAD + line);
            }
            group.load(lanes, c, logps);
            let found = group.sweep(lanes, c, with_grad, joint);
            if with_grad {
                group.gradient(lanes, c, self.weights, self.divisor);
                group.unload(lanes, c, grads);
            }
            self.sink.take_all(first, &found.rows[..count], &found.cols[..count], c);
            if found.fit[..count].contains(&false) {
                let (c, weights, divisor, fit) = (c, self.weights, self.divisor, found.fit);
                let sink = &mut self.sink;
                let group = &mut group;
                F::run(Apart { c, first, fit, logps, weights, divisor, grads, sink, group })?;
            }
            all_grads = rest;
        }
        Ok(())
    }
}

/// Up to `width` matrices, of which those that are not `fit` spread too far for a common reference, or hold what no loss
/// can be made of.
struct Apart<'a, F, S> {
    c: usize,
    first: usize,
    fit: [bool; WIDEST],
    logps: &'a [F],
    weights: Weights,
    divisor: f64,
    grads: &'a mut [F],
    sink: &'a mut S,
    /// Room to work in.
    group: &'a mut Group<F>,
}

impl<F: Element, S: Sink<F>> Job<F> for Apart<'_, F, S> {
    type Output = Result<(), (usize, Error)>;

    #[inline(always)]
    fn run<L: Lanes<E = F>>(self, lanes: L) -> Self::Output {
        let Self { c, first, fit, logps, weights, divisor, grads, sink, group } = self;
        let (n, w) = (c * c, lanes.width());
        let unfit =
            || fit[..logps.len() / n].iter().enumerate().filter(|(_, fit)| !**fit).map(|(lane, _)| lane);
        for lane in unfit() {
            values(&logps[lane * n..(lane + 1) * n], c, Targets::Diagonal)
                .map_err(|error| (first + lane, error))?;
        }
        group.load(lanes, c, logps);
        group.sweep_apart(lanes, c);
        for lane in unfit() {
            let (rows, cols) = group.terms_apart(lanes, c, lane);
            sink.take(first + lane, rows, cols, c);
        }
        if !grads.is_empty() {
            group.gradient_apart(lanes, c, weights, divisor);
            for lane in unfit() {
                for (k, g) in grads[lane * n..(lane + 1) * n].iter_mut().enumerate() {
                    *g = group.out[k * w + lane];
                }
            }
        }
        Ok(())
    }
}
