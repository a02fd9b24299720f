//! From a recipe to the engine's options.

use sami_driver::recipe::{self, LoraTarget, OptimizerName, Updates, ValidRecipe};
use sami_torch::{
    Device, Dtype, EngineOptions, LoraConfig, OptimizerConfig, OptimizerKind, Precision, Projection,
    PromptFormat,
};

/// The engine that a recipe asks for.
pub fn engine_options(recipe: &ValidRecipe) -> EngineOptions {
    let (training, engine) = (&recipe.training, EngineOptions::default());
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
            decay_matrices_only: training.decay_matrices_only,
            max_grad_norm: training.max_grad_norm,
            ..defaults
        },
        precision,
        save_dtype: Some(dtype(training.save_dtype)),
        token_budget: recipe.model.token_budget,
        recompute: training.recompute,
        generation_batch: recipe.model.generation_batch.unwrap_or(engine.generation_batch),
        lora: training.lora.as_ref().map(|lora| LoraConfig {
            rank: lora.rank,
            alpha: lora.alpha,
            dropout: lora.dropout,
            targets: lora.targets.iter().map(|target| projection(*target)).collect(),
            seed: recipe.seed,
        }),
        keep_reference: training.beta > 0.0 || training.measure_kl,
        prompt_format: if recipe.task.instruct { PromptFormat::UserTurn } else { PromptFormat::Raw },
        check_memory: engine.check_memory,
    }
}

fn projection(target: LoraTarget) -> Projection {
    match target {
        LoraTarget::QProj => Projection::Query,
        LoraTarget::KProj => Projection::Key,
        LoraTarget::VProj => Projection::Value,
        LoraTarget::OProj => Projection::Output,
        LoraTarget::GateProj => Projection::Gate,
        LoraTarget::UpProj => Projection::Up,
        LoraTarget::DownProj => Projection::Down,
    }
}

fn dtype(dtype: recipe::Dtype) -> Dtype {
    match dtype {
        recipe::Dtype::F32 => Dtype::F32,
        recipe::Dtype::Bf16 => Dtype::Bf16,
    }
}
