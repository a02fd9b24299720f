//! From arguments to the engine's options.

use sami_driver::recipe::Origin;
use sami_policy::{SamplingParams, SamplingParamsBuilder};
use sami_torch::{EngineOptions, TorchPolicy};

use crate::args::{ModelArgs, SamplingArgs};
use crate::failure::Failure;
use crate::hub;

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

impl ModelArgs {
    /// Opens the model.
    pub(crate) fn open(&self, engine: &EngineOptions) -> Result<TorchPolicy, Failure> {
        Ok(TorchPolicy::open(&hub::model(&self.model)?, engine)?)
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
