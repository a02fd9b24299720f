//! From recipes and arguments to the engine's options.

use sami_driver::recipe::{self, OptimizerName, Updates, ValidRecipe};
use sami_policy::{SamplingParams, SamplingParamsBuilder};
use sami_torch::{
    Device, Dtype, EngineOptions, OptimizerConfig, OptimizerKind, Precision, TorchPolicy, set_threads,
};

use crate::args::{ModelArgs, SamplingArgs};
use crate::failure::Failure;

/// The engine that a recipe asks for.
pub(crate) fn engine(recipe: &ValidRecipe) -> EngineOptions {
    let training = &recipe.training;
    let kind = match training.optimizer {
        OptimizerName::AdamW => OptimizerKind::AdamW,
        OptimizerName::RmsProp => OptimizerKind::RmsProp,
    };
    let defaults = OptimizerConfig::new(kind, training.learning_rate);
    let betas = match kind {
        OptimizerKind::AdamW => training.betas.map_or(defaults.betas, |[first, second]| (first, second)),
        OptimizerKind::RmsProp => (defaults.betas.0, training.alpha.unwrap_or(defaults.betas.1)),
    };
    let precision = match training.updates {
        Updates::Exact => Precision::Exact,
        Updates::Bf16Pure => Precision::Bf16Pure,
    };
    EngineOptions {
        device: match recipe.model.device {
            recipe::Device::Cpu => Device::Cpu,
            recipe::Device::Cuda(index) => Device::Cuda(index),
        },
        dtype: dtype(recipe.model.dtype),
        optimizer: OptimizerConfig {
            betas,
            eps: training.eps.unwrap_or(defaults.eps),
            weight_decay: training.weight_decay.unwrap_or(defaults.weight_decay),
            max_grad_norm: training.max_grad_norm,
            ..defaults
        },
        precision,
        save_dtype: Some(dtype(training.save_dtype)),
        ..EngineOptions::default()
    }
}

fn dtype(dtype: recipe::Dtype) -> Dtype {
    match dtype {
        recipe::Dtype::F32 => Dtype::F32,
        recipe::Dtype::Bf16 => Dtype::Bf16,
    }
}

impl ModelArgs {
    /// Opens the model, then sets the threads: LibTorch's CUDA library must come before the first LibTorch call.
    pub(crate) fn open(&self, engine: &EngineOptions) -> Result<TorchPolicy, Failure> {
        let policy = TorchPolicy::open(&self.model, engine)?;
        if let Some(threads) = self.threads {
            set_threads(threads);
        }
        Ok(policy)
    }

    /// The engine for scoring and sampling.
    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions {
            device: self.device,
            dtype: self.dtype,
            token_budget: self.token_budget,
            check_memory: !self.no_memory_check,
            ..EngineOptions::default()
        }
    }
}

impl SamplingArgs {
    /// Checked sampling parameters.
    pub(crate) fn params(&self, max_new_tokens: usize, stop: Vec<String>) -> Result<SamplingParams, Failure> {
        let (temperature, top_p, top_k) = (self.temperature, self.top_p, self.top_k);
        let builder = SamplingParamsBuilder { max_new_tokens, temperature, top_p, top_k, stop, logps: false };
        Ok(builder.check()?)
    }
}
