//! Low-rank adapters (LoRA, arXiv 2106.09685) in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::checkpoint::StateReader;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::model::Parameter;
use crate::options::UnknownName;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// A linear map of a decoder layer, by its Hugging Face name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Projection {
    /// `q_proj`.
    Query,
    /// `k_proj`.
    Key,
    /// `v_proj`.
    Value,
    /// `o_proj`.
    Output,
    /// `gate_proj`.
    Gate,
    /// `up_proj`.
    Up,
    /// `down_proj`.
    Down,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The name that configurations use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Projection {
    type Err = UnknownName;
    fn from_str(given: &str) -> Result<Self, UnknownName> {
        let expected = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
        let known = Self::ALL.into_iter().find(|projection| projection.name() == given);
        known.ok_or_else(|| UnknownName { given: given.into(), expected })
    }
}

impl TryFrom<String> for Projection {
    type Error = UnknownName;
    fn try_from(given: String) -> Result<Self, UnknownName> {
        given.parse()
    }
}

impl From<Projection> for String {
    fn from(projection: Projection) -> Self {
        projection.to_string()
    }
}

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

    pub(crate) fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Numbers in all adapters of a model.
    pub(crate) fn size(&self, config: &ModelConfig) -> usize {
        let modules = self.modules(config).unwrap_or_default();
        modules.iter().map(|(_, outputs, inputs)| self.rank * (outputs + inputs) as usize).sum()
    }

    /// Every adapted module of the model, with its weight's shape `[outputs, inputs]`.
    fn modules(&self, config: &ModelConfig) -> Result<Vec<(String, i64, i64)>> {
        let mut modules = Vec::new();
        for target in &self.targets {
            let before = modules.len();
            for (name, shape) in config.tensors() {
                let module = name.strip_suffix(".weight");
                let adapted = module.filter(|module| module.rsplit('.').next() == Some(target.name()));
                if let (Some(module), [outputs, inputs]) = (adapted, shape.as_slice()) {
                    modules.push((module.to_owned(), *outputs, *inputs));
                }
            }
            if modules.len() == before {
                let reason = format!("{} has no {target}", config.architecture);
                return Err(Error::Option { option: "lora.targets", reason });
            }
        }
        modules.sort();
        Ok(modules)
    }

    /// Adapters as PEFT begins them: A uniform in ±1/√inputs, B zero; or those of a file.
    pub(crate) fn parameters(
        &self,
        config: &ModelConfig,
        from: Option<&StateReader>,
        device: tch::Device,
        kind: Kind,
    ) -> Result<Vec<Parameter>> {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        let mut parameters = Vec::new();
        for (module, outputs, inputs) in self.modules(config)? {
            let rank = self.rank as i64;
            let [down, up] = adapter_names(&module);
            for (name, shape) in [(down, [rank, inputs]), (up, [outputs, rank])] {
                let tensor = match from {
                    Some(reader) => reader.shaped(&name, &shape)?,
                    None if name.ends_with("lora_A.weight") => {
                        let bound = (inputs as f64).powf(-0.5);
                        let values: Vec<f32> = (0..rank * inputs)
                            .map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32)
                            .collect();
                        Tensor::f_from_slice(&values)?.f_view(shape)?
                    }
                    None => Tensor::f_zeros(shape, (Kind::Float, tch::Device::Cpu))?,
                };
                let tensor = tensor.f_to_device(device)?.f_to_kind(kind)?;
                parameters.push(Parameter { name, tensor, trainable: true });
            }
        }
        Ok(parameters)
    }

    /// The content of `adapter_config.json`.
    pub(crate) fn to_peft(&self, base: &Path) -> Value {
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.display().to_string(),
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": self.targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
            "use_rslora": false,
            "use_dora": false,
        })
    }
}

/// A and B of a module, by the names that PEFT gives them.
pub(crate) fn adapter_names(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("base_model.model.{module}.{part}.weight"))
}

/// An adapter directory: what it holds, and the base that it belongs to.
pub(crate) struct AdapterFiles {
    pub(crate) lora: LoraConfig,
    pub(crate) base: PathBuf,
    pub(crate) weights: StateReader,
}

impl AdapterFiles {
    /// `None` where `dir` is no adapter. Whatever would change the maths beyond plain LoRA is refused by name.
    pub(crate) fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(CONFIG);
        if !path.is_file() || dir.join("config.json").is_file() {
            return Ok(None);
        }
        let value = crate::json::read(&path)?;
        let fail = |field: &'static str, reason: &str| {
            Err(Error::Adapter { path: path.clone(), field, reason: reason.to_owned() })
        };
        if value["peft_type"] != "LORA" {
            return fail("peft_type", "only LORA is known here");
        }
        let off = |field: &str| {
            matches!(&value[field], Value::Null | Value::Bool(false))
                || value[field].as_array().is_some_and(Vec::is_empty)
                || value[field].as_object().is_some_and(serde_json::Map::is_empty)
        };
        for field in [
            "use_rslora",
            "use_dora",
            "fan_in_fan_out",
            "modules_to_save",
            "layers_to_transform",
            "rank_pattern",
            "alpha_pattern",
            "layer_replication",
        ] {
            if !off(field) {
                return fail(field, "it changes the adapter in a way that is not supported");
            }
        }
        if !matches!(value["bias"].as_str(), None | Some("none")) {
            return fail("bias", "trained biases are not supported");
        }
        let Some(rank) = value["r"].as_u64().and_then(|rank| usize::try_from(rank).ok()) else {
            return fail("r", "it must be a positive integer");
        };
        let Some(alpha) = value["lora_alpha"].as_f64() else {
            return fail("lora_alpha", "it must be a number");
        };
        let Ok(mut targets) = serde_json::from_value::<Vec<Projection>>(value["target_modules"].clone())
        else {
            return fail("target_modules", "it must be a list of projections such as q_proj");
        };
        targets.sort();
        let Some(base) = value["base_model_name_or_path"].as_str() else {
            return fail("base_model_name_or_path", "it must name the base's directory");
        };
        let dropout = match &value["lora_dropout"] {
            Value::Null => 0.0,
            given => match given.as_f64() {
                Some(rate) => rate,
                None => return fail("lora_dropout", "it must be a number"),
            },
        };
        let lora = LoraConfig { rank, alpha, targets, dropout, seed: 0 };
        lora.check()?;
        Ok(Some(Self { lora, base: PathBuf::from(base), weights: StateReader::open(&dir.join(WEIGHTS))? }))
    }
}
