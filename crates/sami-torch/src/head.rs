//! The language-model head on response positions only, in chunks: full logits of a prompt never exist.
//!
//! With h [n, hidden], W [vocab, hidden] and targets y: logp = (h Wᵀ)[y] − logsumexp(h Wᵀ), in f32. Its gradient is known:
//! ∂ Σ w·logp / ∂logits = w (onehot(y) − softmax), so no autograd graph is kept.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::model::product;

/// Logits of at most this many elements exist at once (64 MiB of f32).
pub(crate) const CHUNK_ELEMENTS: i64 = 1 << 24;

/// Log-probabilities, and what their gradient needs.
pub(crate) struct HeadForward {
    /// [n], f32, in nats.
    pub(crate) logps: Tensor,
    /// [n, 1], f32.
    logsumexp: Tensor,
    /// The logits themselves where they fit into one chunk.
    logits: Option<Tensor>,
}

/// Log-probabilities of `targets` [n] after hidden states `h` [n, hidden].
pub(crate) fn forward(h: &Tensor, weight: &Tensor, targets: &Tensor, keep: bool) -> Result<HeadForward> {
    let (mut logps, mut sums, mut kept) = (Vec::new(), Vec::new(), None);
    let weight = &weight.f_to_kind(h.kind())?;
    for (start, length) in chunks(h, weight)? {
        let logits = chunk_logits(h, weight, start, length)?;
        let logsumexp = logits.f_logsumexp([-1i64], true)?;
        let targets = targets.f_narrow(0, start, length)?.f_unsqueeze(-1)?;
        logps.push(logits.f_gather(-1, &targets, false)?.f_sub(&logsumexp)?.f_squeeze_dim(-1)?);
        sums.push(logsumexp);
        if keep && length == h.size()[0] {
            kept = Some(logits);
        }
    }
    Ok(HeadForward { logps: Tensor::f_cat(&logps, 0)?, logsumexp: Tensor::f_cat(&sums, 0)?, logits: kept })
}

/// Gradient of Σ weights ⊙ logps: (in h `[n, hidden]`, in W `[vocab, hidden]` as f32 where it is trained).
pub(crate) fn backward(
    forward: HeadForward,
    h: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    train_head: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let mut grad_h = Vec::new();
    let mut grad_weight: Option<Tensor> = None;
    let mut kept = forward.logits;
    let weight = &weight.f_to_kind(h.kind())?;
    for (start, length) in chunks(h, weight)? {
        let logits = match kept.take() {
            Some(logits) => logits,
            None => chunk_logits(h, weight, start, length)?,
        };
        let pick = |t: &Tensor| t.f_narrow(0, start, length);
        let w = pick(weights)?.f_unsqueeze(-1)?;
        let mut grad = logits.f_sub(&pick(&forward.logsumexp)?)?.f_exp_()?.f_mul_(&w.f_neg()?)?;
        let grad = grad.f_scatter_add_(-1, &pick(targets)?.f_unsqueeze(-1)?, &w)?.f_to_kind(h.kind())?;
        grad_h.push(grad.f_mm(weight)?);
        if train_head {
            let part = grad.f_transpose(0, 1)?.f_mm(&pick(h)?)?.f_to_kind(Kind::Float)?;
            add(&mut grad_weight, part)?;
        }
    }
    Ok((Tensor::f_cat(&grad_h, 0)?, grad_weight))
}

/// KL(π ‖ reference) at each position, exact over the vocabulary, and the gradient of Σ coefficients ⊙ KL.
pub(crate) struct HeadKl {
    /// `[n]`, f32, in nats.
    pub(crate) kl: Tensor,
    /// In h, `[n, hidden]`, and in W, `[vocab, hidden]` as f32; absent without coefficients.
    pub(crate) gradient: Option<(Tensor, Tensor)>,
}

/// With p = softmax(h Wᵀ) and q the reference's: KL = Σ p (ln p − ln q), ∂KL/∂logits = p ⊙ (ln p − ln q − KL).
/// h, `reference_h`: `[n, hidden]`; coefficients: `[n]`, f32.
pub(crate) fn kl(
    (h, weight): (&Tensor, &Tensor),
    (reference_h, reference_weight): (&Tensor, &Tensor),
    coefficients: Option<&Tensor>,
) -> Result<HeadKl> {
    let (mut kls, mut grad_h, mut grad_weight) = (Vec::new(), Vec::new(), None);
    let (weight, reference_weight) =
        (&weight.f_to_kind(h.kind())?, &reference_weight.f_to_kind(reference_h.kind())?);
    for (start, length) in chunks(h, weight)? {
        let logps = |h: &Tensor, weight: &Tensor| -> Result<Tensor> {
            Ok(chunk_logits(h, weight, start, length)?.f_log_softmax(-1, Kind::Float)?)
        };
        let logp = logps(h, weight)?;
        let apart = logp.f_sub(&logps(reference_h, reference_weight)?)?;
        let p = logp.f_exp()?;
        let kl = p.f_mul(&apart)?.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?;
        if let Some(coefficients) = coefficients {
            let scale = coefficients.f_narrow(0, start, length)?.f_unsqueeze(-1)?;
            let grad = p.f_mul(&apart.f_sub(&kl)?)?.f_mul_(&scale)?.f_to_kind(h.kind())?;
            grad_h.push(grad.f_mm(weight)?);
            let part = grad.f_transpose(0, 1)?.f_mm(&h.f_narrow(0, start, length)?)?;
            add(&mut grad_weight, part.f_to_kind(Kind::Float)?)?;
        }
        kls.push(kl.f_squeeze_dim(-1)?);
    }
    let gradient = match grad_weight {
        Some(grad_weight) => Some((Tensor::f_cat(&grad_h, 0)?, grad_weight)),
        None => None,
    };
    Ok(HeadKl { kl: Tensor::f_cat(&kls, 0)?, gradient })
}

fn add(sum: &mut Option<Tensor>, part: Tensor) -> Result<()> {
    match sum {
        Some(sum) => {
            let _ = sum.f_add_(&part)?;
        }
        None => *sum = Some(part),
    }
    Ok(())
}

/// f32 logits [n, vocab] of a few positions.
pub(crate) fn logits(h: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(product(h, &weight.f_to_kind(h.kind())?, None)?.f_to_kind(Kind::Float)?)
}

fn chunk_logits(h: &Tensor, weight: &Tensor, start: i64, length: i64) -> Result<Tensor> {
    logits(&h.f_narrow(0, start, length)?, weight)
}

fn chunks(h: &Tensor, weight: &Tensor) -> Result<Vec<(i64, i64)>> {
    let (n, vocab) = (h.size2()?.0, weight.size2()?.0);
    let size = (CHUNK_ELEMENTS / vocab).max(1);
    Ok((0..n).step_by(size as usize).map(|start| (start, size.min(n - start))).collect())
}
