//! One decoder layer: RMSNorm, attention with rotary positions, RMSNorm, gated MLP. Families differ by the tensors that
//! are there (biases, norms of the heads), not by code.

use tch::{Kind, Tensor};

use super::attention::{Block, Heads, attend_cached};
use super::dropout::Dropout;
use super::linear::{Linear, Parts};
use super::mlp::{Mlp, Route};
use super::rope::Rotation;
use crate::config::ModelConfig;
use crate::error::Result;

/// A decoder layer; its tensors share storage with [`super::Model::parameters`].
pub(crate) struct Layer {
    input_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    output: Linear,
    post_attention_norm: Tensor,
    mlp: Mlp,
    eps: f64,
    heads: Heads,
    window: Option<usize>,
    /// Its trained parameters in the model's list, those of experts apart.
    trainable: Vec<usize>,
}

/// Where the tokens of a group of packed rows stand: what attention and rotary positions need. The prefixes of all rows come
/// first, then the segments of all rows.
pub(crate) struct Geometry {
    /// Rotation of every token.
    pub(crate) rotation: Rotation,
    /// Rotation of the segment tokens alone.
    pub(crate) segment_rotation: Rotation,
    /// Number of prefix tokens.
    pub(crate) prefix_tokens: i64,
    /// Number of segment tokens.
    pub(crate) segment_tokens: i64,
    /// Attention of the prefixes, in the order of their tokens.
    pub(crate) prefixes: Vec<Block>,
    /// Attention of the segments, in the order of their tokens.
    pub(crate) segments: Vec<Block>,
    /// Adapters' dropout, in training.
    pub(crate) dropout: Option<Dropout>,
}

/// Keys and values of some tokens in one layer, `[tokens, key/value heads, dim]`.
pub(crate) struct KeysValues {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// Keys and values of one layer, [slots, key/value heads, longest, dim], filled in place.
pub(crate) struct LayerCache {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// One decoding step: which slots take part, and at which place each writes.
pub(crate) struct Step<'a> {
    pub(crate) rotation: &'a Rotation,
    /// Slots that are in use are the first `batch` ones.
    pub(crate) batch: i64,
    /// Where each sequence writes its new key and value, [batch].
    pub(crate) places: &'a Tensor,
    /// 0, 1, … batch − 1.
    pub(crate) slots: &'a Tensor,
    /// [batch, keys], −∞ where a sequence has no key.
    pub(crate) bias: &'a Tensor,
    /// The same for windows, by window.
    pub(crate) window_bias: &'a [(usize, Tensor)],
}

impl Layer {
    pub(crate) fn new(config: &ModelConfig, index: usize, parts: &mut Parts<'_>) -> Result<Self> {
        let at = |name: &str| format!("model.layers.{index}.{name}");
        Ok(Self {
            input_norm: parts.tensor(&at("input_layernorm.weight"))?,
            query: parts.linear(&at("self_attn.q_proj"))?,
            key: parts.linear(&at("self_attn.k_proj"))?,
            value: parts.linear(&at("self_attn.v_proj"))?,
            query_norm: parts.find(&at("self_attn.q_norm.weight")),
            key_norm: parts.find(&at("self_attn.k_norm.weight")),
            output: parts.linear(&at("self_attn.o_proj"))?,
            post_attention_norm: parts.tensor(&at("post_attention_layernorm.weight"))?,
            mlp: Mlp::new(config, index, parts)?,
            eps: config.rms_norm_eps,
            heads: Heads::new(config),
            window: config.windows.get(index).copied().flatten(),
            trainable: parts.take_trainable(),
        })
    }

    /// Indices of the parameters that have a gradient after a forward pass along this route.
    pub(crate) fn trainable(&self, route: Option<&Route>) -> Vec<usize> {
        let mut trainable = self.trainable.clone();
        trainable.extend(self.mlp.reached(route));
        trainable
    }

    /// The layer over a group of packed rows. x: `[tokens, hidden]`. With `segments_only` (the last layer, whose output is
    /// read at response positions alone) the prefix serves as keys and values and nothing else is computed for it;
    /// the result is then `[segment tokens, hidden]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        geometry: &Geometry,
        segments_only: bool,
        route: &mut Option<Route>,
    ) -> Result<Tensor> {
        let normed = rms_norm(x, &self.input_norm, self.eps)?;
        let (k, v) = self.keys_values(&normed, &geometry.rotation, geometry.dropout.as_ref())?;
        let (x, attended) = self.attention(x, &normed, &k, &v, geometry, segments_only)?;
        self.finish(&x, &attended, route, geometry.dropout.as_ref())
    }

    /// Like [`Layer::forward`] for segments whose prefixes went through earlier. x: `[segment tokens, hidden]`; `before`: keys and
    /// values of the prefix tokens in the order of the group. Returns the output, and the segments' own keys and values. With
    /// `only` (the last layer, whose output is read at the ends of prompts) the output is that of these tokens.
    pub(crate) fn extend(
        &self,
        x: &Tensor,
        geometry: &Geometry,
        before: Option<&KeysValues>,
        only: Option<&Tensor>,
    ) -> Result<(Tensor, KeysValues)> {
        let normed = rms_norm(x, &self.input_norm, self.eps)?;
        let q = self.queries(&normed, &geometry.segment_rotation, None)?;
        let (keys, values) = self.keys_values(&normed, &geometry.segment_rotation, None)?;
        let (all_keys, all_values) = match before {
            Some(before) => {
                (Tensor::f_cat(&[&before.keys, &keys], 0)?, Tensor::f_cat(&[&before.values, &values], 0)?)
            }
            None => (keys.shallow_clone(), values.shallow_clone()),
        };
        let blocks = geometry.segments.iter();
        let attended = blocks
            .map(|block| block.attend(&q, &all_keys, &all_values, self.window, self.heads))
            .collect::<Result<Vec<_>>>()?;
        let attended = Tensor::f_cat(&attended, 0)?;
        let y = match only {
            Some(only) => {
                self.finish(&x.f_index_select(0, only)?, &attended.f_index_select(0, only)?, &mut None, None)?
            }
            None => self.finish(x, &attended, &mut None, None)?,
        };
        Ok((y, KeysValues { keys, values }))
    }

    /// What the tokens asked for, and their own residual stream.
    fn attention(
        &self,
        x: &Tensor,
        normed: &Tensor,
        k: &Tensor,
        v: &Tensor,
        geometry: &Geometry,
        segments_only: bool,
    ) -> Result<(Tensor, Tensor)> {
        let segments = |t: &Tensor| t.f_narrow(0, geometry.prefix_tokens, geometry.segment_tokens);
        let dropout = geometry.dropout.as_ref();
        let mut attended = Vec::with_capacity(geometry.prefixes.len() + geometry.segments.len());
        let (x, q) = if segments_only {
            (segments(x)?, self.queries(&segments(normed)?, &geometry.segment_rotation, dropout)?)
        } else {
            let q = self.queries(normed, &geometry.rotation, dropout)?;
            for block in &geometry.prefixes {
                attended.push(block.attend(&q, k, v, self.window, self.heads)?);
            }
            (x.shallow_clone(), segments(&q)?)
        };
        for block in &geometry.segments {
            attended.push(block.attend(&q, k, v, self.window, self.heads)?);
        }
        let attended =
            if attended.len() == 1 { attended.swap_remove(0) } else { Tensor::f_cat(&attended, 0)? };
        Ok((x, attended))
    }

    /// One new token per sequence. x: [batch, hidden].
    pub(crate) fn decode(&self, x: &Tensor, step: &Step<'_>, cache: &mut LayerCache) -> Result<Tensor> {
        let normed = rms_norm(x, &self.input_norm, self.eps)?;
        let q = self.queries(&normed, step.rotation, None)?;
        let (k, v) = self.keys_values(&normed, step.rotation, None)?;
        let bias = match self.window {
            Some(window) => step.window_bias.iter().find(|(own, _)| *own == window).map(|(_, bias)| bias),
            None => None,
        };
        let bias = bias.unwrap_or(step.bias);
        let keys = bias.size2()?.1;
        for (store, new) in [(&mut cache.keys, &k), (&mut cache.values, &v)] {
            // Advanced indices in dimensions 0 and 2: the result's first dimension runs over the batch.
            let at = [Some(step.slots.shallow_clone()), None, Some(step.places.shallow_clone())];
            let _ = store.f_index_put_(&at, new, false)?;
        }
        let all = |t: &Tensor| -> Result<Tensor> { Ok(t.f_narrow(0, 0, step.batch)?.f_narrow(2, 0, keys)?) };
        let attended = attend_cached(&q, &all(&cache.keys)?, &all(&cache.values)?, bias, self.heads)?;
        self.finish(x, &attended, &mut None, None)
    }

    fn queries(&self, normed: &Tensor, rotation: &Rotation, dropout: Option<&Dropout>) -> Result<Tensor> {
        let q = self.query.apply(normed, dropout)?.f_view([-1, self.heads.query, self.heads.dim])?;
        rotation.apply(&self.head_norm(q, self.query_norm.as_ref())?)
    }

    fn keys_values(
        &self,
        normed: &Tensor,
        rotation: &Rotation,
        dropout: Option<&Dropout>,
    ) -> Result<(Tensor, Tensor)> {
        let shape = [-1, self.heads.key_value, self.heads.dim];
        let k = self.key.apply(normed, dropout)?.f_view(shape)?;
        let v = self.value.apply(normed, dropout)?.f_view(shape)?;
        Ok((rotation.apply(&self.head_norm(k, self.key_norm.as_ref())?)?, v))
    }

    fn head_norm(&self, x: Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        match weight {
            Some(weight) => rms_norm(&x, weight, self.eps),
            None => Ok(x),
        }
    }

    /// Residual of the attention, then the MLP with its own.
    fn finish(
        &self,
        x: &Tensor,
        attended: &Tensor,
        route: &mut Option<Route>,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let x = x.f_add(&self.output.apply(attended, dropout)?)?;
        let normed = rms_norm(&x, &self.post_attention_norm, self.eps)?;
        Ok(x.f_add(&self.mlp.apply(&normed, route, dropout)?)?)
    }
}

/// x / √(mean(x²) + ε) · weight, the mean in f32.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.f_to_kind(Kind::Float)?;
    let mean = wide.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
    let normed = wide.f_mul(&mean.f_add_scalar(eps)?.f_rsqrt()?)?.f_to_kind(x.kind())?;
    Ok(normed.f_mul(&weight.f_to_kind(x.kind())?)?)
}
