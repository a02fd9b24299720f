//! One query's matrix, and memory that calls share.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::kernel::{self, LARGEST, Matrix, Scratch, Sink, Small, Targets, Weights};
use crate::{Element, Error};

/// Matrices with at least this many entries use all cores for themselves; batches of smaller ones share them out.
pub(crate) const LARGE: usize = 1 << 17;

/// One query's log-probabilities, C × R, and whose its responses are.
#[derive(Clone, Copy, Debug)]
pub struct Contrast<'a, F> {
    logps: ArrayView2<'a, F>,
    targets: Option<&'a [usize]>,
}

impl<'a, F> Contrast<'a, F> {
    /// A square matrix: response r was sampled under constitution r.
    pub fn new(logps: ArrayView2<'a, F>) -> Self {
        Self { logps, targets: None }
    }

    /// A C × R matrix whose response r was sampled under constitution `targets[r]`.
    pub fn with_targets(logps: ArrayView2<'a, F>, targets: &'a [usize]) -> Self {
        Self { logps, targets: Some(targets) }
    }

    /// The matrix: row = constitution, column = response.
    pub fn logps(&self) -> ArrayView2<'a, F> {
        self.logps
    }

    pub(crate) fn targets(&self) -> Targets<'a> {
        self.targets.map_or(Targets::Diagonal, Targets::Of)
    }
}

impl<'a, F> From<ArrayView2<'a, F>> for Contrast<'a, F> {
    fn from(logps: ArrayView2<'a, F>) -> Self {
        Self::new(logps)
    }
}

/// Memory that calls with buffers of the caller share. It grows to the largest call and is then reused: from the second
/// call of a size on, nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Workspace<F> {
    pub(crate) slots: Vec<Slot<F>>,
}

impl<F: Element> Workspace<F> {
    /// An empty workspace.
    pub fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// At least `n` slots.
    pub(crate) fn slots(&mut self, n: usize) -> &mut [Slot<F>] {
        if self.slots.len() < n {
            self.slots.resize_with(n, Slot::default);
        }
        &mut self.slots[..n]
    }
}

/// One thread's share of a [`Workspace`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot<F> {
    pub(crate) scratch: Scratch<F>,
    /// Copies of arrays that are not contiguous in memory.
    input: Vec<F>,
    output: Vec<F>,
}

/// A view as one slice: itself where it lies row by row in memory, else a copy in `buffer`.
fn contiguous<'a, F: Element>(view: &'a ArrayView2<'_, F>, buffer: &'a mut Vec<F>) -> &'a [F] {
    match view.as_slice() {
        Some(slice) => slice,
        None => {
            buffer.clear();
            buffer.extend(view.iter().copied());
            buffer
        }
    }
}

/// Loss (into `sink`, as matrix 0) and, where `grad` is given, gradient of one matrix whose shape and targets are checked.
/// `divisor` divides the gradient.
pub(crate) fn evaluate<F: Element, S: Sink<F>>(
    contrast: &Contrast<'_, F>,
    weights: Weights,
    divisor: f64,
    mut grad: Option<ArrayViewMut2<'_, F>>,
    slot: &mut Slot<F>,
    sink: S,
) -> Result<(), Error> {
    let Slot { scratch, input, output } = slot;
    let logps = contiguous(&contrast.logps, input);
    let (cols, targets) = (contrast.logps.ncols(), contrast.targets());
    let parallel = logps.len() >= LARGE;
    let of = |grad| Matrix { cols, logps, targets, weights, divisor, grad, parallel, next: (&[], &[]) };
    match &mut grad {
        Some(grad) if !grad.is_standard_layout() => {
            output.clear();
            output.resize(logps.len(), F::default());
            one(of(output), scratch, sink)?;
            for (to, &from) in grad.iter_mut().zip(output.iter()) {
                *to = from;
            }
            Ok(())
        }
        grad => {
            one(of(grad.as_mut().and_then(|grad| grad.as_slice_mut()).unwrap_or_default()), scratch, sink)
        }
    }
}

/// The kernel that fits the shape.
pub(crate) fn one<F: Element, S: Sink<F>>(
    matrix: Matrix<'_, F>,
    scratch: &mut Scratch<F>,
    mut sink: S,
) -> Result<(), Error> {
    let Matrix { cols: c, logps, targets, weights, divisor, grad, .. } = matrix;
    if matches!(targets, Targets::Diagonal) && c <= LARGEST {
        let small = Small { c, logps, weights, divisor, grads: grad, sink };
        return small.run().map_err(|(_, error)| error);
    }
    Matrix { grad, ..matrix }.run(scratch, 0, &mut sink)
}

/// Checks the shape of one matrix.
pub(crate) fn checked<F>(contrast: &Contrast<'_, F>) -> Result<(), Error> {
    let (rows, cols) = contrast.logps.dim();
    kernel::shape(rows, cols, contrast.targets())
}
