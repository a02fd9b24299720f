//! Reading: shards by memory map, headers checked, tensors copied once into LibTorch's own storage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::error::few;
use super::files::{Files, choose};
use super::finite::Range;
use super::hints::hint;
use super::names::{Named, Part, fused, named};
use super::shard::{Shard, View};
use super::{Layout, WeightsError};
use crate::config::ModelConfig;
use crate::error::{Error, Result};

const EMBED: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// An opened checkpoint whose tensors are known to fit its configuration.
pub(crate) struct CheckpointReader {
    config: ModelConfig,
    shards: BTreeMap<String, Shard>,
    /// Every tensor of the model, by the model's name.
    sources: BTreeMap<String, Source>,
    indexed: bool,
    remarks: Vec<String>,
}

/// A tensor in a file.
#[derive(Clone)]
struct Found {
    file: String,
    /// Its name there.
    name: String,
}

/// Where a tensor of the model lies.
struct Source {
    found: Found,
    part: Option<Part>,
}

impl CheckpointReader {
    /// Opens every shard of `dir` and checks names, shapes and dtypes against `config`. Reads no tensor data yet, but for a head
    /// beside the embedding that it should be tied to.
    pub(crate) fn open(dir: &Path, config: &ModelConfig) -> Result<Self> {
        let files = choose(dir)?;
        let mut shards = BTreeMap::new();
        for file in &files.names {
            shards.insert(file.clone(), Shard::open(&dir.join(file))?);
        }
        check_index(dir, &files, &shards)?;
        let mut remarks = files.remarks;
        let mut contents = Contents::of(&shards, config, dir)?;
        let mut config = config.clone();
        if config.tie_word_embeddings {
            config.tie_word_embeddings = contents.resolve_tied(&shards)?;
            if !config.tie_word_embeddings {
                remarks.push(format!(
                    "config.json ties the head to the embedding, but {HEAD} is another tensor; it is used as \
                     the head, as transformers does: say \"tie_word_embeddings\": false"
                ));
            }
        }
        let sources = contents.sources(&config, dir)?;
        if !contents.other_heads.is_empty() {
            let names = few(&contents.other_heads);
            remarks.push(format!("left out, since a language model has no such head: {names}"));
        }
        let reader = Self { config, shards, sources, indexed: files.index.is_some(), remarks };
        reader.with_checked_shapes()
    }

    /// The configuration, with the head tied or not as the files have it.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the user should know about these files.
    pub(crate) fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The files, by name.
    pub(crate) fn files(&self) -> Vec<String> {
        self.shards.keys().cloned().collect()
    }

    /// How to save it in the same way.
    pub(crate) fn layout(&self) -> Layout {
        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, source) in &self.sources {
            shards.entry(source.found.file.clone()).or_default().push(name.clone());
        }
        Layout::of(shards, self.indexed)
    }

    /// Bytes of all shard files.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.values().map(Shard::len).sum()
    }

    /// A tensor in the dtype of its file, copied out of the map; every number in it is one that a model can have.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::Weights {
            path: PathBuf::from(name),
            source: WeightsError::Names {
                missing: vec![name.to_owned()],
                unexpected: Vec::new(),
                hint: String::new(),
            },
        };
        let (source, shard) = self
            .sources
            .get(name)
            .and_then(|source| Some((source, self.shards.get(&source.found.file)?)))
            .ok_or_else(missing)?;
        let view = source.view(shard)?;
        shard.copy(&source.found.name, &view, Range::Weights)
    }

    /// Shapes and dtypes of everything that will be read.
    fn with_checked_shapes(mut self) -> Result<Self> {
        let mut wide = Vec::new();
        for (name, expected) in self.config.tensors() {
            let Some(source) = self.sources.get(&name) else { continue };
            let Some(shard) = self.shards.get(&source.found.file) else { continue };
            let fail = |source| Err(Error::Weights { path: shard.path().to_owned(), source });
            let view = match shard.view(&source.found.name) {
                Ok(View { kind: Kind::Int64, .. }) => {
                    return fail(WeightsError::Dtype { tensor: name, dtype: "I64".into() });
                }
                Ok(view) => view,
                Err(source) => return fail(source),
            };
            let expected = source.part.as_ref().map_or(expected, |part| part.shape.clone());
            if view.shape != expected {
                let tensor = source.found.name.clone();
                return fail(WeightsError::Shape { tensor, got: view.shape, expected });
            }
            if view.kind == Kind::Double {
                wide.push(name);
            }
        }
        if !wide.is_empty() {
            self.remarks.push(format!(
                "{} tensors are F64 ({}); they are rounded to f32",
                wide.len(),
                few(&wide)
            ));
        }
        Ok(self)
    }
}

impl Source {
    fn view<'a>(&self, shard: &'a Shard) -> Result<View<'a>> {
        let fail = |source| Error::Weights { path: shard.path().to_owned(), source };
        let view = shard.view(&self.found.name).map_err(fail)?;
        let Some(part) = &self.part else { return Ok(view) };
        let size = view.bytes.len() / part.count;
        let bytes = view.bytes.get(part.index * size..(part.index + 1) * size).unwrap_or_default();
        // [experts, rows, columns] in `count` parts: all columns, and as many rows as that leaves.
        let (rows, columns) = (view.shape.iter().rev().skip(1).product::<i64>(), view.shape.last().copied());
        let shape = vec![rows / part.count as i64, columns.unwrap_or(1)];
        Ok(View { kind: view.kind, shape, bytes })
    }
}

/// What the shards hold, by the model's names.
struct Contents {
    found: BTreeMap<String, Found>,
    other_heads: Vec<String>,
}

impl Contents {
    fn of(shards: &BTreeMap<String, Shard>, config: &ModelConfig, dir: &Path) -> Result<Self> {
        let mut contents = Self { found: BTreeMap::new(), other_heads: Vec::new() };
        for (file, shard) in shards {
            for name in shard.names() {
                let tensor = match named(&name, config) {
                    Named::Tensor(tensor) => tensor,
                    Named::OtherHead => {
                        contents.other_heads.push(name);
                        continue;
                    }
                    Named::RotaryBuffer => continue,
                };
                let found = Found { file: file.clone(), name };
                if let Some(other) = contents.found.insert(tensor.clone(), found.clone()) {
                    let said = |found: &Found| format!("{} in {}", found.name, found.file);
                    let (first, second) = (said(&other), said(&found));
                    let source = WeightsError::Twice { tensor, first, second };
                    return Err(Error::Weights { path: dir.to_owned(), source });
                }
            }
        }
        contents.other_heads.sort();
        Ok(contents)
    }

    /// For a configuration that ties the head to the embedding: whether the files do. As in transformers, two tensors with the
    /// same numbers are one, two different ones are kept apart, and a head alone serves as both.
    fn resolve_tied(&mut self, shards: &BTreeMap<String, Shard>) -> Result<bool> {
        match (self.found.get(EMBED), self.found.get(HEAD)) {
            (Some(embed), Some(head)) => {
                let same = are_equal(embed, head, shards)?;
                if same {
                    self.found.remove(HEAD);
                }
                Ok(same)
            }
            (None, Some(_)) => {
                let head = self.found.remove(HEAD);
                self.found.extend(head.map(|head| (EMBED.to_owned(), head)));
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// A place for every tensor of the model; refuses what is missing and what is left over.
    fn sources(&self, config: &ModelConfig, dir: &Path) -> Result<BTreeMap<String, Source>> {
        let (mut sources, mut used, mut missing) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for (name, _) in config.tensors() {
            let part = fused(&name, config).filter(|part| self.found.contains_key(&part.whole));
            let at = part.as_ref().map_or(&name, |part| &part.whole);
            match self.found.get(at) {
                Some(found) => {
                    used.insert(at.clone());
                    sources.insert(name, Source { found: found.clone(), part });
                }
                None => missing.push(name),
            }
        }
        let left = self.found.iter().filter(|(name, _)| !used.contains(*name));
        let unexpected: Vec<String> = left.map(|(_, found)| found.name.clone()).collect();
        let source = match (missing.as_slice(), unexpected.is_empty()) {
            ([], true) => return Ok(sources),
            ([name], true) if name == HEAD => WeightsError::NoHead {
                advice: match self.other_heads.is_empty() {
                    true => {
                        "if the embedding is the head, say \"tie_word_embeddings\": true; else bring the \
                         missing tensor"
                    }
                    false => "a reward or value model has another head instead: take a language model",
                },
            },
            _ => {
                let hint = hint(&missing, &unexpected, config);
                WeightsError::Names { missing, unexpected, hint }
            }
        };
        Err(Error::Weights { path: dir.to_owned(), source })
    }
}

/// Every tensor is in the file that the index gives for it.
fn check_index(dir: &Path, files: &Files, shards: &BTreeMap<String, Shard>) -> Result<()> {
    let Some((index, file_of)) = &files.index else { return Ok(()) };
    let absent = file_of.iter().find(|(tensor, file)| !shards.get(*file).is_some_and(|s| s.holds(tensor)));
    match absent {
        Some((tensor, file)) => Err(Error::Weights {
            path: dir.join(index),
            source: WeightsError::NotInShard { tensor: tensor.clone(), file: file.clone() },
        }),
        None => Ok(()),
    }
}

/// Whether two tensors have one shape and the same numbers.
fn are_equal(one: &Found, other: &Found, shards: &BTreeMap<String, Shard>) -> Result<bool> {
    let tensor = |found: &Found| {
        shards.get(&found.file).map_or_else(
            || Ok(None),
            |shard| {
                let view = shard
                    .view(&found.name)
                    .map_err(|source| Error::Weights { path: shard.path().to_owned(), source })?;
                Ok::<_, Error>(Some((shard, view)))
            },
        )
    };
    let (Some((shard, view)), Some((other_shard, other_view))) = (tensor(one)?, tensor(other)?) else {
        return Ok(false);
    };
    if view.shape != other_view.shape {
        return Ok(false);
    }
    if view.kind == other_view.kind && view.bytes == other_view.bytes {
        return Ok(true);
    }
    let wide = |shard: &Shard, found: &Found, view: &View<'_>| {
        Ok::<_, Error>(shard.copy(&found.name, view, Range::Weights)?.f_to_kind(Kind::Float)?)
    };
    Ok(wide(shard, one, &view)?.f_equal(&wide(other_shard, other, &other_view)?)?)
}
