//! Rotary position embedding. The arithmetic is f32 in the order that transformers uses, so that long positions
//! agree to the last bits.

use std::f64::consts::PI;

use tch::{Kind, Tensor};

use crate::config::{ModelConfig, RopeScaling};
use crate::error::Result;

/// Inverse frequencies of the head's half dimensions.
pub(crate) struct Rope {
    inverse_frequencies: Tensor,
    kind: Kind,
}

/// cos and sin for a run of positions: [tokens, 1, head_dim / 2].
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig, device: tch::Device, kind: Kind) -> Result<Self> {
        let dim = config.head_dim as i64;
        let exponents = Tensor::f_arange_start_step(0, dim, 2, (Kind::Float, device))? / dim as f64;
        let base = Tensor::f_full([1], config.rope_theta, (Kind::Float, device))?;
        let plain = base.f_pow(&exponents)?.f_reciprocal()?;
        let inverse_frequencies = match config.rope_scaling {
            RopeScaling::Default => plain,
            RopeScaling::Linear { factor } => plain.f_div_scalar(factor)?,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => {
                let wavelength = plain.f_reciprocal()?.f_mul_scalar(2.0 * PI)?;
                let long = wavelength.f_gt(original / low_freq_factor)?;
                let short = wavelength.f_lt(original / high_freq_factor)?;
                let smooth = wavelength
                    .f_reciprocal()?
                    .f_mul_scalar(original)?
                    .f_sub_scalar(low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?;
                let scaled = plain.f_div_scalar(factor)?;
                let between = scaled.f_lerp_tensor(&plain, &smooth)?;
                plain.f_where_self(&short, &scaled.f_where_self(&long, &between)?)?
            }
        };
        Ok(Self { inverse_frequencies, kind })
    }

    /// cos and sin at these positions, [tokens] of integers.
    pub(crate) fn rotation(&self, positions: &Tensor) -> Result<Rotation> {
        let angles = positions
            .f_to_kind(Kind::Float)?
            .f_unsqueeze(-1)?
            .f_mul(&self.inverse_frequencies)?
            .f_unsqueeze(1)?;
        Ok(Rotation {
            cos: angles.f_cos()?.f_to_kind(self.kind)?,
            sin: angles.f_sin()?.f_to_kind(self.kind)?,
        })
    }
}

impl Rotation {
    /// Rotates heads [tokens, heads, head_dim]: the two halves are the pairs' coordinates.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let halves = x.f_chunk(2, -1)?;
        let [a, b] = halves.as_slice() else { return Ok(x.shallow_clone()) };
        let rotated_a = a.f_mul(&self.cos)?.f_sub(&b.f_mul(&self.sin)?)?;
        let rotated_b = b.f_mul(&self.cos)?.f_add(&a.f_mul(&self.sin)?)?;
        Ok(Tensor::f_cat(&[rotated_a, rotated_b], -1)?)
    }
}
