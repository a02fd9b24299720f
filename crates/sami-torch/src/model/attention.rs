//! Attention over packed rows: prefixes see themselves; a segment sees its row's prefix and itself, never another segment.
//!
//! Units of like length are padded to one block, so that short ones cost few operations; a long one is a block of its own,
//! without padding.

use tch::{Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::Result;

/// Queries of a long unit that are scored at once, against the keys up to their own end: half of the square of a causal mask is never
/// computed.
const CAUSAL_STEP: i64 = 128;

/// Shape of the heads, and how many query heads share a key/value head.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) query: i64,
    pub(crate) key_value: i64,
    pub(crate) dim: i64,
}

impl Heads {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            query: config.num_attention_heads as i64,
            key_value: config.num_key_value_heads as i64,
            dim: config.head_dim as i64,
        }
    }

    pub(crate) fn group(self) -> i64 {
        self.query / self.key_value
    }

    fn scale(self) -> f64 {
        (self.dim as f64).powf(-0.5)
    }
}

/// Where the tokens of a block's units stand among the tokens of the group.
pub(crate) enum Places {
    /// One unit, one run of tokens.
    Run { start: i64, len: i64 },
    /// Several units, or one in two runs: `index` `[rows · longest]` names a token for every padded place, `real` the padded
    /// places that are not padding.
    Padded { index: Tensor, longest: i64, real: Tensor },
}

impl Places {
    /// x: `[tokens, heads, dim]`. Returns `[rows, longest, heads, dim]`.
    fn gather(&self, x: &Tensor, rows: i64) -> Result<Tensor> {
        let (_, heads, dim) = x.size3()?;
        match self {
            Self::Run { start, len } => Ok(x.f_narrow(0, *start, *len)?.f_unsqueeze(0)?),
            // As a lookup: its gradient is several times faster than that of index_select.
            Self::Padded { index, longest, .. } => {
                Ok(Tensor::f_embedding(&x.f_flatten(1, 2)?, index, -1, false, false)?
                    .f_view([rows, *longest, heads, dim])?)
            }
        }
    }

    /// y: `[rows · longest, width]`. Returns the real places, `[tokens, width]`.
    fn scatter(&self, y: Tensor) -> Result<Tensor> {
        match self {
            Self::Run { .. } => Ok(y),
            Self::Padded { real, .. } => Ok(Tensor::f_embedding(&y, real, -1, false, false)?),
        }
    }
}

/// Units (prefixes, or segments with what they see) that attend together. The last keys of a unit are its queries' own.
pub(crate) struct Block {
    pub(crate) rows: i64,
    /// Among the prefix tokens of the group for a block of prefixes, else among its segment tokens.
    pub(crate) queries: Places,
    /// Among all tokens of the group.
    pub(crate) keys: Places,
    /// `[rows, queries, keys]`, 0 or −∞, one per distinct window of the model.
    pub(crate) masks: Vec<(Option<usize>, Tensor)>,
}

impl Block {
    /// q: `[tokens, query heads, dim]`; k, v: `[tokens, key/value heads, dim]`. Returns `[the block's queries, query heads ·
    /// dim]`.
    pub(crate) fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        window: Option<usize>,
        heads: Heads,
    ) -> Result<Tensor> {
        let q = self.queries.gather(q, self.rows)?;
        let (k, v) = (self.keys.gather(k, self.rows)?, self.keys.gather(v, self.rows)?);
        // Every distinct window of the model has a mask; the first is there always.
        let mask = self.masks.iter().find(|(own, _)| *own == window).or(self.masks.first());
        let Some((_, mask)) = mask else { return Ok(q.f_flatten(1, -1)?) };
        let (queries, keys) = (q.size()[1], k.size()[1]);
        let out = if self.rows == 1 && queries > CAUSAL_STEP {
            let mut parts = Vec::new();
            for start in (0..queries).step_by(CAUSAL_STEP as usize) {
                let len = CAUSAL_STEP.min(queries - start);
                let seen = keys - queries + start + len;
                let mask = mask.f_narrow(1, start, len)?.f_narrow(2, 0, seen)?;
                let (k, v) = (k.f_narrow(1, 0, seen)?, v.f_narrow(1, 0, seen)?);
                parts.push(attend(&q.f_narrow(1, start, len)?, &k, &v, &mask, heads)?);
            }
            Tensor::f_cat(&parts, 1)?
        } else {
            attend(&q, &k, &v, mask, heads)?
        };
        self.queries.scatter(out.f_reshape([self.rows * queries, heads.query * heads.dim])?)
    }
}

/// softmax(q kᵀ / √dim + bias) v. q: `[rows, queries, heads, dim]`; k, v: `[rows, keys, key/value heads, dim]`; bias: `[rows,
/// queries, keys]`. Returns `[rows, queries, heads, dim]`.
///
/// The g query heads of a key/value head are stacked along the queries, so keys and values are never copied per
/// query head.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bias: &Tensor, heads: Heads) -> Result<Tensor> {
    let (rows, queries, keys) = bias.size3()?;
    let (batch, group) = (rows * heads.key_value, heads.group());
    let q = q
        .f_view([rows, queries, heads.key_value, group, heads.dim])?
        .f_permute([0, 2, 3, 1, 4])?
        .f_reshape([batch, group * queries, heads.dim])?;
    let k = k.f_permute([0, 2, 3, 1])?.f_reshape([batch, heads.dim, keys])?;
    let v = v.f_transpose(1, 2)?.f_reshape([batch, keys, heads.dim])?;
    let nothing = Tensor::f_zeros([1, 1, 1], (q.kind(), q.device()))?;
    let mut scores = nothing.f_baddbmm(&q, &k, 0.0, heads.scale())?.f_view([
        rows,
        heads.key_value,
        group,
        queries,
        keys,
    ])?;
    let scores = scores.f_add_(&bias.f_view([rows, 1, 1, queries, keys])?)?;
    let probabilities = scores.f_softmax(-1, Kind::Float)?.f_to_kind(q.kind())?;
    Ok(probabilities
        .f_view([batch, group * queries, keys])?
        .f_bmm(&v)?
        .f_view([rows, heads.key_value, group, queries, heads.dim])?
        .f_permute([0, 3, 1, 2, 4])?
        .f_reshape([rows, queries, heads.query, heads.dim])?)
}

/// One new token per sequence against its cached keys and values.
///
/// q: `[batch, heads, dim]`; k, v: `[batch, key/value heads, keys, dim]`; bias: `[batch, keys]`, −∞ where a sequence has no key.
/// Returns `[batch, heads · dim]`.
pub(crate) fn attend_cached(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: &Tensor,
    heads: Heads,
) -> Result<Tensor> {
    let (batch, keys) = bias.size2()?;
    let rows = batch * heads.key_value;
    let q = q.f_reshape([rows, heads.group(), heads.dim])?;
    let (k, v) = (k.f_reshape([rows, keys, heads.dim])?, v.f_reshape([rows, keys, heads.dim])?);
    let bias = bias
        .f_view([batch, 1, 1, keys])?
        .f_expand([batch, heads.key_value, heads.group(), keys], false)?
        .f_reshape([rows, heads.group(), keys])?;
    let scores = bias.f_baddbmm(&q, &k.f_transpose(1, 2)?, 1.0, heads.scale())?;
    let probabilities = scores.f_softmax(-1, Kind::Float)?.f_to_kind(q.kind())?;
    Ok(probabilities.f_bmm(&v)?.f_reshape([batch, heads.query * heads.dim])?)
}
