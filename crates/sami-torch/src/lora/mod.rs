//! Low-rank adapters (LoRA, arXiv 2106.09685) in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

mod error;
mod modules;
mod names;
mod peft;
mod projection;
mod tensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::chat::ChatTemplate;
use crate::checkpoint::StateReader;
use crate::config::ModelConfig;
use crate::error::{Error, Result};

pub use error::AdapterError;
pub(crate) use modules::{EMBEDDING, HEAD, LowRank};
pub use projection::Projection;
pub(crate) use tensors::{Loaded, PREFIX};

use peft::PeftConfig;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// Train low-rank adapters and leave the weights as they are: y = x Wᵀ + α/r · (x Aᵀ) Bᵀ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// r, the rank of the update.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// Which linear maps of every layer get one.
    pub targets: Vec<Projection>,
    /// Share of what an adapter reads that is dropped at random in training, in [0, 1). What is dropped follows from the seed, the
    /// number of updates and the text, so that batching and resuming change nothing. Never in scoring and generation.
    pub dropout: f64,
    /// Seed of A and of the dropout; B begins at zero, so the policy begins as the base.
    pub seed: u64,
}

impl Default for LoraConfig {
    /// PEFT's rank and α, on queries and values.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 8.0,
            targets: vec![Projection::Query, Projection::Value],
            dropout: 0.0,
            seed: 0,
        }
    }
}

impl LoraConfig {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |option, reason: String| Err(Error::Option { option, reason });
        if self.rank == 0 {
            return refuse("lora.rank", "0; it must be at least 1".into());
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return refuse("lora.alpha", format!("{}; it must be a positive number", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("lora.dropout", format!("{}; it must be at least 0 and below 1", self.dropout));
        }
        if self.targets.is_empty() {
            return refuse("lora.targets", "empty; name at least one projection, such as q_proj".into());
        }
        Ok(())
    }

    /// Numbers in all adapters of a model.
    pub(crate) fn size(&self, config: &ModelConfig) -> usize {
        let modules = self.modules(config).unwrap_or_default();
        modules
            .values()
            .map(|LowRank { weight: [outputs, inputs], .. }| self.rank * (outputs + inputs) as usize)
            .sum()
    }

    /// Every adapted module of the model.
    fn modules(&self, config: &ModelConfig) -> Result<BTreeMap<String, LowRank>> {
        let (rank, scale) = (self.rank, self.alpha / self.rank as f64);
        let mut modules = BTreeMap::new();
        for target in &self.targets {
            let before = modules.len();
            for (name, shape) in config.tensors() {
                let module = name.strip_suffix(".weight");
                let adapted = module.filter(|module| module.rsplit('.').next() == Some(target.name()));
                if let (Some(module), Ok(weight)) = (adapted, <[i64; 2]>::try_from(shape.as_slice())) {
                    modules.insert(module.to_owned(), LowRank { rank, scale, weight });
                }
            }
            if modules.len() == before {
                let reason = format!("{} has no {target}", config.architecture);
                return Err(Error::Option { option: "lora.targets", reason });
            }
        }
        Ok(modules)
    }

    /// New adapters on a base, not yet with values.
    pub(crate) fn on(&self, config: &ModelConfig) -> Result<Adapters> {
        let fields = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": self.targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "use_rslora": false,
            "use_dora": false,
        });
        Ok(Adapters {
            low_rank: self.modules(config)?,
            whole: BTreeMap::new(),
            dropout: self.dropout,
            seed: self.seed,
            fields: fields.as_object().cloned().unwrap_or_default(),
        })
    }
}

/// The adapters of a policy: which modules have low-rank updates, and which tensors are brought whole.
#[derive(Clone, Debug)]
pub struct Adapters {
    low_rank: BTreeMap<String, LowRank>,
    /// By the base's names, with their shapes.
    whole: BTreeMap<String, Vec<i64>>,
    pub(crate) dropout: f64,
    pub(crate) seed: u64,
    /// `adapter_config.json`, but for the base.
    fields: Map<String, Value>,
}

impl Adapters {
    /// Modules with a low-rank update: name, rank and scale (α/r, or α/√r), by name.
    pub fn modules(&self) -> impl Iterator<Item = (&str, usize, f64)> {
        self.low_rank.iter().map(|(name, update)| (name.as_str(), update.rank, update.scale))
    }

    /// Tensors of the base that the adapter replaces (PEFT's `modules_to_save`).
    pub fn whole(&self) -> impl Iterator<Item = &str> {
        self.whole.keys().map(String::as_str)
    }

    /// Numbers in all of them.
    fn size(&self) -> usize {
        let low_rank =
            self.low_rank.values().map(|update| update.rank as i64 * update.weight.iter().sum::<i64>());
        let whole = self.whole.values().map(|shape| shape.iter().product::<i64>());
        low_rank.chain(whole).sum::<i64>() as usize
    }

    /// Share of what a low-rank update reads that is dropped in training.
    pub fn dropout(&self) -> f64 {
        self.dropout
    }

    pub(crate) fn of(&self, module: &str) -> Option<&LowRank> {
        self.low_rank.get(module)
    }

    /// Refuses what cannot be trained.
    pub(crate) fn check_trainable(&self) -> Result<(), AdapterError> {
        match [EMBEDDING, HEAD].into_iter().find(|module| self.low_rank.contains_key(*module)) {
            Some(module) => Err(AdapterError::NotTrainable { module: module.into() }),
            None => Ok(()),
        }
    }

    /// The content of `adapter_config.json`.
    pub(crate) fn to_peft(&self, base: &Path) -> Value {
        PeftConfig::fields_on(&self.fields, base)
    }
}

/// An adapter directory: what it says, and the base that it belongs to.
pub(crate) struct AdapterFiles {
    /// `adapter_config.json`.
    path: PathBuf,
    config: PeftConfig,
    weights: StateReader,
}

impl AdapterFiles {
    /// `None` where `dir` is no adapter. One that lies beside a whole model is one all the same, as in transformers. Whatever is not known to mean what is computed here is refused by name.
    pub(crate) fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            return Ok(None);
        }
        let fields: Map<String, Value> = serde_json::from_value(crate::json::read(&path)?)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        let config =
            PeftConfig::parse(&fields).map_err(|source| Error::Adapter { path: path.clone(), source })?;
        if !dir.join(WEIGHTS).is_file() {
            return Err(Error::Adapter { path: dir.to_owned(), source: AdapterError::NoWeights });
        }
        Ok(Some(Self { path, config, weights: StateReader::open(&dir.join(WEIGHTS))? }))
    }

    /// The base that it names, if that is a checkpoint of this machine.
    pub(crate) fn base(&self) -> Result<PathBuf> {
        let base = &self.config.base;
        if base.join("config.json").is_file() {
            return Ok(base.clone());
        }
        Err(self.error(AdapterError::NoBase { base: base.display().to_string() }))
    }

    /// What it comes to on a base. The seed of dropout is no part of PEFT's format.
    pub(crate) fn on(&self, config: &ModelConfig, seed: u64) -> Result<Adapters> {
        let matched = self.config.matched(config).map_err(|source| self.error(source))?;
        Ok(Adapters {
            low_rank: matched.low_rank,
            whole: matched.whole,
            dropout: self.config.dropout,
            seed,
            fields: self.config.fields.clone(),
        })
    }

    /// New adapters with as many numbers as these, rounded up: what a plan of memory asks for.
    pub(crate) fn as_large(&self, config: &ModelConfig) -> Result<LoraConfig> {
        let one = LoraConfig { rank: 1, ..LoraConfig::default() };
        let rank = self.on(config, 0)?.size().div_ceil(one.size(config).max(1));
        Ok(LoraConfig { rank: rank.max(1), ..one })
    }

    /// What lies beside the adapter and is not used: a tokenizer or a chat template that is not the base's.
    pub(crate) fn remarks(&self, base: &Path, template: Option<&ChatTemplate>) -> Vec<String> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut remarks = Vec::new();
        let tokens = |dir: &Path| {
            let mut value = crate::json::read(&dir.join("tokenizer.json")).ok()?;
            // How texts were cut and filled up in training says nothing of their tokens.
            value.as_object_mut()?.retain(|field, _| !["padding", "truncation"].contains(&field.as_str()));
            Some(value)
        };
        if tokens(dir).is_some_and(|own| Some(own) != tokens(base)) {
            remarks.push(format!(
                "{}: not the tokenizer of the base; that of {} is used",
                dir.join("tokenizer.json").display(),
                base.display()
            ));
        }
        if let Ok(Some(own)) = ChatTemplate::open(dir)
            && template.is_none_or(|template| template.source() != own.source())
        {
            remarks.push(format!(
                "{}: this chat template is not used; a chat format must be that of the base, {}",
                own.path().display(),
                base.display()
            ));
        }
        remarks
    }

    /// Its tensors.
    pub(crate) fn load(&self, adapters: &Adapters, config: &ModelConfig) -> Result<Vec<Loaded>> {
        tensors::read(adapters, config, &self.weights, |source| self.error(source))
    }

    pub(crate) fn error(&self, source: AdapterError) -> Error {
        Error::Adapter { path: self.path.clone(), source }
    }
}
