//! One pass over a tensor that is being read: is every number one that a model can have?

use tch::{Kind, Tensor};

use super::WeightsError;
use crate::error::Result;

/// The largest number of f16. Checkpoints are published and run in it, so weights beyond it come from damage: one wrong bit of
/// an exponent is enough.
const LARGEST: f64 = 65504.0;

/// What is wrong with a tensor's numbers, if anything is.
pub(super) enum Fault {
    NotFinite,
    TooLarge,
}

/// NaN or an infinity; for `weights` also numbers that no trained model has. `aminmax` hands NaN on, reads memory once and
/// makes no copy.
pub(super) fn fault(tensor: &Tensor, weights: bool) -> Result<Option<Fault>> {
    if !matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::BFloat16 | Kind::Half)
        || tensor.numel() == 0
    {
        return Ok(None);
    }
    let (low, high) = tensor.f_aminmax(None::<i64>, false)?;
    let (low, high) = (low.f_double_value(&[])?, high.f_double_value(&[])?);
    if !low.is_finite() || !high.is_finite() {
        return Ok(Some(Fault::NotFinite));
    }
    Ok((weights && (low < -LARGEST || high > LARGEST)).then_some(Fault::TooLarge))
}

/// The fault with its place.
pub(super) fn describe(tensor: &Tensor, name: &str, fault: Fault) -> Result<WeightsError> {
    let name = name.to_owned();
    let wrong = match fault {
        Fault::NotFinite => tensor.f_isfinite()?.f_logical_not()?,
        Fault::TooLarge => tensor.f_to_kind(Kind::Double)?.f_abs()?.f_gt(LARGEST)?,
    };
    let index = Vec::<i64>::try_from(wrong.f_nonzero()?.f_select(0, 0)?)?;
    let value = tensor.f_double_value(&index)?;
    Ok(match fault {
        Fault::NotFinite => {
            let count = wrong.f_sum(Kind::Int64)?.f_int64_value(&[])?;
            WeightsError::NotFinite { tensor: name, index, value, count, numel: tensor.numel() }
        }
        Fault::TooLarge => WeightsError::TooLarge { tensor: name, index, value, limit: LARGEST },
    })
}
