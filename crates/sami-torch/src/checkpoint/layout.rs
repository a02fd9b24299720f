//! Which tensors lie in which file.

use std::collections::BTreeMap;

use super::files::SINGLE;

/// Which tensors are written into which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// File name → tensor names.
    pub(crate) shards: BTreeMap<String, Vec<String>>,
    /// Whether an index file goes with them.
    pub(crate) indexed: bool,
}

impl Layout {
    /// The layout of what was read, under names that transformers finds: without an index the one file is `model.safetensors`,
    /// and several files always have one.
    pub(super) fn of(shards: BTreeMap<String, Vec<String>>, indexed: bool) -> Self {
        let indexed = indexed || shards.len() > 1;
        if indexed {
            return Self { shards, indexed };
        }
        let shards = shards.into_values().map(|names| (SINGLE.to_owned(), names)).collect();
        Self { shards, indexed }
    }

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
