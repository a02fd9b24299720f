//! Which files of a directory are its weights, and what they are where they are not safetensors.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde_json::Value;

use super::WeightsError;
use super::error::few;
use crate::config::ModelConfig;
use crate::error::{Error, Result};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The files that hold the weights.
pub(super) struct Files {
    /// Their names, sorted.
    pub(super) names: Vec<String>,
    /// The index's name, and the file that it gives for each tensor.
    pub(super) index: Option<(String, BTreeMap<String, String>)>,
    /// What the user should know about the choice.
    pub(super) remarks: Vec<String>,
}

/// Reads `dir/config.json`; where there is none because the weights are in another format, says so.
pub(crate) fn read_config(dir: &Path) -> Result<ModelConfig> {
    let fail = |source| Err(Error::Weights { path: dir.to_owned(), source });
    if dir.is_file() {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(source) = foreign(&name, dir) {
            return fail(source);
        }
    }
    if dir.is_dir()
        && !dir.join("config.json").exists()
        && let Some(source) = entries(dir)?.iter().find_map(|name| foreign(name, dir))
    {
        return fail(source);
    }
    ModelConfig::read(dir)
}

/// The choice that transformers makes: the file that `config.json` names, else `model.safetensors`, else the index. Where it
/// would find nothing: the one safetensors file under another name, or a whole set of numbered ones.
pub(super) fn choose(dir: &Path) -> Result<Files> {
    let fail = |source| Err(Error::Weights { path: dir.to_owned(), source });
    let entries = entries(dir)?;
    let has = |name: &str| dir.join(name).is_file();
    if let Some(file) = entries.iter().find(|name| is_rank_local(name)) {
        return fail(WeightsError::Foreign {
            file: file.clone(),
            what: "one process's part of a distributed checkpoint",
            advice:
                "transformers reads these before model.safetensors; open it there and save it whole with \
                     save_pretrained, or remove them"
                    .into(),
        });
    }
    if let Some(name) = named_in_config(dir)? {
        let plain = is_plain(&name) && has(&name);
        return match name {
            name if plain && name.ends_with(".safetensors.index.json") => indexed(dir, &name),
            name if plain && name.ends_with(".safetensors") => Ok(Files::of(vec![name])),
            name => fail(WeightsError::NamedFile(name)),
        };
    }
    if has(SINGLE) {
        let mut files = Files::of(vec![SINGLE.to_owned()]);
        let other = entries.iter().find(|name| *name == INDEX).or_else(|| {
            entries.iter().find(|name| name.starts_with("model-") && name.ends_with(".safetensors"))
        });
        if let Some(other) = other {
            files.remarks.push(format!(
                "{SINGLE} and {other} are two sets of weights; {SINGLE} is read, as transformers does: remove \
                 the one that is old"
            ));
        }
        return Ok(files);
    }
    if has(INDEX) {
        return indexed(dir, INDEX);
    }
    let candidates: Vec<String> = entries.iter().filter(|name| may_be_weights(name)).cloned().collect();
    match candidates.as_slice() {
        [] => {}
        [one] if numbered(one).is_none_or(|(_, _, count)| count == 1) => {
            let mut files = Files::of(candidates.clone());
            files.remarks.push(format!("the weights are read from {one}; transformers asks for {SINGLE}"));
            return Ok(files);
        }
        several if is_whole_set(several) => {
            let mut files = Files::of(candidates.clone());
            files.remarks.push(format!("the weights are read from {}, without {INDEX}", few(several)));
            return Ok(files);
        }
        several => {
            let advice = format!("there are {}; bring {INDEX}, and every file that it names", few(several));
            return fail(WeightsError::NoWeights { advice });
        }
    }
    if let Some(source) = entries.iter().find_map(|name| foreign(name, dir)) {
        return fail(source);
    }
    fail(WeightsError::NoWeights { advice: "bring the checkpoint's weights in safetensors format".into() })
}

impl Files {
    fn of(mut names: Vec<String>) -> Self {
        names.sort();
        Self { names, index: None, remarks: Vec::new() }
    }
}

/// Names of what is in `dir`, sorted.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        names.extend(entry.map_err(Error::io(dir))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// A file of the directory itself.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

/// The field with which a configuration names its weights.
fn named_in_config(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("config.json");
    let value = crate::json::read(&path)?;
    Ok(value.get("transformers_weights").and_then(Value::as_str).map(str::to_owned))
}

fn indexed(dir: &Path, name: &str) -> Result<Files> {
    let path = dir.join(name);
    let value = crate::json::read(&path)?;
    let fail = |source| Error::Weights { path: path.clone(), source };
    let map = value.get("weight_map").and_then(Value::as_object).ok_or_else(|| fail(WeightsError::Index))?;
    let mut file_of = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| fail(WeightsError::Index))?;
        if !is_plain(file) {
            let (tensor, file) = (tensor.clone(), file.to_owned());
            return Err(fail(WeightsError::ShardOutside { tensor, file }));
        }
        file_of.insert(tensor.clone(), file.to_owned());
    }
    let mut names: Vec<String> = file_of.values().cloned().collect();
    names.sort();
    names.dedup();
    Ok(Files { names, index: Some((name.to_owned(), file_of)), remarks: Vec::new() })
}

/// Safetensors that are no other part of a model's directory.
fn may_be_weights(name: &str) -> bool {
    let others = ["adapter_model", "consolidated", "trainer", "optimizer", "training_state"];
    name.ends_with(".safetensors") && !others.iter().any(|other| name.starts_with(other))
}

/// "NAME-00002-of-00005.safetensors" as its parts.
fn numbered(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, count.parse().ok()?))
}

/// All of one set of numbered files, and nothing else.
fn is_whole_set(names: &[String]) -> bool {
    let found: Option<Vec<_>> = names.iter().map(|name| numbered(name)).collect();
    let Some(mut found) = found else { return false };
    found.sort_unstable();
    let Some(&(stem, _, count)) = found.first() else { return false };
    count == names.len() && found.iter().zip(1..).all(|(file, number)| *file == (stem, number, count))
}

/// "shard-00000-model-00001-of-00002.safetensors".
fn is_rank_local(name: &str) -> bool {
    let digits = |part: &str| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    let rest = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let parts = rest.and_then(|rest| {
        let (rank, file) = rest.split_once("-model-")?;
        let (number, count) = file.split_once("-of-")?;
        Some([rank, number, count])
    });
    parts.is_some_and(|parts| parts.into_iter().all(digits))
}

/// A file that holds weights in another format: what it is, and the way to safetensors.
fn foreign(name: &str, dir: &Path) -> Option<WeightsError> {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let begins = |begins: &[&str]| begins.iter().any(|begin| name.starts_with(begin));
    let (what, advice) = if name.starts_with("consolidated.") && ends(&[".safetensors", ".pth"]) {
        (
            "weights in Meta's or Mistral's own layout",
            "take the same model in the layout of transformers (config.json, model*.safetensors)".to_owned(),
        )
    } else if ends(&[".gguf"]) {
        (
            "GGUF, llama.cpp's format",
            "take the model that it was made from, in the layout of transformers; most GGUF files are quantised"
                .to_owned(),
        )
    } else if begins(&["pytorch_model"]) && ends(&[".bin", ".bin.index.json"]) {
        let dir = dir.display();
        (
            "PyTorch's own format, which can run code when it is read",
            format!(
                "convert it: python -c \"from transformers import AutoModelForCausalLM as M; \
                 M.from_pretrained('{dir}', dtype='auto').save_pretrained('{dir}')\""
            ),
        )
    } else if ends(&[".bin", ".pt", ".pth", ".ckpt"])
        && !begins(&["training_args", "optimizer", "scheduler", "rng_state", "scaler", "adapter_model"])
    {
        (
            "PyTorch's own format, which can run code when it is read",
            "load it into the model with transformers, and save that with save_pretrained".to_owned(),
        )
    } else if ends(&[".distcp"]) {
        (
            "a part of a distributed checkpoint of PyTorch",
            "merge it (accelerate merge-weights), then name the directory that this writes".to_owned(),
        )
    } else if ends(&[".msgpack", ".h5", ".onnx", ".mlx", ".npz"]) {
        (
            "weights of another framework",
            "take the same model in safetensors, or save it with transformers' save_pretrained".to_owned(),
        )
    } else {
        return None;
    };
    Some(WeightsError::Foreign { file: name.to_owned(), what, advice })
}

/// What a file is whose name says safetensors and whose content does not.
pub(super) fn look_inside(path: &Path, bytes: &[u8]) -> Option<WeightsError> {
    let text = bytes.get(..bytes.len().min(64)).unwrap_or_default();
    let begins = |begin: &[u8]| text.trim_ascii_start().to_ascii_lowercase().starts_with(begin);
    let (what, advice) = if bytes.is_empty() {
        ("empty", "download or copy it again")
    } else if begins(b"version https://git-lfs") {
        ("a pointer of Git LFS, not the file itself", "fetch it: git lfs pull")
    } else if begins(b"<!doctype html") || begins(b"<html") {
        ("a web page", "download the file itself")
    } else if begins(b"gguf") {
        ("GGUF, llama.cpp's format", "take the model that it was made from, in the layout of transformers")
    } else if text.starts_with(b"PK\x03\x04") || text.starts_with(b"\x80\x02") {
        (
            "PyTorch's own format",
            "load it into the model with transformers, and save that with save_pretrained",
        )
    } else {
        return None;
    };
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Some(WeightsError::Foreign { file, what, advice: advice.to_owned() })
}
