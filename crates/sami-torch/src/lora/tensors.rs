//! The tensors of an adapter: new ones, or those of `adapter_model.safetensors`, every one of which is used or refused.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tch::{Kind, Tensor};

use super::error::AdapterError;
use super::modules::{EMBEDDING, HEAD, LowRank};
use super::{Adapters, LoraConfig};
use crate::checkpoint::StateReader;
use crate::config::ModelConfig;
use crate::error::{Error, Result};

/// What PEFT puts before the base's names.
pub(crate) const PREFIX: &str = "base_model.model.";

/// A tensor of an adapter, by the name that it has in PEFT's files.
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    pub(crate) trainable: bool,
}

impl LowRank {
    /// A and B by the names that PEFT gives them, with their shapes. The embedding's A comes transposed, for A is what reads.
    pub(crate) fn tensors(&self, module: &str) -> [(String, [i64; 2]); 2] {
        let (rank, [outputs, inputs]) = (self.rank as i64, self.weight);
        if module == EMBEDDING {
            let name = |part: &str| format!("{PREFIX}{module}.lora_embedding_{part}");
            return [(name("A"), [rank, outputs]), (name("B"), [inputs, rank])];
        }
        let name = |part: &str| format!("{PREFIX}{module}.lora_{part}.weight");
        [(name("A"), [rank, inputs]), (name("B"), [outputs, rank])]
    }
}

impl LoraConfig {
    /// Adapters as PEFT begins them: A uniform in ±1/√inputs, B zero.
    pub(crate) fn begin(&self, adapters: &Adapters) -> Result<Vec<Loaded>> {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        let mut loaded = Vec::new();
        for (module, update) in &adapters.low_rank {
            let [(down, shape), (up, up_shape)] = update.tensors(module);
            let bound = (shape[1] as f64).powf(-0.5);
            let values: Vec<f32> = (0..shape[0] * shape[1])
                .map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32)
                .collect();
            let tensor = Tensor::f_from_slice(&values)?.f_view(shape)?;
            loaded.push(Loaded { name: down, tensor, trainable: true });
            let tensor = Tensor::f_zeros(up_shape, (Kind::Float, tch::Device::Cpu))?;
            loaded.push(Loaded { name: up, tensor, trainable: true });
        }
        Ok(loaded)
    }
}

/// Reads an adapter's tensors, checked against its configuration and the base's.
pub(super) fn read(
    adapters: &Adapters,
    config: &ModelConfig,
    reader: &StateReader,
    error: impl Fn(AdapterError) -> Error,
) -> Result<Vec<Loaded>> {
    let mut left: BTreeSet<String> = reader.names().into_iter().collect();
    let mut loaded = Vec::new();
    let mut take = |name: String, shape: &[i64], trainable: bool| -> Result<()> {
        if !left.remove(&name) {
            return Err(error(AdapterError::Lacks { tensor: name }));
        }
        let tensor = reader.tensor(&name)?;
        if tensor.size() != shape {
            let (got, expected) = (tensor.size(), shape.to_vec());
            return Err(error(AdapterError::Shape { tensor: name, got, expected }));
        }
        loaded.push(Loaded { name, tensor, trainable });
        Ok(())
    };
    for (module, update) in &adapters.low_rank {
        let trainable = module != EMBEDDING && module != HEAD;
        for (name, shape) in update.tensors(module) {
            take(name, &shape, trainable)?;
        }
    }
    for (name, shape) in &adapters.whole {
        take(format!("{PREFIX}{name}"), shape, true)?;
    }
    // The base's own embedding and head, which PEFT saves beside adapters on them, or when it is asked to.
    let shape = [config.vocab_size as i64, config.hidden_size as i64];
    let present: BTreeSet<String> = reader.names().into_iter().collect();
    let saved: BTreeMap<&str, String> = [EMBEDDING, HEAD]
        .into_iter()
        .filter(|module| !adapters.whole.contains_key(&format!("{module}.weight")))
        .map(|module| (module, saved_name(module, adapters)))
        .filter(|(_, name)| present.contains(name))
        .collect();
    for name in saved.values() {
        take(name.clone(), &shape, false)?;
    }
    if let (true, Some(embedding), Some(head)) =
        (config.tie_word_embeddings, saved.get(EMBEDDING), saved.get(HEAD))
        && !reader.tensor(embedding)?.f_equal(&reader.tensor(head)?)?
    {
        let (embedding, head) = (embedding.clone(), head.clone());
        return Err(error(AdapterError::Tied { embedding, head }));
    }
    match left.first() {
        Some(tensor) => Err(error(AdapterError::Unused { tensor: tensor.clone(), count: left.len() })),
        None => Ok(loaded),
    }
}

/// Under which name PEFT saves the base's weight of embedding or head.
fn saved_name(module: &str, adapters: &Adapters) -> String {
    let part = if adapters.low_rank.contains_key(module) { "base_layer.weight" } else { "weight" };
    format!("{PREFIX}{module}.{part}")
}
