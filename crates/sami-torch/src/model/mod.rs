//! The decoder: parameters by name, and the arithmetic of one layer.

mod attention;
mod layer;
mod rope;

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::checkpoint::CheckpointReader;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::optimizer::split;

pub(crate) use attention::{Block, Places};
pub(crate) use layer::{Geometry, Layer, LayerCache, Step};
pub(crate) use rope::Rope;

/// A parameter and the name that it has on disk.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

/// The whole model. Layers hold handles on the storage of `parameters`.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) rope: Rope,
    embed: usize,
    norm: usize,
    head: usize,
}

impl Model {
    /// Copies every tensor of the checkpoint onto `device`, as `kind`. Beside the model: what rounding f32 to bf16 took
    /// away, by parameter.
    pub(crate) fn load(
        config: ModelConfig,
        reader: &CheckpointReader,
        device: tch::Device,
        kind: Kind,
    ) -> Result<(Self, Vec<Option<Tensor>>)> {
        let (mut parameters, mut remainders) = (Vec::new(), Vec::new());
        for (name, _) in config.tensors() {
            let tensor = reader.tensor(&name)?.f_to_device(device)?;
            let (tensor, remainder) = match (tensor.kind(), kind) {
                // Rounded as the optimizer rounds, so that the exact weight stays known.
                (Kind::Float, Kind::BFloat16) => {
                    let (weight, remainder) = split(&tensor)?;
                    (weight, Some(remainder))
                }
                _ => (tensor.f_to_kind(kind)?, None),
            };
            parameters.push(Parameter { name, tensor });
            remainders.push(remainder);
        }
        Ok((Self::assemble(config, parameters, device, kind)?, remainders))
    }

    fn assemble(
        config: ModelConfig,
        parameters: Vec<Parameter>,
        device: tch::Device,
        kind: Kind,
    ) -> Result<Self> {
        // `ModelConfig::tensors` orders them: embedding, layers, norm, head.
        let norm = parameters.len() - if config.tie_word_embeddings { 1 } else { 2 };
        let head = if config.tie_word_embeddings { 0 } else { parameters.len() - 1 };
        let per_layer = (norm - 1) / config.num_hidden_layers;
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let range = 1 + index * per_layer..1 + (index + 1) * per_layer;
                Layer::new(&config, index, &parameters, range)
            })
            .collect();
        let rope = Rope::new(&config, device, kind)?;
        Ok(Self { config, parameters, layers, rope, embed: 0, norm, head })
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

    pub(crate) fn kind(&self) -> Kind {
        self.embed().kind()
    }

    /// RMSNorm with the final weight.
    pub(crate) fn final_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        layer::rms_norm(x, weight, self.config.rms_norm_eps)
    }

    /// Takes part in gradients from now on, or not.
    pub(crate) fn set_requires_grad(&mut self, requires_grad: bool) -> Result<()> {
        for parameter in &mut self.parameters {
            parameter.tensor = parameter.tensor.f_set_requires_grad(requires_grad)?;
        }
        Ok(())
    }
}

/// The range of a layer's own parameters in [`Model::parameters`].
pub(crate) type ParameterRange = Range<usize>;
