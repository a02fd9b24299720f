//! Sums of gradients, and how several threads add to them.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::crew::Crew;
use crate::error::Result;

/// Gradients of every parameter, by its index in the model, in f32 (bf16 for pure bf16 training); `None` is zero.
pub(crate) struct Gradients {
    grads: Vec<Option<Tensor>>,
    kind: Kind,
}

impl Gradients {
    pub(crate) fn new(parameters: usize, kind: Kind) -> Self {
        Self { grads: (0..parameters).map(|_| None).collect(), kind }
    }

    /// Adds what each share found, parameter by parameter, in the order of the shares.
    pub(crate) fn add_all(&mut self, crew: &Crew, shares: Vec<Vec<(usize, Tensor)>>) -> Result<()> {
        let mut found: BTreeMap<usize, Vec<Tensor>> = BTreeMap::new();
        for (index, grad) in shares.into_iter().flatten() {
            found.entry(index).or_default().push(grad);
        }
        let kind = self.kind;
        let (indices, sums): (Vec<_>, Vec<_>) =
            found.into_iter().map(|(index, grads)| (index, (self.take(index), grads))).unzip();
        let sums = crew.map(sums, |(sum, grads)| {
            let mut grads = grads.into_iter();
            let mut sum = match (sum, grads.next()) {
                (Some(mut sum), Some(first)) => sum.f_add_(&first)?,
                (Some(sum), None) => sum,
                (None, first) => first.unwrap_or_default().f_to_kind(kind)?,
            };
            for grad in grads {
                sum = sum.f_add_(&grad)?;
            }
            Ok(sum)
        })?;
        for (index, sum) in indices.into_iter().zip(sums) {
            self.grads[index] = Some(sum);
        }
        Ok(())
    }

    /// Adds aᵀ b for every pair, in place: each thread has some rows of the sum. a: `[n, rows]`, b: `[n, columns]`.
    pub(crate) fn add_products(
        &mut self,
        crew: &Crew,
        index: usize,
        pairs: &[(Tensor, Tensor)],
    ) -> Result<()> {
        let Some((a, b)) = pairs.first() else { return Ok(()) };
        let (rows, columns) = (a.size2()?.1, b.size2()?.1);
        let sum = self.sum(index, [rows, columns], a.device())?;
        let mut parts = Vec::new();
        for (start, length) in crew.runs(rows, 64) {
            let pairs: Vec<(Tensor, Tensor)> = pairs
                .iter()
                .map(|(a, b)| Ok((a.f_narrow(1, start, length)?.f_transpose(0, 1)?, b.shallow_clone())))
                .collect::<Result<_>>()?;
            parts.push((sum.f_narrow(0, start, length)?, pairs));
        }
        crew.map(parts, |(mut sum, pairs)| {
            for (a, b) in pairs {
                let _ =
                    if sum.kind() == a.kind() { sum.f_addmm_(&a, &b)? } else { sum.f_add_(&a.f_mm(&b)?)? };
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Adds rows to those that `ids` name, in place. ids: `[n]`, rows: `[n, columns]`.
    pub(crate) fn add_rows(&mut self, index: usize, length: i64, ids: &Tensor, rows: &Tensor) -> Result<()> {
        let mut sum = self.sum(index, [length, rows.size2()?.1], rows.device())?;
        let _ = if self.kind == Kind::Float {
            sum.f_index_add_(0, ids, &rows.f_to_kind(Kind::Float)?)?
        } else {
            // Rows that occur often would lose most of their sum to rounding.
            let rows = rows.f_to_kind(Kind::Float)?;
            sum.f_add_(&Tensor::f_embedding_dense_backward(&rows, ids, length, -1, false)?)?
        };
        Ok(())
    }

    /// The sum as it is, zeros at first.
    fn sum(&mut self, index: usize, shape: [i64; 2], device: tch::Device) -> Result<Tensor> {
        let sum = match self.grads[index].take() {
            Some(sum) => sum,
            None => Tensor::f_zeros(shape, (self.kind, device))?,
        };
        Ok(self.grads[index].insert(sum).shallow_clone())
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn take(&mut self, index: usize) -> Option<Tensor> {
        self.grads[index].take()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Tensor> {
        self.grads[index].as_ref()
    }

    pub(crate) fn clear(&mut self) {
        self.grads.iter_mut().for_each(|grad| *grad = None);
    }
}
