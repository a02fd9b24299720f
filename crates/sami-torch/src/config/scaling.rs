//! How rotary frequencies are stretched to longer contexts.

use serde::Serialize;

/// How the frequencies of the rotary position embedding are made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
pub enum RopeScaling {
    /// θ^(−2i/d), unchanged.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Default frequencies divided by `factor` for the first pairs of a head; the other pairs are not
    /// rotated.
    Proportional {
        /// The divisor.
        factor: f64,
        /// How many pairs are rotated.
        pairs: usize,
    },
    /// Dynamic NTK: default up to `max_position_embeddings`; a longer sequence has a θ of its own, the
    /// larger the longer it is.
    Dynamic {
        /// How steeply θ grows.
        factor: f64,
    },
    /// Llama 3.1's: long wavelengths divided by `factor`, short ones kept, a smooth passage between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Below this share of the original context a wavelength counts as long.
        low_freq_factor: f64,
        /// Above this one it counts as short.
        high_freq_factor: f64,
        /// The context length of pretraining.
        original_max_position_embeddings: f64,
    },
    /// YaRN: pairs that turn often within the original context are kept, those that turn seldom are
    /// divided by `factor`, with a ramp between; cosine and sine are multiplied.
    Yarn {
        /// The divisor.
        factor: f64,
        /// The context length of pretraining.
        original_max_position_embeddings: f64,
        /// Pairs with more turns than this within the original context are kept.
        beta_fast: f64,
        /// Those with fewer than this are divided.
        beta_slow: f64,
        /// The ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
        /// What cosine and sine are multiplied by.
        attention_factor: f64,
    },
    /// LongRoPE: each pair has a divisor of its own, one for sequences up to the original context and
    /// one for longer ones; cosine and sine are multiplied.
    Longrope {
        /// Divisors of sequences up to the original context.
        short_factor: Vec<f64>,
        /// Divisors of longer ones.
        long_factor: Vec<f64>,
        /// The model's context length over that of pretraining.
        factor: f64,
        /// The context length of pretraining.
        original_max_position_embeddings: f64,
        /// What cosine and sine are multiplied by.
        attention_factor: f64,
    },
}

impl RopeScaling {
    /// The longest sequence that a model with so many positions was made for: as many tokens, or
    /// `factor` times the context length of pretraining where that is more. (Files of YaRN, linear and
    /// dynamic models often hold the length of pretraining in `max_position_embeddings`.)
    pub(super) fn longest(&self, max_position_embeddings: usize) -> usize {
        let scaled = match *self {
            Self::Default | Self::Proportional { .. } => 0.0,
            Self::Linear { factor } | Self::Dynamic { factor } => factor * max_position_embeddings as f64,
            Self::Llama3 { factor, original_max_position_embeddings, .. }
            | Self::Yarn { factor, original_max_position_embeddings, .. }
            | Self::Longrope { factor, original_max_position_embeddings, .. } => {
                factor * original_max_position_embeddings
            }
        };
        max_position_embeddings.max(scaled as usize)
    }
}
