//! The way back: head, norm, layers and embedding, one after the other, all shares at once.

use tch::{Tensor, no_grad, with_grad};

use super::{Island, Keep, Pass, Share, leaf, through_layers};
use crate::error::Result;
use crate::gradients::Gradients;
use crate::head::{HeadKl, HeadLoss};
use crate::model::Model;

/// β·KL(π ‖ reference) at some of the counted tokens.
#[derive(Clone, Copy)]
pub(crate) struct KlTerm<'a> {
    pub(crate) reference: &'a Model,
    /// Which of the counted tokens, ascending.
    pub(crate) places: &'a [usize],
    /// ∂loss/∂KL of each; absent where the KL is only looked at.
    pub(crate) coefficients: Option<&'a [f32]>,
}

/// A share on its way back.
struct Returning {
    share: Share,
    loss: HeadLoss,
    /// ∂loss/∂(what the head read), chunk by chunk.
    grad_h: Vec<Tensor>,
    /// The KL at the term's places, chunk by chunk.
    kl: Vec<Tensor>,
    /// ∂loss/∂(output of the layer that comes next).
    grad: Tensor,
}

/// A parameter's index and what is to be added to its gradient.
type Found = Vec<(usize, Tensor)>;

impl Pass<'_> {
    /// Adds the gradient of Σ weights ⊙ logps, and of the KL term where there is one, to `grads`. weights: one for each counted token.
    /// Returns the KL at each of the term's places.
    pub(crate) fn backward(
        self,
        weights: &[f32],
        kl: Option<KlTerm<'_>>,
        grads: &mut Gradients,
    ) -> Result<Vec<f32>> {
        let Self { model, crew, shares, counted } = self;
        let reference_weight = match kl {
            Some(KlTerm { reference, .. }) => crew.converted(reference.head(), reference.kind())?,
            None => Tensor::new(),
        };
        let mut work = Vec::with_capacity(shares.len());
        // Which of the term's places each share has.
        let mut dealt = Vec::with_capacity(shares.len());
        for share in shares {
            let own: Vec<f32> = share.counted(&counted).map(|place| weights[place]).collect();
            let term = match kl {
                Some(term) => {
                    let (local, which): (Vec<i64>, Vec<usize>) = share
                        .counted(&counted)
                        .enumerate()
                        .filter_map(|(local, place)| {
                            Some((local as i64, term.places.binary_search(&place).ok()?))
                        })
                        .unzip();
                    let coefficients = term
                        .coefficients
                        .map(|all| which.iter().map(|&index| all[index]).collect::<Vec<_>>());
                    dealt.push(which);
                    Some((term.reference.share()?, reference_weight.shallow_clone(), local, coefficients))
                }
                None => None,
            };
            work.push((share, own, term));
        }
        drop(reference_weight);
        let mut returning = crew.map(work, |(share, weights, term)| {
            let term = term.filter(|(_, _, places, _)| !places.is_empty());
            let kl = term.map(|(reference, weight, places, coefficients)| {
                head_kl(&reference, weight, &share, places, coefficients.as_deref())
            });
            let weights = Tensor::f_from_slice(&weights)?.f_to_device(share.model.device())?;
            let loss = HeadLoss { weights, kl: kl.transpose()? };
            Ok(Returning { share, loss, grad_h: Vec::new(), kl: Vec::new(), grad: Tensor::new() })
        })?;

        let train_head = model.is_trained(model.head_index());
        let rounds = returning.iter().map(|it| it.share.head.rounds()).collect::<Result<Vec<_>>>()?;
        for round in 0..rounds.into_iter().max().unwrap_or(0) {
            let parts = crew.map(returning.iter_mut().collect(), |it| it.head(round))?;
            if train_head {
                let pairs: Vec<_> = parts.into_iter().flatten().collect();
                no_grad(|| grads.add_products(crew, model.head_index(), &pairs))?;
            }
        }
        // The largest tensors of the way back are no longer needed.
        returning.iter_mut().for_each(Returning::leave_head);
        let found = crew.map(returning.iter_mut().collect(), Returning::norm)?;
        grads.add_all(crew, found)?;
        for _ in &model.layers {
            let found = crew.map(returning.iter_mut().collect(), Returning::layer)?;
            grads.add_all(crew, found)?;
        }
        if model.is_trained(model.embed_index()) {
            let vocab = model.embed().size2()?.0;
            for it in &returning {
                no_grad(|| grads.add_rows(model.embed_index(), vocab, &it.share.group.ids, &it.grad))?;
            }
        }

        let mut kls = vec![0.0; kl.map_or(0, |term| term.places.len())];
        for (it, which) in returning.iter().zip(dealt).filter(|(_, which)| !which.is_empty()) {
            let values = Vec::<f32>::try_from(Tensor::f_cat(&it.kl, 0)?.f_to_device(tch::Device::Cpu)?)?;
            for (index, value) in which.into_iter().zip(values) {
                kls[index] = value;
            }
        }
        Ok(kls)
    }
}

impl Returning {
    /// One chunk of the head; returns what the gradient of its weight is the product of.
    fn head(&mut self, round: usize) -> Result<Option<(Tensor, Tensor)>> {
        if round >= self.share.head.rounds()? {
            return Ok(None);
        }
        let part = self.share.head.backward(&mut self.share.found, &self.loss, round)?;
        self.grad_h.push(part.grad_h);
        self.kl.extend(part.kl);
        Ok(Some((part.grad_logits, part.h)))
    }

    /// Lets go of the head's weight, which may have been converted for this pass, of what it read, and of the reference's.
    fn leave_head(&mut self) {
        self.share.head.weight = Tensor::new();
        self.share.head.h = Tensor::new();
        self.loss.kl = None;
    }

    /// The final norm, and from the counted positions to all of the last layer's.
    fn norm(&mut self) -> Result<Found> {
        let Share { model, group, hidden, .. } = &self.share;
        let grad = Tensor::f_cat(&std::mem::take(&mut self.grad_h), 0)?;
        let hidden = leaf(hidden)?;
        let normed = with_grad(|| model.final_norm(&hidden, model.norm()))?;
        let mut inputs = vec![&hidden];
        let index = model.norm_index();
        if model.is_trained(index) {
            inputs.push(model.norm());
        }
        let mut parts = vector_jacobian(&normed, &grad, &inputs)?.into_iter();
        let grad_hidden = parts.next().unwrap_or_default();
        let tokens = group.geometry.segment_tokens;
        let zeros =
            Tensor::f_zeros([tokens, grad_hidden.size2()?.1], (grad_hidden.kind(), grad_hidden.device()));
        // Every counted position is read once, so copying is adding.
        self.grad = zeros?.f_index_copy_(0, &group.counted, &grad_hidden)?;
        Ok(parts.next().map(|grad| (index, grad)).into_iter().collect())
    }

    /// The last of the layers that are left.
    fn layer(&mut self) -> Result<Found> {
        let Share { model, group, islands, .. } = &mut self.share;
        let Some(Island { input, output, mut route }) = islands.pop() else { return Ok(Vec::new()) };
        let layer = &model.layers[islands.len()];
        let (input, output) = match output {
            Some(output) => (input, output),
            None => {
                let input = leaf(&input)?;
                let segments_only = islands.len() + 1 == model.layers.len();
                let output = with_grad(|| layer.forward(&input, &group.geometry, segments_only, &mut route))?;
                (input, output)
            }
        };
        let trainable = layer.trainable(route.as_ref());
        let mut inputs = vec![&input];
        inputs.extend(trainable.iter().map(|&parameter| &model.parameters[parameter].tensor));
        let mut parts = vector_jacobian(&output, &self.grad, &inputs)?.into_iter();
        self.grad = parts.next().unwrap_or_default();
        Ok(trainable.into_iter().zip(parts).collect())
    }
}

/// The reference over a share's tokens; `places` among its counted ones, `weight`: its head's.
fn head_kl(
    reference: &Model,
    weight: Tensor,
    share: &Share,
    places: Vec<i64>,
    coefficients: Option<&[f32]>,
) -> Result<HeadKl> {
    let device = reference.device();
    let (_, x) = through_layers(reference, &share.group, Keep::Nothing, Vec::new())?;
    let at = Tensor::f_from_slice(&places)?.f_to_device(device)?;
    let hidden = x.f_index_select(0, &share.group.counted.f_index_select(0, &at)?)?;
    let coefficients = coefficients.map(|values| Tensor::f_from_slice(values)?.f_to_device(device));
    Ok(HeadKl {
        places,
        reference_h: reference.final_norm(&hidden, reference.norm())?,
        reference_weight: weight,
        coefficients: coefficients.transpose()?,
    })
}

/// Gradients of Σ output ⊙ grad in each of the inputs.
fn vector_jacobian(output: &Tensor, grad: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let sum = with_grad(|| -> Result<Tensor> { Ok(output.f_mul(grad)?.f_sum(output.kind())?) })?;
    Ok(Tensor::f_run_backward(&[sum], inputs, false, false)?)
}
