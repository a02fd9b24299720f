//! Linear maps, and the low-rank adapters on them.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::Parameter;
use super::dropout::{Dropout, key_of};
use crate::error::{Error, Result};
use crate::lora::{Adapters, PREFIX};

/// y = x Wᵀ + b, and with an adapter + scale · (x Aᵀ) Bᵀ (LoRA, arXiv 2106.09685).
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    adapter: Option<Adapter>,
}

struct Adapter {
    /// A, `[rank, inputs]`.
    down: Tensor,
    /// B, `[outputs, rank]`.
    up: Tensor,
    /// α/r, or α/√r.
    scale: f64,
    /// Tells its dropout from that of others.
    key: u64,
}

impl Linear {
    /// x: `[rows, inputs]`. Dropout is for what the adapter reads.
    pub(crate) fn apply(&self, x: &Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
        // Where arithmetic is wider than weights, they are widened for the moment of their use.
        let kind = x.kind();
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(kind)).transpose()?;
        let y = product(x, &self.weight.f_to_kind(kind)?, bias.as_ref())?;
        match &self.adapter {
            Some(Adapter { down, up, scale, key }) => {
                let dropped = dropout.map(|dropout| dropout.apply(x, *key)).transpose()?;
                let low = product(dropped.as_ref().unwrap_or(x), &down.f_to_kind(kind)?, None)?
                    .f_mul_scalar(*scale)?;
                Ok(y.f_add(&product(&low, &up.f_to_kind(kind)?, None)?)?)
            }
            None => Ok(y),
        }
    }
}

/// With at most this many rows, MKL's time for x Wᵀ goes into rearranging W; W xᵀ took 0.55 to 0.75 of it at 8 to 32 rows, 0.95 at 64.
const FEW_ROWS: i64 = 48;

/// x Wᵀ + b. x: `[rows, inputs]`, weight: `[outputs, inputs]`.
pub(crate) fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rows = x.size2()?.0;
    if rows > FEW_ROWS || x.kind() != Kind::Float || x.device() != Device::Cpu {
        return Ok(x.f_linear(weight, bias)?);
    }
    let y = weight.f_mm(&x.f_transpose(0, 1)?)?.f_transpose(0, 1)?;
    match bias {
        Some(bias) => Ok(y.f_add(bias)?),
        None => Ok(y),
    }
}

/// Hands out a model's parameters by name, and remembers which of them a part of the model trains.
pub(crate) struct Parts<'a> {
    parameters: &'a [Parameter],
    index: &'a HashMap<&'a str, usize>,
    adapters: Option<&'a Adapters>,
    trainable: Vec<usize>,
}

impl<'a> Parts<'a> {
    /// With adapters, linear maps come with theirs, and tensors that an adapter brings whole take the base's place.
    pub(crate) fn new(
        parameters: &'a [Parameter],
        index: &'a HashMap<&'a str, usize>,
        adapters: Option<&'a Adapters>,
    ) -> Self {
        Self { parameters, index, adapters, trainable: Vec::new() }
    }

    pub(crate) fn find(&mut self, name: &str) -> Option<Tensor> {
        let own = self.index.get(format!("{PREFIX}{name}").as_str());
        self.at(*own.or_else(|| self.index.get(name))?)
    }

    fn at(&mut self, index: usize) -> Option<Tensor> {
        let parameter = self.parameters.get(index)?;
        if parameter.trainable {
            self.trainable.push(index);
        }
        Some(parameter.tensor.shallow_clone())
    }

    /// A parameter that the model cannot do without.
    pub(crate) fn tensor(&mut self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| Error::NoParameter { name: name.to_owned() })
    }

    pub(crate) fn linear(&mut self, module: &str) -> Result<Linear> {
        let adapter = self.adapters.and_then(|adapters| adapters.of(module)).and_then(|update| {
            let [down, up] = update.tensors(module).map(|(name, _)| self.index.get(name.as_str()).copied());
            Some(Adapter {
                down: self.at(down?)?,
                up: self.at(up?)?,
                scale: update.scale,
                key: key_of(module),
            })
        });
        Ok(Linear {
            weight: self.tensor(&format!("{module}.weight"))?,
            bias: self.find(&format!("{module}.bias")),
            adapter,
        })
    }

    /// Counts these in again.
    pub(crate) fn give_back(&mut self, trainable: Vec<usize>) {
        self.trainable.extend(trainable);
    }

    /// Indices of the parameters that are trained among those handed out since the last call.
    pub(crate) fn take_trainable(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.trainable)
    }
}
