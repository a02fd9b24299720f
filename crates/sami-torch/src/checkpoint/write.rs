//! Writing: the same files and names as they came in, each atomically, `config.json` last.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::files::INDEX;
use super::{Layout, WeightsError};
use crate::chat::{TEMPLATE_DIR, named_templates};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::lora::{CONFIG, WEIGHTS};
use crate::optimizer::join;
use crate::options::Dtype;

/// What makes a directory open elsewhere, beside weights and `config.json`. Copied as it is where it exists.
const COMPANIONS: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// Writes checkpoints that look like the one at `source`.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointWriter {
    source: PathBuf,
    layout: Layout,
}

impl CheckpointWriter {
    pub(crate) fn new(source: &Path, layout: &Layout) -> Self {
        Self { source: source.to_owned(), layout: layout.clone() }
    }

    /// From now on writes a head of its own, beside the embedding.
    pub(crate) fn untie(&mut self) {
        const HEAD: &str = "lm_head.weight";
        let shards = &mut self.layout.shards;
        let holds = |names: &Vec<String>, name: &str| names.iter().any(|other| other == name);
        if !shards.values().any(|names| holds(names, HEAD))
            && let Some(names) = shards.values_mut().find(|names| holds(names, "model.embed_tokens.weight"))
        {
            names.push(HEAD.into());
        }
    }

    /// Divides the weights anew, into files of at most so many bytes.
    pub(crate) fn reshard(&mut self, max_bytes: usize, bytes: impl Fn(&str) -> usize) {
        self.layout = self.layout.resharded(max_bytes, bytes);
    }

    /// Writes every tensor that `tensor` yields by name, in `dtype`. A new directory appears whole or not at all; in one that
    /// is there already, `config.json` is removed first and comes back last, so a directory that has it is whole. `model` says
    /// whether the head is tied to the embedding.
    pub(crate) fn write(
        &self,
        dir: &Path,
        model: &ModelConfig,
        dtype: Dtype,
        tensor: impl Fn(&str) -> Result<Option<Stored>>,
    ) -> Result<()> {
        let config = self.config(model, dtype)?;
        fill_directory(dir, |dir| {
            let config_path = dir.join("config.json");
            match fs::remove_file(&config_path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Io { path: config_path, source });
                }
                _ => {}
            }
            self.remove_others_weights(dir)?;
            self.write_weights(dir, dtype, &tensor)?;
            self.copy_companions(dir)?;
            write_json(&config_path, &config)
        })
    }

    /// Writes an adapter in PEFT's layout, with the tokenizer beside it. The configuration comes last.
    pub(crate) fn write_adapter(
        &self,
        dir: &Path,
        dtype: Dtype,
        tensors: Vec<(String, Stored)>,
        config: &Value,
    ) -> Result<()> {
        fill_directory(dir, |dir| {
            save_tensors(&dir.join(WEIGHTS), tensors, Some(dtype.kind()), &[("format", "pt")])?;
            self.copy_companions(dir)?;
            write_json(&dir.join(CONFIG), config)
        })
    }

    fn copy_companions(&self, dir: &Path) -> Result<()> {
        for name in COMPANIONS {
            let from = self.source.join(name);
            if from.is_file() {
                let bytes = fs::read(&from).map_err(Error::io(&from))?;
                write_atomically(&dir.join(name), |temp| fs::write(temp, &bytes))?;
            }
        }
        for (name, from) in named_templates(&self.source)? {
            let to = dir.join(TEMPLATE_DIR);
            fs::create_dir_all(&to).map_err(Error::io(&to))?;
            let bytes = fs::read(&from).map_err(Error::io(&from))?;
            write_atomically(&to.join(format!("{name}.jinja")), |temp| fs::write(temp, &bytes))?;
        }
        Ok(())
    }

    /// Weight files of another layout: a stale single file would win over a new index.
    fn remove_others_weights(&self, dir: &Path) -> Result<()> {
        let index = self.layout.indexed.then_some(INDEX);
        for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
            let path = entry.map_err(Error::io(dir))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let weights = name.starts_with("model")
                && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
            if weights && !self.layout.shards.contains_key(name) && index != Some(name) {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    fn write_weights(
        &self,
        dir: &Path,
        dtype: Dtype,
        tensor: &impl Fn(&str) -> Result<Option<Stored>>,
    ) -> Result<()> {
        let (mut weight_map, mut total) = (Map::new(), 0usize);
        for (file, names) in &self.layout.shards {
            let mut tensors = Vec::with_capacity(names.len());
            for name in names {
                if let Some(tensor) = tensor(name)? {
                    total += tensor.numel() * bytes_per_element(dtype.kind());
                    weight_map.insert(name.clone(), Value::from(file.as_str()));
                    tensors.push((name.clone(), tensor));
                }
            }
            save_tensors(&dir.join(file), tensors, Some(dtype.kind()), &[("format", "pt")])?;
        }
        if self.layout.indexed {
            let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
            write_json(&dir.join(INDEX), &index)?;
        }
        Ok(())
    }

    /// The source's `config.json`, with the dtype that is written now, in the source's own dialect, and with the head tied or not
    /// as it is written.
    fn config(&self, model: &ModelConfig, dtype: Dtype) -> Result<Value> {
        let path = self.source.join("config.json");
        let mut config = crate::json::read(&path)?;
        if let Some(fields) = config.as_object_mut() {
            let field = if fields.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
            fields.insert(field.into(), dtype.hugging_face().into());
            fields.insert("tie_word_embeddings".into(), model.tie_word_embeddings.into());
            // Files are written under the names that need no such field.
            fields.remove("transformers_weights");
            // What counts as absent is written as absent, so that what is saved speaks once.
            if fields
                .get("rope_scaling")
                .and_then(Value::as_object)
                .is_some_and(|scaling| !scaling.is_empty())
            {
                fields.remove("rope_parameters");
            }
        }
        Ok(config)
    }
}

fn bytes_per_element(kind: Kind) -> usize {
    kind.elt_size_in_bytes()
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    write_atomically(path, |temp| fs::write(temp, text + "\n"))
}

/// Fills a new directory under another name and renames it when it is whole; fills one that is there already in place.
pub(crate) fn fill_directory(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if dir.exists() {
        return fill(dir);
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = parent.join(name);
    // What a process that was killed left behind.
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(Error::io(&partial))?;
    }
    fs::create_dir(&partial).map_err(Error::io(&partial))?;
    fill(&partial)?;
    fs::rename(&partial, dir).map_err(Error::io(dir))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::io(parent))
}

/// Temporary file beside the target, fsync, rename, fsync of the directory.
fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let atomically = || {
        let temp = tempfile::Builder::new().prefix(".partial-").tempfile_in(dir)?.into_temp_path();
        write(&temp)?;
        File::options().write(true).open(&temp)?.sync_all()?;
        make_readable(&temp)?;
        temp.persist(path).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    };
    atomically().map_err(Error::io(path))
}

/// Temporary files are private to the user; a checkpoint is an ordinary file.
#[cfg(unix)]
fn make_readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A tensor to be written.
pub(crate) enum Stored {
    /// As it is.
    Plain(Tensor),
    /// An exact f32 weight in two parts; joined only while it is written.
    Split { weight: Tensor, remainder: Tensor },
}

impl Stored {
    fn kind(&self) -> Kind {
        match self {
            Self::Plain(tensor) => tensor.kind(),
            Self::Split { .. } => Kind::Float,
        }
    }

    fn size(&self) -> Vec<i64> {
        match self {
            Self::Plain(tensor) => tensor.size(),
            Self::Split { weight, .. } => weight.size(),
        }
    }

    fn numel(&self) -> usize {
        self.size().iter().product::<i64>() as usize
    }

    pub(crate) fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Plain(tensor) => Ok(tensor.f_detach()?),
            Self::Split { weight, remainder } => join(&weight.f_detach()?, remainder),
        }
    }
}

/// Writes one safetensors file atomically, converting to `kind` where given. Only one tensor's bytes are in memory at a
/// time beside the tensors themselves.
pub(crate) fn save_tensors(
    path: &Path,
    tensors: Vec<(String, Stored)>,
    kind: Option<Kind>,
    metadata: &[(&str, &str)],
) -> Result<()> {
    let failure = RefCell::new(None);
    let views = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let kind = kind.unwrap_or(tensor.kind());
            let dtype = match kind {
                Kind::Float => safetensors::Dtype::F32,
                Kind::BFloat16 => safetensors::Dtype::BF16,
                Kind::Int64 => safetensors::Dtype::I64,
                other => {
                    let dtype = format!("{other:?}");
                    return Err(Error::Weights {
                        path: path.to_owned(),
                        source: WeightsError::Dtype { tensor: name, dtype },
                    });
                }
            };
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            Ok((name, TensorView { tensor, kind, dtype, shape, failure: &failure }))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata: HashMap<String, String> =
        metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    write_atomically(path, |temp| {
        let metadata = (!metadata.is_empty()).then_some(metadata);
        safetensors::tensor::serialize_to_file(views, metadata, temp).map_err(|error| match error {
            SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other),
        })?;
        // A tensor whose bytes could not be had must not become a file.
        match failure.borrow().as_ref() {
            Some(message) => Err(std::io::Error::other(message.clone())),
            None => Ok(()),
        }
    })
}

/// A tensor as safetensors wants to see it. `data` cannot fail there, so what goes wrong is kept aside.
struct TensorView<'a> {
    tensor: Stored,
    kind: Kind,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    failure: &'a RefCell<Option<String>>,
}

impl TensorView<'_> {
    fn bytes(&self) -> Result<Vec<u8>> {
        let tensor = self.tensor.tensor()?.f_to_device(tch::Device::Cpu)?.f_to_kind(self.kind)?;
        let tensor = tensor.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * bytes_per_element(self.kind)];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    }
}

impl safetensors::View for TensorView<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.bytes() {
            Ok(bytes) => Cow::Owned(bytes),
            Err(error) => {
                *self.failure.borrow_mut() = Some(error.to_string());
                Cow::Borrowed(&[])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * bytes_per_element(self.kind)
    }
}
