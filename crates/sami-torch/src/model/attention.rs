//! Attention over packed rows: one prompt, then responses that see the prompt and themselves, never each other.

use tch::{Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::Result;

/// Which positions of one packed row see which, by logical position (not by place in the row).
pub(crate) struct Mask {
    /// [g·prefix, prefix], added to the scores of the prefix; `None` without a prefix.
    prefix: Option<Tensor>,
    /// [g·segments, row], added to the scores of the segments' tokens.
    segments: Tensor,
}

/// One packed row inside a group of rows that go through the layers together.
pub(crate) struct AttentionRow {
    /// First token of the row in the group.
    pub(crate) start: i64,
    /// First segment token of the row among all segment tokens of the group.
    pub(crate) segments_start: i64,
    /// Tokens of the shared prefix.
    pub(crate) prefix: i64,
    /// Tokens of all segments.
    pub(crate) segments: i64,
    /// One mask per distinct window of the model.
    pub(crate) masks: Vec<(Option<usize>, Mask)>,
}

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

impl Mask {
    /// `segment[i]` is 0 in the prefix and a response's own number (from 1) in its segment; `position[i]` is the logical
    /// position; both [row].
    pub(crate) fn new(
        segment: &Tensor,
        position: &Tensor,
        prefix: i64,
        window: Option<usize>,
        group: i64,
        kind: Kind,
    ) -> Result<Self> {
        let row = segment.size1()?;
        let bias = |from: i64, queries: i64, keys: i64| -> Result<Tensor> {
            let column = |x: &Tensor| -> Result<Tensor> { Ok(x.f_narrow(0, from, queries)?.f_unsqueeze(1)?) };
            let line = |x: &Tensor| -> Result<Tensor> { Ok(x.f_narrow(0, 0, keys)?.f_unsqueeze(0)?) };
            let (query_position, key_position) = (column(position)?, line(position)?);
            let own = line(segment)?.f_eq_tensor(&column(segment)?)?;
            let shared = line(segment)?.f_eq(0)?;
            let mut visible =
                own.f_logical_or(&shared)?.f_logical_and(&key_position.f_le_tensor(&query_position)?)?;
            if let Some(window) = window {
                let near = query_position.f_sub(&key_position)?.f_lt(window as i64)?;
                visible = visible.f_logical_and(&near)?;
            }
            let bias = Tensor::f_zeros([queries, keys], (kind, segment.device()))?
                .f_masked_fill(&visible.f_logical_not()?, f64::NEG_INFINITY)?;
            Ok(bias.f_repeat([group, 1])?)
        };
        let prefix_bias = if prefix > 0 { Some(bias(0, prefix, prefix)?) } else { None };
        Ok(Self { prefix: prefix_bias, segments: bias(prefix, row - prefix, row)? })
    }
}

impl AttentionRow {
    /// Attention of this row's segments, and of its prefix where `prefix_queries` are given too.
    ///
    /// q: [prefix or 0 + segments, query heads, dim]; k, v: [prefix + segments, key/value heads, dim]. Returns [queries,
    /// query heads · dim].
    pub(crate) fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        with_prefix: bool,
        window: Option<usize>,
        heads: Heads,
    ) -> Result<Tensor> {
        // Every distinct window of the model has a mask; the first is there always.
        let mask = self.masks.iter().find(|(own, _)| *own == window).or(self.masks.first());
        let Some((_, mask)) = mask else { return Ok(q.f_flatten(1, -1)?) };
        let (k, v) = (k.f_transpose(0, 1)?, v.f_transpose(0, 1)?);
        let mut blocks = Vec::with_capacity(2);
        let mut from = 0;
        if let (true, Some(bias)) = (with_prefix, &mask.prefix) {
            let (k, v) = (k.f_narrow(1, 0, self.prefix)?, v.f_narrow(1, 0, self.prefix)?);
            blocks.push(attend(&q.f_narrow(0, 0, self.prefix)?, &k, &v, bias, heads)?);
            from = self.prefix;
        }
        blocks.push(attend(&q.f_narrow(0, from, self.segments)?, &k, &v, &mask.segments, heads)?);
        Ok(if blocks.len() == 1 { blocks.swap_remove(0) } else { Tensor::f_cat(&blocks, 0)? })
    }
}

/// softmax(q kᵀ / √dim + bias) v. q: [queries, heads, dim]; k, v: [key/value heads, keys, dim]; bias: [g·queries, keys].
/// Returns [queries, heads · dim].
///
/// The g query heads of a key/value head are stacked along the queries, so keys and values are never copied per
/// query head.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bias: &Tensor, heads: Heads) -> Result<Tensor> {
    let queries = q.size()[0];
    let stacked = [heads.key_value, heads.group() * queries, heads.dim];
    let q = q.f_transpose(0, 1)?.f_reshape(stacked)?;
    let bias = bias.f_unsqueeze(0)?.f_expand([heads.key_value, -1, -1], false)?;
    let scores = bias.f_baddbmm(&q, &k.f_transpose(1, 2)?, 1.0, heads.scale())?;
    let probabilities = scores.f_softmax(-1, Kind::Float)?.f_to_kind(q.kind())?;
    let out = probabilities.f_bmm(v)?.f_view([heads.query, queries, heads.dim])?;
    Ok(out.f_transpose(0, 1)?.f_reshape([queries, heads.query * heads.dim])?)
}

/// One new token per sequence against its cached keys and values.
///
/// q: [batch, heads, dim]; k, v: [batch, key/value heads, keys, dim]; bias: [batch, keys], −∞ where a sequence has no key.
/// Returns [batch, heads · dim].
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
