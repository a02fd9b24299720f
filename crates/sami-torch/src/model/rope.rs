//! Rotary position embedding. The arithmetic is f32 in the order that transformers uses, so that long positions
//! agree to the last bits.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use crate::config::{ModelConfig, RopeScaling};
use crate::error::Result;

/// Rotations for one model.
pub(crate) struct Rope {
    recipe: Recipe,
    /// Inverse frequencies of the head's half dimensions, of [`Frequencies::Original`].
    original: Tensor,
    /// What cosine and sine are multiplied by.
    attention_factor: Option<f64>,
    kind: Kind,
}

/// How inverse frequencies are made.
struct Recipe {
    theta: f64,
    scaling: RopeScaling,
    head_dim: i64,
    max_position_embeddings: usize,
    device: Device,
}

/// Which frequencies a sequence is rotated with. Only sequences with the same ones can share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Frequencies {
    /// Those of all sequences, or of all that are not long.
    Original,
    /// LongRoPE's second list.
    Long,
    /// Dynamic NTK's for sequences of just this length.
    Stretched(usize),
}

/// cos and sin for a run of positions: [tokens, 1, head_dim / 2].
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig, device: Device, kind: Kind) -> Result<Self> {
        let attention_factor = match config.rope_scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::Longrope { attention_factor, .. } => {
                Some(attention_factor)
            }
            _ => None,
        };
        let recipe = Recipe {
            theta: config.rope_theta,
            scaling: config.rope_scaling.clone(),
            head_dim: config.head_dim as i64,
            max_position_embeddings: config.max_position_embeddings,
            device,
        };
        Ok(Self { original: recipe.inverse(Frequencies::Original)?, recipe, attention_factor, kind })
    }

    /// The frequencies of a sequence of `length` tokens.
    pub(crate) fn frequencies(&self, length: usize) -> Frequencies {
        match self.recipe.scaling {
            RopeScaling::Dynamic { .. } if length > self.recipe.max_position_embeddings => {
                Frequencies::Stretched(length)
            }
            RopeScaling::Longrope { original_max_position_embeddings: original, .. }
                if length as f64 > original =>
            {
                Frequencies::Long
            }
            _ => Frequencies::Original,
        }
    }

    /// cos and sin at these positions, each with the frequencies of its sequence.
    pub(crate) fn rotation(&self, positions: &[i64], frequencies: &[Frequencies]) -> Result<Rotation> {
        let tensor = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(self.recipe.device);
        let mut kinds = frequencies.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        let inverse = match kinds.as_slice() {
            [] => self.inverse(Frequencies::Original)?,
            [one] => self.inverse(*one)?,
            several => {
                let table = several.iter().map(|&one| self.inverse(one)).collect::<Result<Vec<_>>>()?;
                let row = |own| several.binary_search(own).unwrap_or_default() as i64;
                let rows: Vec<i64> = frequencies.iter().map(row).collect();
                Tensor::f_stack(&table, 0)?.f_index_select(0, &tensor(&rows)?)?
            }
        };
        let positions = tensor(positions)?.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?;
        let angles = positions.f_mul(&inverse)?.f_unsqueeze(1)?;
        Ok(Rotation { cos: self.scaled(angles.f_cos()?)?, sin: self.scaled(angles.f_sin()?)? })
    }

    fn inverse(&self, frequencies: Frequencies) -> Result<Tensor> {
        match frequencies {
            Frequencies::Original => Ok(self.original.shallow_clone()),
            _ => self.recipe.inverse(frequencies),
        }
    }

    fn scaled(&self, x: Tensor) -> Result<Tensor> {
        let x = match self.attention_factor {
            Some(factor) => x.f_mul_scalar(factor)?,
            None => x,
        };
        Ok(x.f_to_kind(self.kind)?)
    }
}

impl Recipe {
    /// Inverse frequencies, [head_dim / 2].
    fn inverse(&self, frequencies: Frequencies) -> Result<Tensor> {
        let (dim, float) = (self.head_dim, (Kind::Float, self.device));
        let exponents = Tensor::f_arange_start_step(0, dim, 2, float)? / dim as f64;
        let plain = Tensor::f_full([1], self.theta, float)?.f_pow(&exponents)?;
        match &self.scaling {
            RopeScaling::Default => Ok(plain.f_reciprocal()?),
            RopeScaling::Linear { factor } => Ok(plain.f_reciprocal()?.f_div_scalar(*factor)?),
            RopeScaling::Proportional { factor, pairs } => {
                let rotated = plain.f_reciprocal()?.f_narrow(0, 0, *pairs as i64)?;
                let still = Tensor::f_zeros([dim / 2 - *pairs as i64], float)?;
                Ok(Tensor::f_cat(&[rotated, still], 0)?.f_div_scalar(*factor)?)
            }
            RopeScaling::Dynamic { factor } => {
                let (limit, power) = (self.max_position_embeddings as f64, dim as f64 / (dim - 2) as f64);
                let theta = match frequencies {
                    Frequencies::Stretched(length) => Tensor::f_full([1], length as f64, float)?
                        .f_mul_scalar(*factor)?
                        .f_div_scalar(limit)?
                        .f_sub_scalar(factor - 1.0)?
                        .f_pow_tensor_scalar(power)?
                        .f_mul_scalar(self.theta)?,
                    // 1 but for rounding, which transformers leaves in.
                    _ => {
                        let stretch = factor * limit / limit - (factor - 1.0);
                        Tensor::f_full([1], self.theta * stretch.powf(power), float)?
                    }
                };
                Ok(theta.f_pow(&exponents)?.f_reciprocal()?)
            }
            RopeScaling::Longrope { short_factor, long_factor, .. } => {
                let divisors = if frequencies == Frequencies::Long { long_factor } else { short_factor };
                let divisors =
                    Tensor::f_from_slice(divisors)?.f_to_kind(Kind::Float)?.f_to_device(self.device)?;
                Ok(divisors.f_mul(&plain)?.f_reciprocal()?)
            }
            RopeScaling::Yarn { factor, .. } => {
                let divided = plain.f_mul_scalar(*factor)?.f_reciprocal()?;
                let kept = self.yarn_ramp()?.f_neg()?.f_add_scalar(1.0)?;
                let rest = kept.f_neg()?.f_add_scalar(1.0)?;
                Ok(divided.f_mul(&rest)?.f_add(&plain.f_reciprocal()?.f_mul(&kept)?)?)
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                let plain = plain.f_reciprocal()?;
                let wavelength = plain.f_reciprocal()?.f_mul_scalar(2.0 * PI)?;
                let long = wavelength.f_gt(original / low)?;
                let short = wavelength.f_lt(original / high)?;
                let smooth = wavelength
                    .f_reciprocal()?
                    .f_mul_scalar(*original)?
                    .f_sub_scalar(*low)?
                    .f_div_scalar(high - low)?;
                let scaled = plain.f_div_scalar(*factor)?;
                let between = scaled.f_lerp_tensor(&plain, &smooth)?;
                Ok(plain.f_where_self(&short, &scaled.f_where_self(&long, &between)?)?)
            }
        }
    }

    /// How far each pair's frequency is divided, 0 to 1.
    fn yarn_ramp(&self) -> Result<Tensor> {
        let pairs = Tensor::f_arange(self.head_dim / 2, (Kind::Float, self.device))?;
        let RopeScaling::Yarn {
            original_max_position_embeddings: original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = self.scaling
        else {
            return Ok(pairs.f_zeros_like()?);
        };
        let dim = self.head_dim as f64;
        // The pair that turns so many times within the original context.
        let pair = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        Ok(pairs.f_sub_scalar(low)?.f_div_scalar(high - low)?.f_clamp(0.0, 1.0)?)
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
