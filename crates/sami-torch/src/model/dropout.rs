//! Dropout on what adapters read, the same however work is cut.
//!
//! Whether an element is dropped follows from the seed, the update, the text up to its token, the adapter and the feature. So a
//! layer that is computed again in the backward pass drops the same elements, and so do the two passes over a large set; packing,
//! budgets and the order of the work change nothing.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::packing::PackedRow;

/// Everything is taken modulo 2³¹, so that products of two stay within 64 bits.
const MASK: i64 = (1 << 31) - 1;

/// What decides about one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DropoutSeed {
    /// Share of elements that are dropped, in (0, 1).
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    /// Number of updates so far.
    pub(crate) update: u64,
}

/// The masks of the tokens of a group.
pub(crate) struct Dropout {
    rate: f64,
    /// One key for every token, `[tokens, 1]`, below 2³¹.
    keys: Tensor,
}

impl Dropout {
    /// `keys`: those of [`DropoutSeed::keys`], in the order of the group's tokens.
    pub(crate) fn new(seed: DropoutSeed, keys: &[i64], device: Device) -> Result<Self> {
        Ok(Self { rate: seed.rate, keys: Tensor::f_from_slice(keys)?.f_unsqueeze(1)?.f_to_device(device)? })
    }

    /// x with elements dropped and the others divided by 1 − rate. x: `[rows, inputs]`; its rows are the last ones of the group.
    pub(crate) fn apply(&self, x: &Tensor, adapter: u64) -> Result<Tensor> {
        let (rows, inputs) = x.size2()?;
        let keys = self.keys.f_narrow(0, self.keys.size()[0] - rows, rows)?;
        let features = Tensor::f_arange(inputs, (Kind::Int64, x.device()))?
            .f_mul_scalar(0x2545_F491)?
            .f_add_scalar((mix(adapter) as i64) & MASK)?
            .f_bitwise_and(MASK)?;
        // Shifts, and products with odd constants, in turn (the finish of MurmurHash3, cut to 31 bits).
        let mut hash = keys.f_bitwise_xor_tensor(&features)?;
        for (shift, factor) in [(16, 0x05EB_CA6B), (13, 0x42B2_AE35)] {
            hash = hash.f_bitwise_xor_tensor(&hash.f_bitwise_right_shift_tensor_scalar(shift)?)?;
            hash = hash.f_mul_scalar(factor)?.f_bitwise_and(MASK)?;
        }
        hash = hash.f_bitwise_xor_tensor(&hash.f_bitwise_right_shift_tensor_scalar(16)?)?;
        let kept = hash.f_ge((self.rate * (MASK + 1) as f64) as i64)?.f_to_kind(x.kind())?;
        Ok(x.f_mul(&kept.f_mul_scalar((1.0 - self.rate).recip())?)?)
    }
}

impl DropoutSeed {
    /// Keys of a row's tokens, in its order: each from the one before it in its own text.
    pub(crate) fn keys(self, row: &PackedRow) -> Vec<i64> {
        let first = mix(mix(self.seed) ^ self.update);
        let (mut state, mut shared) = (first, first);
        let mut segment = 0;
        row.ids
            .iter()
            .zip(&row.segment)
            .map(|(&id, &of)| {
                if of != segment {
                    (state, segment) = (shared, of);
                }
                state = mix(state ^ u64::from(id));
                if of == 0 {
                    shared = state;
                }
                (state >> 33) as i64
            })
            .collect()
    }
}

/// A number that stands for a name.
pub(crate) fn key_of(name: &str) -> u64 {
    name.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// One step of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frequencies;
    use crate::packing::Sequence;

    const SEED: DropoutSeed = DropoutSeed { rate: 0.3, seed: 7, update: 2 };

    fn dropped(keys: &[i64], adapter: u64, inputs: i64) -> Vec<bool> {
        let dropout = Dropout::new(SEED, keys, Device::Cpu).expect("a mask");
        let ones = Tensor::f_ones([keys.len() as i64, inputs], (Kind::Float, Device::Cpu)).expect("ones");
        let values = dropout.apply(&ones, adapter).expect("a product").flatten(0, 1);
        let values = Vec::<f32>::try_from(values).expect("numbers");
        assert!(values.iter().all(|value| *value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6));
        values.into_iter().map(|value| value == 0.0).collect()
    }

    fn share(hits: impl ExactSizeIterator<Item = bool>) -> f64 {
        let n = hits.len() as f64;
        hits.filter(|hit| *hit).count() as f64 / n
    }

    #[test]
    fn masks_have_the_rate_and_are_independent_of_each_other() {
        let ids: Vec<u32> = (0..201).map(|i| i % 5).collect();
        let row = PackedRow::new(&[&Sequence { ids, start: 1, frequencies: Frequencies::Original }]);
        let keys = SEED.keys(&row);
        let n = keys.len() * 64;
        // Four standard errors of a share.
        let near = |got: f64, p: f64, n: usize| {
            let bound = 4.0 * (p * (1.0 - p) / n as f64).sqrt();
            assert!((got - p).abs() < bound, "{got} is not {p} ± {bound}");
        };
        let one = dropped(&keys, key_of("q_proj"), 64);
        near(share(one.iter().copied()), 0.3, n);
        // In pairs of adapters, updates, neighbouring tokens and neighbouring features, 0.3² are dropped twice.
        let other = dropped(&keys, key_of("v_proj"), 64);
        near(share(one.iter().zip(&other).map(|(a, b)| *a && *b)), 0.09, n);
        let later = dropped(&DropoutSeed { update: 3, ..SEED }.keys(&row), key_of("q_proj"), 64);
        near(share(one.iter().zip(&later).map(|(a, b)| *a && *b)), 0.09, n);
        near(share(one.iter().zip(&one[64..]).map(|(a, b)| *a && *b)), 0.09, n - 64);
        near(share(one.iter().zip(&one[1..]).map(|(a, b)| *a && *b)), 0.09, n - 1);
    }

    #[test]
    fn a_token_has_the_key_of_its_text_wherever_it_is_packed() {
        let sequence = |tail: &[u32]| Sequence {
            ids: [&[5, 6, 7, 8], tail].concat(),
            start: 4,
            frequencies: Frequencies::Original,
        };
        let (a, b) = (sequence(&[1, 2, 3]), sequence(&[4, 2, 3]));
        let together = SEED.keys(&PackedRow::new(&[&a, &b]));
        let [alone_a, alone_b] = [&a, &b].map(|one| SEED.keys(&PackedRow::new(&[one])));
        // Prefix of three, then [8, 1, 2] and [8, 4, 2].
        assert_eq!(together[..6], alone_a[..6]);
        assert_eq!([&together[..3], &together[6..]].concat(), alone_b);
        assert_ne!(together[5], together[8], "the same token after another one");
    }
}
