//! Reading: shards by memory map, headers checked, tensors copied once into LibTorch's own storage.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::WeightsError;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::sys::map_file;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Which tensors lie in which file; saving follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// File name → tensor names.
    pub(crate) shards: BTreeMap<String, Vec<String>>,
    /// Whether an index file goes with them.
    pub(crate) indexed: bool,
}

impl Layout {
    /// The same tensors, in their order, in files of at most `max_bytes` each (a larger tensor has a file of its own).
    pub(crate) fn resharded(&self, max_bytes: usize, bytes: impl Fn(&str) -> usize) -> Self {
        let mut files: Vec<(usize, Vec<String>)> = Vec::new();
        for name in self.shards.values().flatten() {
            let size = bytes(name);
            match files.last_mut().filter(|(used, _)| used + size <= max_bytes) {
                Some((used, names)) => {
                    *used += size;
                    names.push(name.clone());
                }
                None => files.push((size, vec![name.clone()])),
            }
        }
        let (count, indexed) = (files.len(), files.len() > 1);
        let file_name = |number: usize| match indexed {
            true => format!("model-{number:05}-of-{count:05}.safetensors"),
            false => SINGLE.to_owned(),
        };
        let shards = (1..).zip(files).map(|(number, (_, names))| (file_name(number), names)).collect();
        Self { shards, indexed }
    }
}

/// An opened checkpoint whose tensors are known to fit its configuration.
pub(crate) struct CheckpointReader {
    shards: BTreeMap<String, Shard>,
    file_of: BTreeMap<String, String>,
    layout: Layout,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    /// Header length in the file, header included: where the data begins.
    data_start: usize,
    metadata: Metadata,
}

impl CheckpointReader {
    /// Opens every shard of `dir` and checks names, shapes and dtypes against `config`. Reads no tensor data yet.
    pub(crate) fn open(dir: &Path, config: &ModelConfig) -> Result<Self> {
        let (file_of, indexed) = locate(dir)?;
        let mut shards = BTreeMap::new();
        for file in file_of.values().collect::<BTreeSet<_>>() {
            shards.insert(file.clone(), Shard::open(&dir.join(file))?);
        }
        let mut file_of = file_of;
        if !indexed {
            file_of = shards
                .iter()
                .flat_map(|(file, shard)| {
                    shard.metadata.tensors().into_keys().map(|name| (name, file.clone())).collect::<Vec<_>>()
                })
                .collect();
        }
        let reader = Self {
            layout: Layout {
                shards: shards.keys().map(|file| (file.clone(), names_in(&file_of, file))).collect(),
                indexed,
            },
            shards,
            file_of,
        };
        reader.check(dir, config)?;
        Ok(reader)
    }

    /// The files as they are, for saving in the same way.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes of all shard files.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.values().map(|shard| shard.map.len()).sum()
    }

    /// A tensor in the dtype of its file, copied out of the map.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || WeightsError::Names { missing: vec![name.to_owned()], unexpected: Vec::new() };
        let shard = self
            .file_of
            .get(name)
            .and_then(|file| self.shards.get(file))
            .ok_or_else(|| Error::Weights { path: PathBuf::from(name), source: missing() })?;
        let (kind, shape, bytes) =
            shard.view(name).map_err(|source| Error::Weights { path: shard.path.clone(), source })?;
        Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
    }

    fn check(&self, dir: &Path, config: &ModelConfig) -> Result<()> {
        let expected: BTreeMap<String, Vec<i64>> = config.tensors().into_iter().collect();
        let missing: Vec<String> =
            expected.keys().filter(|name| !self.file_of.contains_key(*name)).cloned().collect();
        let unexpected: Vec<String> = self
            .file_of
            .keys()
            .filter(|name| !expected.contains_key(*name) && !is_redundant(name, config))
            .cloned()
            .collect();
        if !missing.is_empty() || !unexpected.is_empty() {
            let source = WeightsError::Names { missing, unexpected };
            return Err(Error::Weights { path: dir.to_owned(), source });
        }
        for (name, expected) in expected {
            let Some((file, shard)) =
                self.file_of.get(&name).and_then(|file| Some((file, self.shards.get(file)?)))
            else {
                continue;
            };
            let fail = |source| Err(Error::Weights { path: shard.path.clone(), source });
            match shard.view(&name) {
                Err(WeightsError::NotInShard { tensor, .. }) => {
                    return fail(WeightsError::NotInShard { tensor, file: file.clone() });
                }
                Err(source) => return fail(source),
                Ok((_, got, _)) if got != expected => {
                    return fail(WeightsError::Shape { tensor: name, got, expected });
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// Tensors that some tools write although the forward pass does not need them.
fn is_redundant(name: &str, config: &ModelConfig) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight")
}

fn names_in(file_of: &BTreeMap<String, String>, file: &str) -> Vec<String> {
    file_of.iter().filter(|(_, f)| *f == file).map(|(name, _)| name.clone()).collect()
}

/// Tensor → file name, and whether an index said so. Without an index one entry names the single file.
fn locate(dir: &Path) -> Result<(BTreeMap<String, String>, bool)> {
    let index = dir.join(INDEX);
    if dir.join(SINGLE).is_file() && !index.is_file() {
        return Ok((BTreeMap::from([(String::new(), SINGLE.to_owned())]), false));
    }
    if !index.is_file() {
        return Err(Error::Weights { path: dir.to_owned(), source: WeightsError::NoWeights });
    }
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|source| Error::Json { path: index.clone(), source })?;
    let fail = |source| Error::Weights { path: index.clone(), source };
    let map = value.get("weight_map").and_then(Value::as_object).ok_or_else(|| fail(WeightsError::Index))?;
    let mut file_of = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| fail(WeightsError::Index))?;
        let mut components = Path::new(file).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            let (tensor, file) = (tensor.clone(), file.to_owned());
            return Err(fail(WeightsError::ShardOutside { tensor, file }));
        }
        file_of.insert(tensor.clone(), file.to_owned());
    }
    Ok((file_of, true))
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let map = map_file(&file).map_err(Error::io(path))?;
        // Checks the header's length, its JSON, and that the offsets tile the file exactly.
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|source| Error::Weights {
            path: path.to_owned(),
            source: WeightsError::Header(source),
        })?;
        Ok(Self { path: path.to_owned(), data_start: header + 8, map, metadata })
    }

    fn view(&self, name: &str) -> Result<(Kind, Vec<i64>, &[u8]), WeightsError> {
        let outside =
            || WeightsError::NotInShard { tensor: name.to_owned(), file: self.path.display().to_string() };
        let info = self.metadata.info(name).ok_or_else(outside)?;
        let kind = match info.dtype {
            safetensors::Dtype::F32 => Kind::Float,
            safetensors::Dtype::BF16 => Kind::BFloat16,
            safetensors::Dtype::F16 => Kind::Half,
            // The trainer's own state: the step counter.
            safetensors::Dtype::I64 => Kind::Int64,
            other => {
                return Err(WeightsError::Dtype { tensor: name.to_owned(), dtype: format!("{other:?}") });
            }
        };
        let (start, end) = info.data_offsets;
        let bytes = self.map.get(self.data_start + start..self.data_start + end).ok_or_else(outside)?;
        Ok((kind, info.shape.iter().map(|&size| size as i64).collect(), bytes))
    }
}

/// A single safetensors file of ours, all tensors by name (the trainer's state).
pub(crate) struct StateReader(Shard);

impl StateReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(Shard::open(path)?))
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.metadata.tensors().into_keys().collect()
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        let fail = |source| Error::Weights { path: self.0.path.clone(), source };
        if self.0.metadata.info(name).is_none() {
            return Err(fail(WeightsError::State(name.to_owned())));
        }
        let (kind, shape, bytes) = self.0.view(name).map_err(fail)?;
        Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
    }
}
