//! Which modules of a base an adapter speaks of.

use std::collections::{BTreeMap, BTreeSet};

use super::error::AdapterError;
use super::names::{Names, Pattern, is_or_ends_in};
use super::peft::{Layers, PeftConfig, Targets};
use crate::config::ModelConfig;

pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const HEAD: &str = "lm_head";

/// A module's low-rank update: + scale · B A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LowRank {
    pub(crate) rank: usize,
    pub(crate) scale: f64,
    /// Shape of the adapted weight: `[outputs, inputs]`, or `[vocabulary, width]` of the embedding.
    pub(crate) weight: [i64; 2],
}

/// What `adapter_config.json` comes to on a base.
pub(super) struct Matched {
    pub(super) low_rank: BTreeMap<String, LowRank>,
    /// Tensors that the adapter brings whole, by the base's names, with their shapes.
    pub(super) whole: BTreeMap<String, Vec<i64>>,
}

/// Modules as transformers 5 names them; those with a matrix come with its shape.
type Modules = BTreeMap<String, Option<[i64; 2]>>;

impl PeftConfig {
    pub(super) fn matched(&self, config: &ModelConfig) -> Result<Matched, AdapterError> {
        let modules = modules(config);
        let whole = self.whole(config, &modules)?;
        let experts = self.experts(config)?;
        let mut low_rank = BTreeMap::new();
        for (module, weight) in &modules {
            if !self.targeted(module, *weight)? {
                continue;
            }
            let Some(weight) = *weight else {
                return Err(AdapterError::NotLinear { module: module.clone() });
            };
            if whole.keys().any(|tensor| owner(tensor) == module) {
                return Err(AdapterError::Twice { module: module.clone() });
            }
            low_rank.insert(module.clone(), self.low_rank(module, weight)?);
        }
        for (module, weight) in mixture_modules(config) {
            if experts.contains(leaf(&module)) {
                low_rank.insert(module.clone(), self.low_rank(&module, weight)?);
            }
        }
        if low_rank.is_empty() {
            let value =
                self.fields.get("target_modules").map_or_else(|| "absent".into(), ToString::to_string);
            return Err(AdapterError::NoModule { value, architecture: config.architecture.clone() });
        }
        Ok(Matched { low_rank, whole })
    }

    fn low_rank(&self, module: &str, weight: [i64; 2]) -> Result<LowRank, AdapterError> {
        let rank = one_of("rank_pattern", &self.ranks, module)?.unwrap_or(self.rank);
        let alpha = one_of("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        let divisor = if self.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
        Ok(LowRank { rank, scale: alpha / divisor, weight })
    }

    /// PEFT's `check_target_module_exists`.
    fn targeted(&self, module: &str, weight: Option<[i64; 2]>) -> Result<bool, AdapterError> {
        if let Some(exclude) = &self.exclude
            && exclude.matches(module)?
        {
            return Ok(false);
        }
        for whole in &self.whole {
            if Pattern::new("modules_to_save", &format!(r"(^|.*\.){whole}($|\..*)"))?.matches(module)? {
                return Ok(false);
            }
        }
        match &self.targets {
            Targets::AllLinear => Ok(weight.is_some() && module != HEAD && module != EMBEDDING),
            Targets::Named(names) => {
                let whole_name = matches!(names, Names::List(list) if list.iter().any(|name| name == module));
                Ok(names.matches(module)?
                    && (whole_name || self.layers.as_ref().is_none_or(|layers| layers.hold(module))))
            }
        }
    }

    /// Every tensor of the modules whose names end (not necessarily after a dot) as one of `modules_to_save`.
    fn whole(
        &self,
        config: &ModelConfig,
        modules: &Modules,
    ) -> Result<BTreeMap<String, Vec<i64>>, AdapterError> {
        let ends = |module: &str| self.whole.iter().any(|end| module.ends_with(end.as_str()));
        let matched: Vec<&String> = modules.keys().filter(|module| ends(module)).collect();
        let within = |name: &str| {
            matched
                .iter()
                .any(|module| name.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        if config.mixture.is_some() {
            let reached = mixture_names(config).into_iter().any(|name| ends(&name) || within(&name));
            if reached {
                let reason = "transformers 5 keeps them in other tensors; leave them out";
                return Err(experts_error("modules_to_save", config, reason));
            }
        }
        let mut tensors = config.tensors();
        if config.tie_word_embeddings {
            tensors
                .push((format!("{HEAD}.weight"), vec![config.vocab_size as i64, config.hidden_size as i64]));
        }
        Ok(tensors.into_iter().filter(|(name, _)| within(name)).collect())
    }

    /// Which of the experts' matrices and the router are adapted: PEFT puts the adapters of single experts together, as
    /// transformers 5 does with the experts. What it then leaves out or scales in another way is refused.
    fn experts(&self, config: &ModelConfig) -> Result<BTreeSet<&'static str>, AdapterError> {
        if config.mixture.is_none() {
            return Ok(BTreeSet::new());
        }
        let refuse = |field, reason| Err(experts_error(field, config, reason));
        let list = match &self.targets {
            Targets::Named(Names::List(list)) => list,
            Targets::AllLinear => return refuse("target_modules", "list the modules by name"),
            Targets::Named(names) => {
                for name in mixture_names(config) {
                    if names.matches(&name)? {
                        return refuse("target_modules", "list the modules by name");
                    }
                }
                return Ok(BTreeSet::new());
            }
        };
        let parts = ["gate", "w1", "w2", "w3"];
        let found: BTreeSet<&str> =
            parts.into_iter().filter(|part| list.iter().any(|name| is_or_ends_in(name, part))).collect();
        if found.is_empty() {
            return Ok(found);
        }
        let (first, second, third) = (found.contains("w1"), found.contains("w2"), found.contains("w3"));
        if first != third || (first && !second) {
            return refuse("target_modules", "PEFT 0.21.2 opens w1 and w3 only together and beside w2");
        }
        let set = |field: &str| {
            self.fields.get(field).is_some_and(|value| {
                !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()) && value != false
            })
        };
        for field in ["rank_pattern", "alpha_pattern", "use_rslora", "exclude_modules", "layers_to_transform"]
        {
            if set(field) {
                return refuse(
                    field,
                    "PEFT 0.21.2 applies it to them in another way than to single matrices",
                );
            }
        }
        if self.dropout > 0.0 || set("fan_in_fan_out") {
            let field = if self.dropout > 0.0 { "lora_dropout" } else { "fan_in_fan_out" };
            return refuse(field, "PEFT 0.21.2 allows it for linear maps only; set it to its default");
        }
        Ok(found)
    }
}

impl Layers {
    /// Whether the module stands in one of these layers: the number after the list's name decides.
    fn hold(&self, module: &str) -> bool {
        let parts: Vec<&str> = module.split('.').collect();
        let index = parts.windows(2).find_map(|pair| {
            let known = self.lists.is_empty() || self.lists.iter().any(|list| list == pair[0]);
            pair[1].parse::<u64>().ok().filter(|_| known)
        });
        index.is_some_and(|index| self.indices.contains(&index))
    }
}

/// The value of the pattern that matches; several may match if they agree.
fn one_of<T: Copy + PartialEq>(
    field: &'static str,
    patterns: &[(Pattern, T)],
    module: &str,
) -> Result<Option<T>, AdapterError> {
    let mut found = None;
    for (pattern, value) in patterns {
        if pattern.matches(module)? && found.replace(*value).is_some_and(|other| other != *value) {
            return Err(AdapterError::Ambiguous { field, module: module.to_owned() });
        }
    }
    Ok(found)
}

fn experts_error(field: &'static str, config: &ModelConfig, reason: &'static str) -> AdapterError {
    AdapterError::Experts { field, architecture: config.architecture.clone(), reason }
}

/// The module of a tensor.
fn owner(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or(tensor, |(module, _)| module)
}

fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// The modules of a base but experts and routers, with those that hold others.
fn modules(config: &ModelConfig) -> Modules {
    let mut modules = Modules::new();
    let tensors = config.tensors();
    let own = tensors.iter().filter(|(name, _)| !name.contains(".block_sparse_moe."));
    for (name, shape) in own.filter(|(name, _)| name.ends_with(".weight")) {
        modules.insert(owner(name).to_owned(), shape.as_slice().try_into().ok());
    }
    modules.insert(HEAD.into(), Some([config.vocab_size as i64, config.hidden_size as i64]));
    for layer in 0..config.num_hidden_layers {
        modules.insert(format!("model.layers.{layer}.mlp.act_fn"), None);
    }
    modules.insert("model.rotary_emb".into(), None);
    for name in modules.keys().cloned().collect::<Vec<_>>() {
        let mut name = name.as_str();
        while let Some((parent, _)) = name.rsplit_once('.') {
            modules.entry(parent.to_owned()).or_insert(None);
            name = parent;
        }
    }
    modules
}

/// Matrices of experts and routers, as checkpoints name them.
fn mixture_modules(config: &ModelConfig) -> Vec<(String, [i64; 2])> {
    let tensors = config.tensors().into_iter().filter(|(name, _)| name.contains(".block_sparse_moe."));
    tensors.filter_map(|(name, shape)| Some((owner(&name).to_owned(), shape.try_into().ok()?))).collect()
}

/// Every name under which experts and routers are known to transformers 4 and 5.
fn mixture_names(config: &ModelConfig) -> Vec<String> {
    let mut names: Vec<String> = mixture_modules(config).into_iter().map(|(module, _)| module).collect();
    for layer in 0..config.num_hidden_layers {
        let parts = ["gate", "experts", "experts.gate_up_proj", "experts.down_proj"];
        let old = ["experts.w1", "experts.w2", "experts.w3"];
        names.extend(parts.iter().chain(&old).map(|part| format!("model.layers.{layer}.mlp.{part}")));
        names.push(format!("model.layers.{layer}.block_sparse_moe"));
    }
    names
}
