//! One pass over the bytes of a tensor that is about to be read: is every number one that a model can have?

use tch::{Kind, Tensor};

use super::WeightsError;
use crate::error::Result;

/// The largest number of f16. Checkpoints are published and run in it, so weights beyond it come from damage: one wrong bit of
/// an exponent is enough.
const LARGEST: f32 = 65504.0;

/// Which numbers are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// All but NaN and the infinities are right.
    Finite,
    /// Numbers that no trained model has are wrong too.
    Weights,
}

/// Whether no number is wrong. Without their sign, floats are ordered as the integers of the same bits, infinity and NaN above
/// all others.
pub(super) fn all_within(bytes: &[u8], kind: Kind, range: Range) -> bool {
    let weights = range == Range::Weights;
    let (width, first_wrong) = match kind {
        Kind::Float if weights => (32, u64::from(LARGEST.to_bits()) + 1),
        Kind::Float => (32, f32::INFINITY.to_bits().into()),
        Kind::BFloat16 if weights => (16, u64::from(LARGEST.to_bits() >> 16) + 1),
        Kind::BFloat16 => (16, u64::from(f32::INFINITY.to_bits() >> 16)),
        Kind::Half => (16, half::f16::INFINITY.to_bits().into()),
        Kind::Double if weights => (64, f64::from(LARGEST).to_bits() + 1),
        Kind::Double => (64, f64::INFINITY.to_bits()),
        // Whole numbers.
        _ => return true,
    };
    !any_from(bytes, width, first_wrong)
}

/// Whether a number of `width` bits, without its sign bit, is at least `limit`. Several at a time: added to what the limit lacks
/// of the sign bit, such a number sets it, and none overflows into its neighbour.
fn any_from(bytes: &[u8], width: u32, limit: u64) -> bool {
    let each = |number: u64| (0..64 / width).fold(0, |word, place| word | number << (width * place));
    let sign = each(1 << (width - 1));
    let lack = each((1 << (width - 1)) - limit);
    let exceeds = |word: [u8; 8]| (u64::from_le_bytes(word) & !sign) + lack;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut found = exceeds(last);
    for &word in words {
        found |= exceeds(word);
    }
    found & sign != 0
}

/// The first wrong number and its place.
pub(super) fn describe(tensor: &Tensor, name: &str) -> Result<WeightsError> {
    let tensor_name = name.to_owned();
    let not_finite = tensor.f_isfinite()?.f_logical_not()?;
    let count = not_finite.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let first = |wrong: Tensor| -> Result<(Vec<i64>, f64)> {
        let index = Vec::<i64>::try_from(wrong.f_nonzero()?.f_select(0, 0)?)?;
        let value = tensor.f_double_value(&index)?;
        Ok((index, value))
    };
    if count > 0 {
        let (index, value) = first(not_finite)?;
        return Ok(WeightsError::NotFinite {
            tensor: tensor_name,
            index,
            value,
            count,
            numel: tensor.numel(),
        });
    }
    let limit = f64::from(LARGEST);
    let (index, value) = first(tensor.f_to_kind(Kind::Double)?.f_abs()?.f_gt(limit)?)?;
    Ok(WeightsError::TooLarge { tensor: tensor_name, index, value, limit })
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_kind_of_float_is_looked_at_wherever_it_stands() {
        // A number, whether it is finite, and whether a weight may be so large.
        let cases = [
            (f64::NAN, false, false),
            (-f64::NAN, false, false),
            (f64::INFINITY, false, false),
            (f64::NEG_INFINITY, false, false),
            (-65536.0, true, false),
            (-65280.0, true, true),
            (65280.0, true, true),
            (-0.0, true, true),
            (1e-7, true, true),
        ];
        for (number, finite, weight) in cases {
            for place in 0..9 {
                let at = |number: &[u8]| {
                    let mut bytes = vec![0; 9 * number.len()];
                    bytes[place * number.len()..][..number.len()].copy_from_slice(number);
                    bytes
                };
                let half = f16::from_f64(number);
                for (bytes, kind, finite, weight) in [
                    (at(&number.to_le_bytes()), Kind::Double, finite, weight),
                    (at(&(number as f32).to_le_bytes()), Kind::Float, finite, weight),
                    (at(&bf16::from_f64(number).to_le_bytes()), Kind::BFloat16, finite, weight),
                    // f16 has no finite number that is too large.
                    (at(&half.to_le_bytes()), Kind::Half, half.is_finite(), half.is_finite()),
                ] {
                    assert_eq!(all_within(&bytes, kind, Range::Finite), finite, "{number} {kind:?} {place}");
                    assert_eq!(all_within(&bytes, kind, Range::Weights), weight, "{number} {kind:?} {place}");
                }
            }
        }
        let largest = [f32::MAX, 65504.0, f32::from_bits(65504f32.to_bits() + 1)].map(f32::to_le_bytes);
        assert_eq!(largest.map(|x| all_within(&x, Kind::Float, Range::Weights)), [false, true, false]);
        assert!(largest.iter().all(|x| all_within(x, Kind::Float, Range::Finite)));
        assert!(all_within(&[], Kind::Float, Range::Weights));
        assert!(all_within(&i64::MAX.to_le_bytes(), Kind::Int64, Range::Weights));
    }
}
