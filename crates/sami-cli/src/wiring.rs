//! From recipes and arguments to the engine's options.

use sami_driver::recipe::{self, LoraTarget, OptimizerName, Origin, Updates, ValidRecipe};
use sami_policy::{SamplingParams, SamplingParamsBuilder};
use sami_torch::{
    Device, Dtype, EngineOptions, LoraConfig, OptimizerConfig, OptimizerKind, Precision, Projection,
    TorchPolicy, set_threads,
};

use crate::args::{ModelArgs, SamplingArgs};
use crate::failure::Failure;
use crate::hub;

/// The engine that a recipe asks for.
pub(crate) fn engine(recipe: &ValidRecipe) -> EngineOptions {
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
            targets: lora.targets.iter().map(|target| projection(*target)).collect(),
            seed: recipe.seed,
        }),
        keep_reference: training.beta > 0.0 || training.measure_kl,
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

/// What this program is, and what it runs on: kept with every run.
pub(crate) fn origin() -> Origin {
    let environment = sami_torch::environment();
    Origin {
        program: format!("sami {}", env!("CARGO_PKG_VERSION")),
        revision: option_env!("SAMI_REVISION").unwrap_or_default().to_owned(),
        libraries: Vec::new(),
        hardware: environment.to_string().lines().map(|line| line.trim().to_owned()).collect(),
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
        let policy = TorchPolicy::open(&hub::model(&self.model)?, engine)?;
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
