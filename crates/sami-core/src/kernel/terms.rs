//! From sums of exponentials to the loss.

use crate::Element;

/// Weights of the two terms: α of the row term (over responses), β of the column term (over constitutions).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weights {
    pub(crate) rows: f64,
    pub(crate) cols: f64,
}

/// The two terms of one matrix, each a mean over its responses, at least 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    pub(crate) rows: f64,
    pub(crate) cols: f64,
}

/// Takes what was found: each term summed over the responses.
pub(crate) trait Sink<F> {
    /// Whether only the sum of the two terms matters. The kernel may then hand over the sum as `rows`, and 0 as `cols`.
    fn joint(&self) -> bool;
    /// One matrix.
    fn take(&mut self, index: usize, rows: f64, cols: f64, responses: usize);
    /// Neighbouring matrices from `first` on. What is said of one may be anything if [`Sink::take`] follows for it.
    fn take_all(&mut self, first: usize, rows: &[F], cols: &[F], responses: usize);
}

/// Keeps the weighted loss.
pub(crate) struct Losses<'a, F> {
    pub(crate) weights: Weights,
    pub(crate) losses: &'a mut [F],
}

impl<F: Element> Sink<F> for Losses<'_, F> {
    #[inline(always)]
    fn joint(&self) -> bool {
        self.weights.rows == self.weights.cols
    }

    #[inline(always)]
    fn take(&mut self, index: usize, rows: f64, cols: f64, responses: usize) {
        let Weights { rows: alpha, cols: beta } = self.weights;
        // A term without weight is left out, not multiplied by 0: it may be infinite.
        let weighted = |weight: f64, term: f64| if weight > 0.0 { weight * term } else { 0.0 };
        let loss =
            if alpha == beta { alpha * (rows + cols) } else { weighted(alpha, rows) + weighted(beta, cols) };
        // Both terms are at least 0; only rounding can say otherwise.
        self.losses[index] = F::from_f64((loss / responses as f64).max(0.0));
    }

    #[inline(always)]
    fn take_all(&mut self, first: usize, rows: &[F], cols: &[F], responses: usize) {
        let n = responses as f64;
        let (alpha, beta) = (self.weights.rows / n, self.weights.cols / n);
        for ((loss, row), col) in self.losses[first..first + rows.len()].iter_mut().zip(rows).zip(cols) {
            *loss = F::from_f64((alpha * row.to_f64() + beta * col.to_f64()).max(0.0));
        }
    }
}

impl<F: Element> Sink<F> for &mut Terms {
    fn joint(&self) -> bool {
        false
    }

    fn take(&mut self, _: usize, rows: f64, cols: f64, responses: usize) {
        let n = responses as f64;
        (self.rows, self.cols) = ((rows / n).max(0.0), (cols / n).max(0.0));
    }

    fn take_all(&mut self, first: usize, rows: &[F], cols: &[F], responses: usize) {
        for (row, col) in rows.iter().zip(cols) {
            Sink::<F>::take(self, first, row.to_f64(), col.to_f64(), responses);
        }
    }
}

/// Σ ln x of positive sums, with one logarithm for as many as multiply without leaving the range of `f64`.
pub(crate) fn sum_of_logs<F: Element>(values: impl Iterator<Item = F>) -> f64 {
    let (mut product, mut in_product, mut sum) = (1.0, 0, 0.0);
    for value in values {
        product *= value.to_f64();
        in_product += 1;
        if in_product == F::LOG_GROUP {
            sum += f64::ln(product);
            (product, in_product) = (1.0, 0);
        }
    }
    sum + f64::ln(product)
}
