//! The language-model head on response positions only, in chunks: full logits of a prompt never exist.
//!
//! With h [n, hidden], W [vocab, hidden] and targets y: logp = (h Wᵀ)[y] − logsumexp(h Wᵀ), in f32. Its gradient is known:
//! ∂ Σ w·logp / ∂logits = w (onehot(y) − softmax), so no autograd graph is kept.

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::product;

/// Logits of at most this many elements exist at once (64 MiB of f32), those of all threads together.
pub(crate) const CHUNK_ELEMENTS: i64 = 1 << 24;

/// Beyond it the numbers of f32 lie a thousandth of a nat and more apart. Logits of trained models stay within some hundreds.
const LARGEST_LOGIT: f32 = 8192.0;

/// Refuses a token's log-probability that is not finite, or that takes larger logits than a model has: two logits within the
/// limit are at most twice the limit apart.
pub(crate) fn check_logp(value: f32, what: impl Fn() -> String) -> Result<()> {
    if !value.is_finite() {
        return Err(Error::NonFinite { what: what() });
    }
    match value < -2.0 * LARGEST_LOGIT {
        true => Err(Error::Extreme { what: what(), value: value.into(), limit: LARGEST_LOGIT.into() }),
        false => Ok(()),
    }
}

/// Refuses logits that are not finite, or larger than a model has.
pub(crate) fn check_logits(logits: &[f32], what: impl Fn() -> String) -> Result<()> {
    match logits.iter().find(|logit| logit.is_nan() || logit.abs() > LARGEST_LOGIT) {
        Some(logit) if logit.is_finite() => {
            Err(Error::Extreme { what: what(), value: (*logit).into(), limit: LARGEST_LOGIT.into() })
        }
        Some(_) => Err(Error::NonFinite { what: what() }),
        None => Ok(()),
    }
}

/// The head over some positions.
pub(crate) struct Head {
    /// `[n, hidden]`.
    pub(crate) h: Tensor,
    /// `[vocab, hidden]`, in the kind of `h`.
    pub(crate) weight: Tensor,
    /// The tokens that are predicted, `[n]`.
    pub(crate) targets: Tensor,
    /// Elements of a chunk.
    pub(crate) chunk: i64,
}

/// Log-probabilities, and what their gradient needs.
pub(crate) struct HeadForward {
    /// [n], f32, in nats.
    pub(crate) logps: Tensor,
    /// [n, 1], f32.
    logsumexp: Tensor,
    /// The logits themselves where they fit into one chunk.
    logits: Option<Tensor>,
}

/// What the gradient is taken of: Σ weights ⊙ logps, and a KL term.
pub(crate) struct HeadLoss {
    /// `[n]`, f32.
    pub(crate) weights: Tensor,
    pub(crate) kl: Option<HeadKl>,
}

/// Σ coefficients ⊙ KL(π ‖ reference) at some of the positions.
pub(crate) struct HeadKl {
    /// Which, ascending.
    pub(crate) places: Vec<i64>,
    /// The reference's hidden states there, `[places, hidden]`.
    pub(crate) reference_h: Tensor,
    /// Its head, `[vocab, hidden]`, in the kind of `reference_h`.
    pub(crate) reference_weight: Tensor,
    /// `[places]`, f32; absent where the KL is only looked at.
    pub(crate) coefficients: Option<Tensor>,
}

/// The backward pass over one chunk.
pub(crate) struct HeadPart {
    /// ∂loss/∂logits, `[chunk, vocab]`, in the kind of h.
    pub(crate) grad_logits: Tensor,
    /// The hidden states, `[chunk, hidden]`: ∂loss/∂W is `grad_logits`ᵀ h.
    pub(crate) h: Tensor,
    /// ∂loss/∂h, `[chunk, hidden]`.
    pub(crate) grad_h: Tensor,
    /// KL at those of the term's places that lie in the chunk, in nats.
    pub(crate) kl: Option<Tensor>,
}

impl Head {
    /// Log-probabilities of the targets; keeps the logits if asked to and if they are one chunk.
    pub(crate) fn forward(&self, keep: bool) -> Result<HeadForward> {
        let (mut logps, mut sums, mut kept) = (Vec::new(), Vec::new(), None);
        for round in 0..self.rounds()? {
            let at = self.chunk(round)?;
            let logits = self.logits(&at)?;
            let logsumexp = logits.f_logsumexp([-1i64], true)?;
            let targets = narrow(&self.targets, &at)?.f_unsqueeze(-1)?;
            logps.push(logits.f_gather(-1, &targets, false)?.f_sub(&logsumexp)?.f_squeeze_dim(-1)?);
            sums.push(logsumexp);
            if keep && at.end - at.start == self.h.size()[0] {
                kept = Some(logits);
            }
        }
        Ok(HeadForward {
            logps: Tensor::f_cat(&logps, 0)?,
            logsumexp: Tensor::f_cat(&sums, 0)?,
            logits: kept,
        })
    }

    /// Number of chunks.
    pub(crate) fn rounds(&self) -> Result<usize> {
        let (n, size) = (self.h.size2()?.0, self.chunk_size()?);
        Ok(((n + size - 1) / size) as usize)
    }

    /// The backward pass over one chunk.
    pub(crate) fn backward(
        &self,
        forward: &mut HeadForward,
        loss: &HeadLoss,
        round: usize,
    ) -> Result<HeadPart> {
        let at = self.chunk(round)?;
        let mut logits = match forward.logits.take() {
            Some(logits) => logits,
            None => self.logits(&at)?,
        };
        let term = match &loss.kl {
            Some(term) => term.over(&logits, &at)?,
            None => None,
        };
        let w = narrow(&loss.weights, &at)?.f_unsqueeze(-1)?;
        // The logits' own memory becomes that of their gradient.
        let mut grad = logits.f_sub_(&narrow(&forward.logsumexp, &at)?)?.f_exp_()?.f_mul_(&w.f_neg()?)?;
        let mut grad = grad.f_scatter_add_(-1, &narrow(&self.targets, &at)?.f_unsqueeze(-1)?, &w)?;
        let mut kl = None;
        if let Some(found) = term {
            if let Some(its) = &found.grad_logits {
                grad = grad.f_index_add_(0, &found.places, its)?;
            }
            kl = Some(found.kl);
        }
        let grad_logits = grad.f_to_kind(self.h.kind())?;
        Ok(HeadPart { grad_h: grad_logits.f_mm(&self.weight)?, grad_logits, h: narrow(&self.h, &at)?, kl })
    }

    fn logits(&self, at: &Range<i64>) -> Result<Tensor> {
        logits(&narrow(&self.h, at)?, &self.weight)
    }

    fn chunk_size(&self) -> Result<i64> {
        Ok((self.chunk / self.weight.size2()?.0).max(1))
    }

    fn chunk(&self, round: usize) -> Result<Range<i64>> {
        let (n, size) = (self.h.size2()?.0, self.chunk_size()?);
        let start = size * round as i64;
        Ok(start.min(n)..(start + size).min(n))
    }
}

/// The KL term within a chunk.
struct KlPart {
    /// Places in the chunk.
    places: Tensor,
    kl: Tensor,
    /// ∂(Σ coefficients ⊙ KL)/∂logits, `[places, vocab]`.
    grad_logits: Option<Tensor>,
}

impl HeadKl {
    /// With p = softmax(logits) and q the reference's: KL = Σ p (ln p − ln q), ∂KL/∂logits = p ⊙ (ln p − ln q − KL). Exact over
    /// the vocabulary.
    fn over(&self, logits: &Tensor, chunk: &Range<i64>) -> Result<Option<KlPart>> {
        let first = self.places.partition_point(|place| *place < chunk.start);
        let last = self.places.partition_point(|place| *place < chunk.end);
        if first == last {
            return Ok(None);
        }
        let own = first as i64..last as i64;
        let places: Vec<i64> = self.places[first..last].iter().map(|place| place - chunk.start).collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(logits.device())?;
        let logp = logits.f_index_select(0, &places)?.f_log_softmax(-1, Kind::Float)?;
        let reference = self::logits(&narrow(&self.reference_h, &own)?, &self.reference_weight)?;
        let mut apart = logp.f_sub(&reference.f_log_softmax(-1, Kind::Float)?)?;
        let mut p = logp.f_exp()?;
        let kl = p.f_mul(&apart)?.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?;
        let grad_logits = match &self.coefficients {
            Some(coefficients) => {
                let scale = narrow(coefficients, &own)?.f_unsqueeze(-1)?;
                Some(p.f_mul_(&apart.f_sub_(&kl)?)?.f_mul_(&scale)?)
            }
            None => None,
        };
        Ok(Some(KlPart { places, kl: kl.f_squeeze_dim(-1)?, grad_logits }))
    }
}

/// f32 logits `[n, vocab]` of a few positions.
pub(crate) fn logits(h: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(product(h, &weight.f_to_kind(h.kind())?, None)?.f_to_kind(Kind::Float)?)
}

fn narrow(x: &Tensor, at: &Range<i64>) -> Result<Tensor> {
    Ok(x.f_narrow(0, at.start, at.end - at.start)?)
}
