//! What a caller chooses: device, dtype, optimizer, precision.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

use crate::device::computes_bf16_natively;
use crate::error::Error;
use crate::lora::LoraConfig;
use crate::prompt::PromptFormat;

/// Element type of weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    pub(crate) fn kind(self) -> tch::Kind {
        match self {
            Self::F32 => tch::Kind::Float,
            Self::Bf16 => tch::Kind::BFloat16,
        }
    }

    /// The name in `config.json`.
    pub(crate) fn hugging_face(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }
}

/// Where the model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, by index.
    Cuda(usize),
}

/// Which update rule, with torch's semantics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (torch.optim.AdamW).
    AdamW,
    /// torch.optim.RMSprop.
    RmsProp,
}

/// A word that names none of the choices.
#[derive(Debug, ThisError, PartialEq, Eq)]
#[error("\"{given}\" is not one of {expected}")]
pub struct UnknownName {
    /// What was given.
    pub given: String,
    /// What exists.
    pub expected: &'static str,
}

impl FromStr for Dtype {
    type Err = UnknownName;
    fn from_str(given: &str) -> Result<Self, UnknownName> {
        match given {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(UnknownName { given: given.into(), expected: "f32, bf16" }),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Device {
    type Err = UnknownName;
    fn from_str(given: &str) -> Result<Self, UnknownName> {
        match given {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => given
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or(UnknownName { given: given.into(), expected: "cpu, cuda:N" }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownName;
    fn try_from(given: String) -> Result<Self, UnknownName> {
        given.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl FromStr for OptimizerKind {
    type Err = UnknownName;
    fn from_str(given: &str) -> Result<Self, UnknownName> {
        match given {
            "adamw" => Ok(Self::AdamW),
            "rmsprop" => Ok(Self::RmsProp),
            _ => Err(UnknownName { given: given.into(), expected: "adamw, rmsprop" }),
        }
    }
}

/// An optimizer's settings; `new` gives torch's defaults for the kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// The update rule.
    pub kind: OptimizerKind,
    /// Learning rate.
    pub lr: f64,
    /// AdamW: decay of the first and second moment. RMSprop uses the second as its smoothing constant α.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// AdamW: decoupled, `w ← (1 − lr·decay)·w`. RMSprop: added to the gradient.
    pub weight_decay: f64,
    /// Leave vectors (norms, biases) without decay. torch decays everything that it is given in one group.
    #[serde(default)]
    pub decay_matrices_only: bool,
    /// Clip the global L2 norm of the gradient to this; `None` leaves it.
    pub max_grad_norm: Option<f64>,
}

impl OptimizerConfig {
    /// torch's defaults at this learning rate: AdamW β = (.9, .999), ε = 1e-8, decay .01; RMSprop α = .99, ε = 1e-8.
    pub fn new(kind: OptimizerKind, lr: f64) -> Self {
        let (betas, weight_decay) = match kind {
            OptimizerKind::AdamW => ((0.9, 0.999), 0.01),
            OptimizerKind::RmsProp => ((0.0, 0.99), 0.0),
        };
        Self { kind, lr, betas, eps: 1e-8, weight_decay, decay_matrices_only: false, max_grad_norm: None }
    }
}

/// What happens to an update that is smaller than bf16 can hold beside its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Nothing is lost: the exact f32 weight is kept as bf16 weight plus a signed 16-bit remainder, gradients accumulate in
    /// f32, optimizer state is f32. With f32 weights this is plain f32 training.
    Exact,
    /// Weights, gradients and state in bf16, as the paper's code does: at a learning rate of 5e-7 most of the update is
    /// rounded away.
    Bf16Pure,
}

/// Everything about the engine that does not depend on the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineOptions {
    /// Where to compute.
    pub device: Device,
    /// Weights and activations in the forward and backward pass.
    pub dtype: Dtype,
    /// The update rule.
    pub optimizer: OptimizerConfig,
    /// What happens to small updates in bf16.
    pub precision: Precision,
    /// Dtype of saved weights; `None` is f32 under [`Precision::Exact`] (nothing trained is lost) and bf16 under
    /// [`Precision::Bf16Pure`].
    pub save_dtype: Option<Dtype>,
    /// At most this many packed tokens go through the layers at once while scoring or training; larger work is
    /// split, which changes nothing beyond rounding. `None` chooses by the memory that is free when a model is opened.
    pub token_budget: Option<usize>,
    /// Refuse work that [`MemoryPlan`](crate::MemoryPlan) expects not to fit, before anything is loaded.
    pub check_memory: bool,
    /// Recompute each layer in the backward pass instead of keeping its activations: a third more arithmetic, a fraction
    /// of the memory.
    pub recompute: bool,
    /// Sequences that are generated side by side.
    pub generation_batch: usize,
    /// Train low-rank adapters instead of the weights.
    pub lora: Option<LoraConfig>,
    /// Keep the base's weights beside the trained ones, so that the KL to it can be measured and bounded.
    pub keep_reference: bool,
    /// What prompts are: text to continue, or a user's turn in the checkpoint's chat format.
    pub prompt_format: PromptFormat,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            dtype: Dtype::F32,
            optimizer: OptimizerConfig::new(OptimizerKind::AdamW, 5e-7),
            precision: Precision::Exact,
            save_dtype: None,
            token_budget: None,
            check_memory: true,
            recompute: true,
            generation_batch: 64,
            lora: None,
            keep_reference: false,
            prompt_format: PromptFormat::Raw,
        }
    }
}

impl EngineOptions {
    /// What activations are computed in. A processor without bf16 units multiplies f32 several times faster than bf16, and more
    /// exactly: there, weights rest in bf16 and are widened while they are used. Pure bf16 training keeps to bf16, as what it is
    /// compared with does.
    pub fn arithmetic(&self) -> Dtype {
        let exact = self.precision == Precision::Exact;
        if self.device == Device::Cpu && exact && !computes_bf16_natively() { Dtype::F32 } else { self.dtype }
    }

    /// Refuses options that contradict each other.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |option, reason: String| Err(Error::Option { option, reason });
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let OptimizerConfig { lr, betas, eps, weight_decay, max_grad_norm, .. } = self.optimizer;
        if self.precision == Precision::Bf16Pure && self.dtype != Dtype::Bf16 {
            return refuse(
                "bf16-pure",
                format!("weights are {}; add dtype bf16 or leave bf16-pure out", self.dtype),
            );
        }
        if self.precision == Precision::Bf16Pure && self.save_dtype == Some(Dtype::F32) {
            return refuse("save_dtype", "pure bf16 training has no more than bf16 to save".into());
        }
        if !positive(lr) {
            return refuse("lr", format!("{lr}; it must be a positive number"));
        }
        if ![betas.0, betas.1].iter().all(|beta| (0.0..1.0).contains(beta)) {
            return refuse("betas", format!("{betas:?}; each must lie in [0, 1)"));
        }
        // torch takes 0, and a smaller number becomes 0 in f32: a parameter whose first gradient is 0 is then divided by zero.
        if !(positive(eps) && eps >= f64::from(f32::MIN_POSITIVE)) {
            return refuse(
                "eps",
                format!("{eps}; it must be at least 1.2e-38, since what is smaller is zero in f32"),
            );
        }
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            return refuse("weight_decay", format!("{weight_decay}; it must be 0 or a positive number"));
        }
        if max_grad_norm.is_some_and(|limit| !positive(limit)) {
            return refuse(
                "max_grad_norm",
                "it must be a positive number; leave it out for no clipping".into(),
            );
        }
        if let Some(lora) = &self.lora {
            lora.check()?;
        }
        if self.token_budget == Some(0) {
            return refuse("token_budget", "0; at least one token must go through at once".into());
        }
        if self.generation_batch == 0 {
            return refuse("generation_batch", "0; at least one sequence must be generated at a time".into());
        }
        Ok(())
    }
}
