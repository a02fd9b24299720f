//! The layer-wise engine: forward through the decoder keeping each layer's input, backward one layer at a time.
//!
//! Every layer is an island of its own in LibTorch's graph: (output · gradient).sum() gives its vector-Jacobian product.
//! With recomputation only the inputs are kept and a layer runs again in the backward pass (activation checkpointing without hooks);
//! without it the islands are kept whole. Both give the same numbers.

use tch::{Kind, Tensor, no_grad, with_grad};

use crate::error::Result;
use crate::group::Group;
use crate::head::{self, HeadForward, HeadKl};
use crate::model::{Model, Route};

/// Gradients of every parameter, by its index in the model, in f32 (bf16 for pure bf16 training); `None` is zero.
pub(crate) struct Gradients {
    grads: Vec<Option<Tensor>>,
    kind: Kind,
}

impl Gradients {
    pub(crate) fn new(parameters: usize, kind: Kind) -> Self {
        Self { grads: (0..parameters).map(|_| None).collect(), kind }
    }

    pub(crate) fn add(&mut self, index: usize, grad: &Tensor) -> Result<()> {
        match &mut self.grads[index] {
            Some(sum) => {
                let _ = sum.f_add_(grad)?;
            }
            slot => *slot = Some(grad.f_to_kind(self.kind)?),
        }
        Ok(())
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

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: scoring.
    Nothing,
    /// Each layer's input.
    Inputs,
    /// Each layer's input and its graph.
    Graphs,
}

struct Island {
    input: Tensor,
    output: Option<Tensor>,
    route: Option<Route>,
}

/// Which experts every layer chose; empty before the first pass.
pub(crate) type Routes = Vec<Option<Route>>;

/// A finished forward pass over a group.
pub(crate) struct Forward {
    islands: Vec<Island>,
    /// Last layer's output at the counted positions, [counted, hidden].
    hidden: Tensor,
    normed: Tensor,
    head: HeadForward,
}

impl Forward {
    /// Which experts each layer chose.
    pub(crate) fn into_routes(self) -> Routes {
        self.islands.into_iter().map(|island| island.route).collect()
    }

    /// Log-probabilities of the counted tokens of the group, in order: [counted], f32, nats.
    pub(crate) fn logps(&self) -> &Tensor {
        &self.head.logps
    }

    /// Runs a group through the model. `routes` are those of an earlier pass over the same group, if there was one.
    pub(crate) fn run(model: &Model, group: &Group, keep: Keep, routes: Routes) -> Result<Self> {
        no_grad(|| {
            let mut x = model.embedded(&group.ids)?;
            let mut islands = Vec::new();
            let mut routes = routes.into_iter();
            for (index, layer) in model.layers.iter().enumerate() {
                let segments_only = index + 1 == model.layers.len();
                let mut route = routes.next().flatten();
                let (input, output) = match keep {
                    Keep::Graphs => {
                        let input = leaf(&x)?;
                        let output =
                            with_grad(|| layer.forward(&input, &group.geometry, segments_only, &mut route))?;
                        x = output.f_detach()?;
                        (input, Some(output))
                    }
                    Keep::Nothing | Keep::Inputs => {
                        let output = layer.forward(&x, &group.geometry, segments_only, &mut route)?;
                        let input = std::mem::replace(&mut x, output);
                        (if keep == Keep::Inputs { input } else { Tensor::new() }, None)
                    }
                };
                islands.push(Island { input, output, route });
            }
            let hidden = x.f_index_select(0, &group.counted)?;
            let normed = model.final_norm(&hidden, model.norm())?;
            let head = head::forward(&normed, model.head(), &group.targets, keep != Keep::Nothing)?;
            Ok(Self { islands, hidden, normed, head })
        })
    }

    /// Adds the gradient of Σ weights ⊙ logps, and of the KL term where there is one, to `grads`. weights: `[counted]`, f32.
    /// Returns the KL at each of the term's places.
    pub(crate) fn backward(
        self,
        model: &Model,
        group: &Group,
        weights: &Tensor,
        kl: Option<&KlTerm>,
        grads: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let train_head = model.is_trained(model.head_index());
        let (mut grad_normed, grad_head) = no_grad(|| {
            head::backward(self.head, &self.normed, model.head(), &group.targets, weights, train_head)
        })?;
        if let Some(grad_head) = grad_head {
            grads.add(model.head_index(), &grad_head)?;
        }
        let mut kls = None;
        if let Some(term) = kl {
            let found = no_grad(|| term.evaluate(model, &self.normed))?;
            if let Some((grad_h, grad_head)) = found.gradient {
                grad_normed = no_grad(|| grad_normed.f_index_add_(0, &term.places, &grad_h))?;
                if train_head {
                    grads.add(model.head_index(), &grad_head)?;
                }
            }
            kls = Some(found.kl);
        }

        let hidden = leaf(&self.hidden)?;
        let normed = with_grad(|| model.final_norm(&hidden, model.norm()))?;
        let mut inputs = vec![&hidden];
        if model.is_trained(model.norm_index()) {
            inputs.push(model.norm());
        }
        let mut parts = vector_jacobian(&normed, &grad_normed, &inputs)?.into_iter();
        let grad_hidden = parts.next().unwrap_or_default();
        if let Some(grad_norm) = parts.next() {
            grads.add(model.norm_index(), &grad_norm)?;
        }
        // Every counted position is read once, so copying is adding.
        let mut grad = no_grad(|| {
            Tensor::f_zeros(
                [group.geometry.segment_tokens, grad_hidden.size2()?.1],
                (grad_hidden.kind(), grad_hidden.device()),
            )?
            .f_index_copy_(0, &group.counted, &grad_hidden)
        })?;

        for (index, (layer, island)) in model.layers.iter().zip(self.islands).enumerate().rev() {
            let Island { input, output, mut route } = island;
            let (input, output) = match output {
                Some(output) => (input, output),
                None => {
                    let input = leaf(&input)?;
                    let segments_only = index + 1 == model.layers.len();
                    let output =
                        with_grad(|| layer.forward(&input, &group.geometry, segments_only, &mut route))?;
                    (input, output)
                }
            };
            let trainable = layer.trainable(route.as_ref());
            let mut inputs = vec![&input];
            inputs.extend(trainable.iter().map(|&parameter| &model.parameters[parameter].tensor));
            let mut parts = vector_jacobian(&output, &grad, &inputs)?.into_iter();
            grad = parts.next().unwrap_or_default();
            for (parameter, part) in trainable.into_iter().zip(parts) {
                grads.add(parameter, &part)?;
            }
        }
        if !model.is_trained(model.embed_index()) {
            return Ok(kls);
        }
        no_grad(|| {
            let vocab = model.embed().size2()?.0;
            let grad = Tensor::f_embedding_dense_backward(
                &grad.f_to_kind(Kind::Float)?,
                &group.ids,
                vocab,
                -1,
                false,
            )?;
            grads.add(model.embed_index(), &grad)
        })?;
        Ok(kls)
    }
}

/// β·KL(π ‖ reference) at some of the counted positions.
pub(crate) struct KlTerm {
    /// Which of the counted positions, `[n]`.
    places: Tensor,
    /// The reference's normed hidden states there, `[n, hidden]`, and its head.
    reference: (Tensor, Tensor),
    /// ∂loss/∂KL of each, `[n]`, f32; absent where the KL is only looked at.
    coefficients: Option<Tensor>,
}

impl KlTerm {
    /// Runs the reference over the group.
    pub(crate) fn new(
        reference: &Model,
        group: &Group,
        places: &[i64],
        coefficients: Option<&[f32]>,
    ) -> Result<Self> {
        no_grad(|| {
            let tensor = |t: Tensor| -> Result<Tensor> { Ok(t.f_to_device(reference.device())?) };
            let places = tensor(Tensor::f_from_slice(places)?)?;
            let mut x = reference.embedded(&group.ids)?;
            for (index, layer) in reference.layers.iter().enumerate() {
                let segments_only = index + 1 == reference.layers.len();
                x = layer.forward(&x, &group.geometry, segments_only, &mut None)?;
            }
            let hidden = x.f_index_select(0, &group.counted.f_index_select(0, &places)?)?;
            let normed = reference.final_norm(&hidden, reference.norm())?;
            let coefficients = match coefficients {
                Some(values) => Some(tensor(Tensor::f_from_slice(values)?)?),
                None => None,
            };
            Ok(Self { places, reference: (normed, reference.head().shallow_clone()), coefficients })
        })
    }

    fn evaluate(&self, model: &Model, normed: &Tensor) -> Result<HeadKl> {
        let h = normed.f_index_select(0, &self.places)?;
        let (reference_h, reference_head) = (&self.reference.0, &self.reference.1);
        head::kl((&h, model.head()), (reference_h, reference_head), self.coefficients.as_ref())
    }
}

/// The same numbers, as the beginning of a new graph.
fn leaf(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_detach()?.f_set_requires_grad(true)?)
}

/// Gradients of Σ output ⊙ grad in each of the inputs.
fn vector_jacobian(output: &Tensor, grad: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let sum = with_grad(|| -> Result<Tensor> { Ok(output.f_mul(grad)?.f_sum(output.kind())?) })?;
    Ok(Tensor::f_run_backward(&[sum], inputs, false, false)?)
}
