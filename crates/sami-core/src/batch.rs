//! Many queries at once.

use ndarray::{Array2, Array3, ArrayView3, ArrayViewMut2, ArrayViewMut3};

use crate::contrast::{self, Contrast, LARGE, Slot, Workspace};
use crate::kernel::{self, LARGEST, Losses, Matrix, Small, Targets, Weights};
use crate::objective::same_shape;
use crate::par::{self, Task};
use crate::{Element, Error, Objective};

/// Entries per part: long enough to outweigh handing it to a thread.
const PART: usize = 1 << 14;

/// The mean loss over queries.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLoss<F> {
    /// Mean of the queries' losses.
    pub loss: F,
    /// Each query's loss.
    pub per_query: Vec<F>,
}

/// The mean loss over a batch of B queries with as many constitutions each, and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLossAndGrad<F> {
    /// Mean of the queries' losses.
    pub loss: F,
    /// Each query's loss.
    pub per_query: Vec<F>,
    /// ∂loss/∂L, [B, C, C]: each query's own gradient divided by B.
    pub grad: Array3<F>,
}

/// The mean loss over queries of any shapes, and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct RaggedLossAndGrad<F> {
    /// Mean of the queries' losses.
    pub loss: F,
    /// Each query's loss.
    pub per_query: Vec<F>,
    /// ∂loss/∂L of each query's matrix: its own gradient divided by the number of queries.
    pub grads: Vec<Array2<F>>,
}

impl Objective {
    /// The loss over a batch [B, C, C]; in every query, response r was sampled under constitution r.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyBatch`]; those of [`Objective::loss`], in [`Error::InBatch`] where one query is at fault.
    pub fn batch_loss<F: Element>(&self, logps: ArrayView3<'_, F>) -> Result<BatchLoss<F>, Error> {
        let mut per_query = vec![F::default(); logps.dim().0];
        let loss = self.batch(logps, &mut per_query, None, &mut Workspace::new())?;
        Ok(BatchLoss { loss, per_query })
    }

    /// The loss over a batch [B, C, C], and its gradient.
    ///
    /// # Errors
    ///
    /// As [`Objective::batch_loss`].
    pub fn batch_loss_and_grad<F: Element>(
        &self,
        logps: ArrayView3<'_, F>,
    ) -> Result<BatchLossAndGrad<F>, Error> {
        let mut per_query = vec![F::default(); logps.dim().0];
        let mut grad = Array3::from_elem(logps.dim(), F::default());
        let loss = self.batch(logps, &mut per_query, Some(grad.view_mut()), &mut Workspace::new())?;
        Ok(BatchLossAndGrad { loss, per_query, grad })
    }

    /// The loss over a batch [B, C, C]; each query's loss into `per_query` (B) and the gradient into `grad` [B, C, C].
    /// On an error, both hold anything.
    ///
    /// # Errors
    ///
    /// As [`Objective::batch_loss`], and [`Error::Shape`].
    pub fn batch_loss_and_grad_into<F: Element>(
        &self,
        logps: ArrayView3<'_, F>,
        per_query: &mut [F],
        grad: ArrayViewMut3<'_, F>,
        workspace: &mut Workspace<F>,
    ) -> Result<F, Error> {
        same_shape("per_query", &[per_query.len()], &logps.shape()[..1])?;
        same_shape("grad", grad.shape(), logps.shape())?;
        self.batch(logps, per_query, Some(grad), workspace)
    }

    /// The loss over queries of any shapes, with or without targets.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyBatch`]; those of [`Objective::loss_with_targets`], in [`Error::InBatch`].
    pub fn ragged_loss<F: Element>(&self, queries: &[Contrast<'_, F>]) -> Result<BatchLoss<F>, Error> {
        let mut per_query = vec![F::default(); queries.len()];
        let loss = self.ragged(queries, &mut per_query, &mut [], &mut Workspace::new())?;
        Ok(BatchLoss { loss, per_query })
    }

    /// The loss over queries of any shapes, and its gradient.
    ///
    /// # Errors
    ///
    /// As [`Objective::ragged_loss`].
    pub fn ragged_loss_and_grad<F: Element>(
        &self,
        queries: &[Contrast<'_, F>],
    ) -> Result<RaggedLossAndGrad<F>, Error> {
        let mut per_query = vec![F::default(); queries.len()];
        let zeros = |query: &Contrast<'_, F>| Array2::from_elem(query.logps().dim(), F::default());
        let mut grads: Vec<_> = queries.iter().map(zeros).collect();
        let mut views: Vec<_> = grads.iter_mut().map(|grad| grad.view_mut()).collect();
        let loss = self.ragged(queries, &mut per_query, &mut views, &mut Workspace::new())?;
        Ok(RaggedLossAndGrad { loss, per_query, grads })
    }

    /// The loss over queries of any shapes; each one's loss into `per_query` and its gradient into `grads`, which has one
    /// view of the matrix's shape for each. On an error, both hold anything.
    ///
    /// # Errors
    ///
    /// As [`Objective::ragged_loss`], and [`Error::Shape`].
    pub fn ragged_loss_and_grad_into<F: Element>(
        &self,
        queries: &[Contrast<'_, F>],
        per_query: &mut [F],
        grads: &mut [ArrayViewMut2<'_, F>],
        workspace: &mut Workspace<F>,
    ) -> Result<F, Error> {
        same_shape("per_query", &[per_query.len()], &[queries.len()])?;
        same_shape("grads", &[grads.len()], &[queries.len()])?;
        for (index, (query, grad)) in queries.iter().zip(grads.iter()).enumerate() {
            same_shape("grad", grad.shape(), query.logps().shape()).map_err(|e| e.in_batch(index))?;
        }
        self.ragged(queries, per_query, grads, workspace)
    }

    fn batch<F: Element>(
        &self,
        logps: ArrayView3<'_, F>,
        per_query: &mut [F],
        mut grad: Option<ArrayViewMut3<'_, F>>,
        workspace: &mut Workspace<F>,
    ) -> Result<F, Error> {
        let (n, rows, cols) = logps.dim();
        if n == 0 {
            return Err(Error::EmptyBatch);
        }
        kernel::shape(rows, cols, Targets::Diagonal)?;
        let logps = logps.as_standard_layout();
        let direct = grad.as_ref().is_none_or(ArrayViewMut3::is_standard_layout);
        let mut copy = if direct { Vec::new() } else { vec![F::default(); logps.len()] };
        let grads = match grad.as_mut() {
            Some(grad) if direct => grad.as_slice_mut().unwrap_or_default(),
            _ => &mut copy[..],
        };
        let large = rows * cols >= LARGE;
        let parts = if large { 1 } else { (logps.len() / PART).clamp(1, n.min(4 * par::threads())) };
        let task = Uniform {
            first: 0,
            c: cols,
            logps: logps.as_slice().unwrap_or_default(),
            weights: self.kernel_weights(),
            divisor: n as f64,
            per_query: &mut *per_query,
            grads,
            slots: workspace.slots(parts),
        };
        par::run(task, true)?;
        if let Some(mut grad) = grad.filter(|_| !direct) {
            for (to, &from) in grad.iter_mut().zip(&copy) {
                *to = from;
            }
        }
        Ok(mean(per_query))
    }

    fn ragged<F: Element>(
        &self,
        queries: &[Contrast<'_, F>],
        per_query: &mut [F],
        grads: &mut [ArrayViewMut2<'_, F>],
        workspace: &mut Workspace<F>,
    ) -> Result<F, Error> {
        if queries.is_empty() {
            return Err(Error::EmptyBatch);
        }
        for (index, query) in queries.iter().enumerate() {
            contrast::checked(query).map_err(|error| error.in_batch(index))?;
        }
        let entries: usize = queries.iter().map(|query| query.logps().len()).sum();
        let parts = (entries / PART).clamp(1, queries.len().min(4 * par::threads()));
        let task = Ragged {
            first: 0,
            queries,
            weights: self.kernel_weights(),
            divisor: queries.len() as f64,
            per_query: &mut *per_query,
            grads,
            slots: workspace.slots(parts),
        };
        par::run(task, true)?;
        Ok(mean(per_query))
    }
}

/// Mean in `f64`, in a fixed order, so that the number of threads changes no bit.
fn mean<F: Element>(values: &[F]) -> F {
    // Eight sums at once: one would wait for each addition in turn.
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += value.to_f64();
        }
    }
    let sum = sums.iter().sum::<f64>() + rest.iter().map(|value| value.to_f64()).sum::<f64>();
    F::from_f64(sum / values.len() as f64)
}

/// Where the first of two halves ends: `len` things over `parts` parts, half of the parts to each side.
fn middle(len: usize, parts: usize) -> (usize, usize) {
    let first = parts / 2;
    (len * first / parts, first)
}

/// Queries from `first` on, C × C each. One slot per part.
struct Uniform<'a, F> {
    first: usize,
    c: usize,
    logps: &'a [F],
    weights: Weights,
    divisor: f64,
    per_query: &'a mut [F],
    grads: &'a mut [F],
    slots: &'a mut [Slot<F>],
}

impl<F: Element> Task for Uniform<'_, F> {
    type Error = Error;

    fn parts(&self) -> usize {
        self.slots.len()
    }

    fn split(self) -> (Self, Self) {
        let Self { first, c, weights, divisor, .. } = self;
        let (at, parts) = middle(self.per_query.len(), self.slots.len());
        let entries = at * c * c;
        let (logps, rest_logps) = self.logps.split_at(entries);
        let (per_query, rest_per_query) = self.per_query.split_at_mut(at);
        let (grads, rest_grads) = self.grads.split_at_mut(entries.min(self.grads.len()));
        let (slots, rest_slots) = self.slots.split_at_mut(parts);
        (
            Self { first, c, logps, weights, divisor, per_query, grads, slots },
            Self {
                first: first + at,
                c,
                logps: rest_logps,
                weights,
                divisor,
                per_query: rest_per_query,
                grads: rest_grads,
                slots: rest_slots,
            },
        )
    }

    fn run(self) -> Result<(), Error> {
        let Self { first, c, logps, weights, divisor, per_query, grads, slots } = self;
        if c <= LARGEST {
            let sink = Losses { weights, losses: per_query };
            return Small { c, logps, weights, divisor, grads, sink }
                .run()
                .map_err(|(index, error)| error.in_batch(first + index));
        }
        let targets = Targets::Diagonal;
        let (n, mut grads) = (c * c, grads);
        let mut sink = Losses { weights, losses: per_query };
        for (index, matrix) in logps.chunks_exact(n).enumerate() {
            let (grad, rest) = std::mem::take(&mut grads).split_at_mut_checked(n).unwrap_or_default();
            let next = (&logps[(index + 1) * n..], &*rest);
            let parallel = matrix.len() >= LARGE;
            Matrix { cols: c, logps: matrix, targets, weights, divisor, grad, parallel, next }
                .run(&mut slots[0].scratch, index, &mut sink)
                .map_err(|error| error.in_batch(first + index))?;
            grads = rest;
        }
        Ok(())
    }
}

/// Queries from `first` on, of any shape. One slot per part.
struct Ragged<'a, 'q, 'g, F> {
    first: usize,
    queries: &'a [Contrast<'q, F>],
    weights: Weights,
    divisor: f64,
    per_query: &'a mut [F],
    grads: &'a mut [ArrayViewMut2<'g, F>],
    slots: &'a mut [Slot<F>],
}

impl<F: Element> Task for Ragged<'_, '_, '_, F> {
    type Error = Error;

    fn parts(&self) -> usize {
        self.slots.len()
    }

    fn split(self) -> (Self, Self) {
        let Self { first, weights, divisor, .. } = self;
        let (at, parts) = middle(self.queries.len(), self.slots.len());
        let (queries, rest_queries) = self.queries.split_at(at);
        let (per_query, rest_per_query) = self.per_query.split_at_mut(at);
        let (grads, rest_grads) = self.grads.split_at_mut(at.min(self.grads.len()));
        let (slots, rest_slots) = self.slots.split_at_mut(parts);
        (
            Self { first, queries, weights, divisor, per_query, grads, slots },
            Self {
                first: first + at,
                queries: rest_queries,
                weights,
                divisor,
                per_query: rest_per_query,
                grads: rest_grads,
                slots: rest_slots,
            },
        )
    }

    fn run(self) -> Result<(), Error> {
        let Self { first, queries, weights, divisor, per_query, grads, slots } = self;
        let mut grads = grads.iter_mut();
        for (index, (query, loss)) in queries.iter().zip(per_query).enumerate() {
            let grad = grads.next().map(|grad| grad.view_mut());
            let sink = Losses { weights, losses: std::slice::from_mut(loss) };
            contrast::evaluate(query, weights, divisor, grad, &mut slots[0], sink)
                .map_err(|error| error.in_batch(first + index))?;
        }
        Ok(())
    }
}
