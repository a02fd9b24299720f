//! How the fake chooses its next word.

use super::words::{Logits, hash};
use crate::{SamplingParams, StreamKey};

/// The request's draws. A hash of the key drives a SplitMix64 sequence: enough for a fake, and without a dependency.
pub(super) struct Stream(u64);

impl Stream {
    pub(super) fn new(key: StreamKey) -> Self {
        Self(hash(&key.bytes()))
    }

    /// In [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Inverse-CDF choice among the tokens that top-k and top-p leave; temperature 0 takes the likeliest.
pub(super) fn choose(logp: &Logits, params: &SamplingParams, uniform: f64) -> usize {
    let mut order: Vec<usize> = (0..logp.len()).collect();
    order.sort_by(|&a, &b| logp[b].total_cmp(&logp[a]));
    let likeliest = order[0];
    if params.temperature == 0.0 {
        return likeliest;
    }
    order.truncate(params.top_k.unwrap_or(order.len()));
    let weight = |token: usize| ((logp[token] - logp[likeliest]) / params.temperature).exp();
    let total: f64 = order.iter().map(|&token| weight(token)).sum();
    let mut kept = 0.0;
    let nucleus = order.iter().position(|&token| {
        kept += weight(token);
        kept >= params.top_p * total
    });
    order.truncate(nucleus.map_or(order.len(), |last| last + 1));
    let mut rest = uniform * order.iter().map(|&token| weight(token)).sum::<f64>();
    let chosen = order.iter().copied().find(|&token| {
        rest -= weight(token);
        rest < 0.0
    });
    chosen.unwrap_or(likeliest)
}
