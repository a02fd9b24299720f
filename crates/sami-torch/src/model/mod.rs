//! The decoder: parameters by name, and the arithmetic of one layer.

mod attention;
mod dropout;
mod layer;
mod linear;
mod mlp;
mod rope;

use std::collections::HashMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use crate::checkpoint::CheckpointReader;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::lora::{Adapters, EMBEDDING, HEAD, LowRank, PREFIX};
use crate::optimizer::split;

pub(crate) use attention::{Block, Places};
pub(crate) use dropout::{Dropout, DropoutSeed};
use linear::Parts;
pub(crate) use linear::product;

pub(crate) use layer::{Geometry, KeysValues, Layer, LayerCache, Step};
pub(crate) use mlp::Route;
pub(crate) use rope::{Frequencies, Rope};

/// A parameter and the name that it has on disk.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    /// Takes part in gradients and updates.
    pub(crate) trainable: bool,
}

impl Parameter {
    fn share(&self) -> Self {
        Self { name: self.name.clone(), tensor: self.tensor.shallow_clone(), trainable: self.trainable }
    }
}

/// Numbers of weights, and of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) weights: Kind,
    pub(crate) arithmetic: Kind,
}

/// A tensor as weights are kept, and what rounding f32 to bf16 took away: rounded as the optimizer rounds, so that the exact
/// weight stays known.
pub(crate) fn rounded(tensor: &Tensor, weights: Kind) -> Result<(Tensor, Option<Tensor>)> {
    match (tensor.kind(), weights) {
        (Kind::Float | Kind::Half | Kind::Double, Kind::BFloat16) => {
            let (weight, remainder) = split(&tensor.f_to_kind(Kind::Float)?)?;
            Ok((weight, Some(remainder)))
        }
        _ => Ok((tensor.f_to_kind(weights)?, None)),
    }
}

/// The whole model. Layers hold handles on the storage of `parameters`.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) rope: Rope,
    adapters: Option<Arc<Adapters>>,
    kinds: Kinds,
    embed: usize,
    norm: usize,
    head: usize,
    updated: Updated,
}

/// Embedding and head with their low-rank updates added, where they have some.
#[derive(Default)]
struct Updated {
    embed: Option<Tensor>,
    head: Option<Tensor>,
}

impl Model {
    /// Copies every tensor of the checkpoint onto `device`, in `kinds.weights`. Beside the model: what rounding f32 to bf16 took
    /// away, by parameter.
    pub(crate) fn load(
        reader: &CheckpointReader,
        device: tch::Device,
        kinds: Kinds,
    ) -> Result<(Self, Vec<Option<Tensor>>)> {
        let config = reader.config().clone();
        let (mut parameters, mut remainders) = (Vec::new(), Vec::new());
        for (name, _) in config.tensors() {
            let (tensor, remainder) = rounded(&reader.tensor(&name)?.f_to_device(device)?, kinds.weights)?;
            parameters.push(Parameter { name, tensor, trainable: true });
            remainders.push(remainder);
        }
        Ok((Self::assemble(config, parameters, None, device, kinds)?, remainders))
    }

    fn assemble(
        config: ModelConfig,
        parameters: Vec<Parameter>,
        adapters: Option<Arc<Adapters>>,
        device: tch::Device,
        kinds: Kinds,
    ) -> Result<Self> {
        let index: HashMap<&str, usize> = parameters
            .iter()
            .enumerate()
            .map(|(index, parameter)| (parameter.name.as_str(), index))
            .collect();
        let find =
            |name: &str| index.get(name).copied().ok_or_else(|| Error::NoParameter { name: name.to_owned() });
        let own = |name: &str| index.get(format!("{PREFIX}{name}").as_str()).copied();
        let norm = own("model.norm.weight").map_or_else(|| find("model.norm.weight"), Ok)?;
        let weight = |module: &str| {
            own(&format!("{module}.weight")).or_else(|| own(&format!("{module}.base_layer.weight")))
        };
        let (embed, head) = (weight(EMBEDDING), weight(HEAD));
        let base = find("model.embed_tokens.weight")?;
        let (embed, head) = if config.tie_word_embeddings {
            // What an adapter trains is of one of them alone; what it saves of the base is of both.
            let shared = |index: &usize| !parameters[*index].trainable;
            let both = embed.filter(shared).or(head.filter(shared)).unwrap_or(base);
            let trained = |index: Option<usize>| index.filter(|index| !shared(index)).unwrap_or(both);
            (trained(embed), trained(head))
        } else {
            (embed.unwrap_or(base), head.map_or_else(|| find("lm_head.weight"), Ok)?)
        };
        let mut parts = Parts::new(&parameters, &index, adapters.as_deref());
        let layers = (0..config.num_hidden_layers)
            .map(|layer| Layer::new(&config, layer, &mut parts))
            .collect::<Result<_>>()?;
        let rope = Rope::new(&config, device, kinds.arithmetic)?;
        let updated = Updated::default();
        Ok(Self { config, parameters, layers, rope, adapters, kinds, embed, norm, head, updated })
    }

    /// The same model for another thread: other handles on the same tensors.
    pub(crate) fn share(&self) -> Result<Self> {
        let parameters = self.parameters.iter().map(Parameter::share).collect();
        let (device, adapters) = (self.device(), self.adapters.clone());
        let shared = Self::assemble(self.config.clone(), parameters, adapters, device, self.kinds)?;
        let Updated { embed, head } = &self.updated;
        let handle = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Ok(Self { updated: Updated { embed: handle(embed), head: handle(head) }, ..shared })
    }

    /// The same weights with adapters, which alone are trained.
    pub(crate) fn with_adapters(self, adapters: Adapters, tensors: Vec<Parameter>) -> Result<Self> {
        let (device, kinds) = (self.device(), self.kinds);
        let mut parameters = self.parameters;
        for parameter in &mut parameters {
            parameter.trainable = false;
        }
        parameters.extend(tensors);
        let model = Self::assemble(self.config, parameters, Some(Arc::new(adapters)), device, kinds)?;
        let updated = |module: &str, weight: usize| -> Result<Option<Tensor>> {
            let Some(update) = model.update(module, |index| Ok(model.tensor(index).shallow_clone()))? else {
                return Ok(None);
            };
            let weight = model.tensor(weight).f_to_kind(Kind::Float)?;
            Ok(Some(weight.f_add(&update)?.f_to_kind(kinds.weights)?))
        };
        let updated = Updated { embed: updated(EMBEDDING, model.embed)?, head: updated(HEAD, model.head)? };
        Ok(Self { updated, ..model })
    }

    /// scale · B A of a module that has a low-rank update, in f32 and of the shape of its weight. `exact`: a parameter by its index.
    pub(crate) fn update(
        &self,
        module: &str,
        exact: impl Fn(usize) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(update) = self.adapters.as_ref().and_then(|adapters| adapters.of(module)) else {
            return Ok(None);
        };
        let LowRank { scale, .. } = update;
        let [Some(down), Some(up)] = update.tensors(module).map(|(name, _)| self.position(&name)) else {
            return Ok(None);
        };
        let product = exact(up)?.f_to_kind(Kind::Float)?.f_mm(&exact(down)?.f_to_kind(Kind::Float)?)?;
        let product = if module == EMBEDDING { product.f_transpose(0, 1)? } else { product };
        Ok(Some(product.f_mul_scalar(*scale)?))
    }

    /// Which parameter stands for a tensor of a checkpoint.
    pub(crate) fn source(&self, name: &str) -> Option<usize> {
        match name {
            "model.embed_tokens.weight" => Some(self.embed),
            "lm_head.weight" => Some(self.head),
            name => self.position(&format!("{PREFIX}{name}")).or_else(|| self.position(name)),
        }
    }

    /// Whether one tensor is both embedding and head.
    pub(crate) fn is_tied(&self) -> bool {
        self.embed == self.head && self.updated.embed.is_none() && self.updated.head.is_none()
    }

    /// The same storage without the adapters: what they are measured against.
    pub(crate) fn without_adapters(&self) -> Result<Self> {
        let names: Vec<String> = self.config.tensors().into_iter().map(|(name, _)| name).collect();
        let parameters = self
            .parameters
            .iter()
            .filter(|parameter| names.contains(&parameter.name))
            .map(|parameter| Parameter { trainable: false, ..parameter.share() })
            .collect();
        Self::assemble(self.config.clone(), parameters, None, self.device(), self.kinds)
    }

    /// The same model, with copies of those parameters in place of the storage that it shares with another model.
    pub(crate) fn with_own(self, own: impl Fn(&str) -> bool) -> Result<Self> {
        let copied = |parameter: &Parameter| -> Result<Parameter> {
            let mut parameter = parameter.share();
            if own(&parameter.name) {
                let shared = parameter.tensor.f_detach()?;
                parameter.tensor = shared.f_to_dtype(shared.kind(), false, true)?;
            }
            Ok(parameter)
        };
        let parameters = self.parameters.iter().map(copied).collect::<Result<_>>()?;
        let config = self.config.clone();
        self.rebuilt(config, parameters)
    }

    /// A model of other parameters.
    pub(crate) fn rebuilt(self, config: ModelConfig, parameters: Vec<Parameter>) -> Result<Self> {
        let (device, kinds) = (self.device(), self.kinds);
        Self::assemble(config, parameters, None, device, kinds)
    }

    /// Bytes of all weights.
    pub(crate) fn bytes(&self) -> usize {
        let tensors = self.parameters.iter().map(|parameter| &parameter.tensor);
        tensors.map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }

    /// Index of a parameter by its name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|parameter| parameter.name == name)
    }

    /// Whether the parameter at this index is trained.
    pub(crate) fn is_trained(&self, index: usize) -> bool {
        self.parameters[index].trainable
    }

    pub(crate) fn embed(&self) -> &Tensor {
        self.updated.embed.as_ref().unwrap_or_else(|| self.tensor(self.embed))
    }

    pub(crate) fn norm(&self) -> &Tensor {
        self.tensor(self.norm)
    }

    pub(crate) fn head(&self) -> &Tensor {
        self.updated.head.as_ref().unwrap_or_else(|| self.tensor(self.head))
    }

    /// Index of the embedding among the parameters.
    pub(crate) fn embed_index(&self) -> usize {
        self.embed
    }

    /// Index of the final norm among the parameters.
    pub(crate) fn norm_index(&self) -> usize {
        self.norm
    }

    /// Index of the head among the parameters: the embedding's where they are tied.
    pub(crate) fn head_index(&self) -> usize {
        self.head
    }

    fn tensor(&self, index: usize) -> &Tensor {
        &self.parameters[index].tensor
    }

    pub(crate) fn device(&self) -> tch::Device {
        self.embed().device()
    }

    /// What it computes in.
    pub(crate) fn kind(&self) -> Kind {
        self.kinds.arithmetic
    }

    /// What it is kept and computed in.
    pub(crate) fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// The residual stream before the first layer: `[tokens, hidden]`.
    pub(crate) fn embedded(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(self.embed().f_index_select(0, ids)?.f_to_kind(self.kind())?)
    }

    /// RMSNorm with the final weight.
    pub(crate) fn final_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        layer::rms_norm(x, weight, self.config.rms_norm_eps)
    }

    /// Trained parameters take part in gradients from now on.
    pub(crate) fn track_gradients(&mut self) -> Result<()> {
        for parameter in &mut self.parameters {
            parameter.tensor = parameter.tensor.f_set_requires_grad(parameter.trainable)?;
        }
        Ok(())
    }
}
