//! From a recipe to the engine's options.

use sami_driver::recipe::{self, OptimizerName, Updates, ValidRecipe};
use sami_torch::{Device, Dtype, EngineOptions, OptimizerConfig, OptimizerKind, Precision};

/// The engine that a recipe asks for.
pub fn engine_options(recipe: &ValidRecipe) -> EngineOptions {
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
    let dtype = |dtype| match dtype {
        recipe::Dtype::F32 => Dtype::F32,
        recipe::Dtype::Bf16 => Dtype::Bf16,
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
        precision: match training.updates {
            Updates::Exact => Precision::Exact,
            Updates::Bf16Pure => Precision::Bf16Pure,
        },
        save_dtype: Some(dtype(training.save_dtype)),
        ..EngineOptions::default()
    }
}
