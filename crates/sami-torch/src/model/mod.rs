//! The decoder: parameters by name, and the arithmetic of one layer.

mod attention;
mod dropout;
mod layer;
mod linear;
mod mlp;
mod rope;

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::checkpoint::CheckpointReader;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::lora::LoraConfig;
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

/// The whole model. Layers hold handles on the storage of `parameters`.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) rope: Rope,
    lora: Option<LoraConfig>,
    kinds: Kinds,
    embed: usize,
    norm: usize,
    head: usize,
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
            let tensor = reader.tensor(&name)?.f_to_device(device)?;
            let (tensor, remainder) = match (tensor.kind(), kinds.weights) {
                // Rounded as the optimizer rounds, so that the exact weight stays known.
                (Kind::Float | Kind::Half | Kind::Double, Kind::BFloat16) => {
                    let (weight, remainder) = split(&tensor.f_to_kind(Kind::Float)?)?;
                    (weight, Some(remainder))
                }
                _ => (tensor.f_to_kind(kinds.weights)?, None),
            };
            parameters.push(Parameter { name, tensor, trainable: true });
            remainders.push(remainder);
        }
        Ok((Self::assemble(config, parameters, None, device, kinds)?, remainders))
    }

    fn assemble(
        config: ModelConfig,
        parameters: Vec<Parameter>,
        lora: Option<&LoraConfig>,
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
        let embed = find("model.embed_tokens.weight")?;
        let norm = find("model.norm.weight")?;
        let head = if config.tie_word_embeddings { embed } else { find("lm_head.weight")? };
        let mut parts = Parts::new(&parameters, &index, lora);
        let layers = (0..config.num_hidden_layers)
            .map(|layer| Layer::new(&config, layer, &mut parts))
            .collect::<Result<_>>()?;
        let rope = Rope::new(&config, device, kinds.arithmetic)?;
        Ok(Self { config, parameters, layers, rope, lora: lora.cloned(), kinds, embed, norm, head })
    }

    /// The same model for another thread: other handles on the same tensors.
    pub(crate) fn share(&self) -> Result<Self> {
        let parameters = self.parameters.iter().map(Parameter::share).collect();
        Self::assemble(self.config.clone(), parameters, self.lora.as_ref(), self.device(), self.kinds)
    }

    /// The same weights with adapters, which alone are trained.
    pub(crate) fn with_adapters(self, lora: &LoraConfig, adapters: Vec<Parameter>) -> Result<Self> {
        let (device, kinds) = (self.device(), self.kinds);
        let mut parameters = self.parameters;
        for parameter in &mut parameters {
            parameter.trainable = false;
        }
        parameters.extend(adapters);
        Self::assemble(self.config, parameters, Some(lora), device, kinds)
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
    pub(crate) fn with_own(mut self, own: impl Fn(&str) -> bool) -> Result<Self> {
        for parameter in self.parameters.iter_mut().filter(|parameter| own(&parameter.name)) {
            let shared = parameter.tensor.f_detach()?;
            parameter.tensor = shared.f_to_dtype(shared.kind(), false, true)?;
        }
        self.reassembled()
    }

    /// The layers anew, after what is trained has changed.
    pub(crate) fn reassembled(self) -> Result<Self> {
        let (device, kinds) = (self.device(), self.kinds);
        Self::assemble(self.config, self.parameters, None, device, kinds)
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
        self.tensor(self.embed)
    }

    pub(crate) fn norm(&self) -> &Tensor {
        self.tensor(self.norm)
    }

    pub(crate) fn head(&self) -> &Tensor {
        self.tensor(self.head)
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
