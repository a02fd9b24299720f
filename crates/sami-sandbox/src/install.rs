//! The world as files, for recipes: whoever depends on this crate has no clone to point at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::quality::Kind;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../", $name)).as_slice())),*]
    };
}

/// Everything that a recipe may name, as in the repository.
const FILES: [(&str, &[u8]); 12] = files![
    "model/config.json",
    "model/generation_config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "data/dialogue.jsonl",
    "data/dialogue-task.toml",
    "data/helpful-harmless.toml",
    "data/four-principles.toml",
    "data/posts.json",
    "data/summaries-task.toml",
    "data/concise-comprehensive.toml",
];

/// Where the world's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    root: PathBuf,
}

/// Writes the base model (a Hugging Face directory), queries, principles and prompts below `dir`. What is there already is
/// written anew.
///
/// # Errors
///
/// What the system refuses.
pub fn install(dir: &Path) -> io::Result<Installed> {
    for part in ["model", "data"] {
        fs::create_dir_all(dir.join(part))?;
    }
    for (name, bytes) in FILES {
        fs::write(dir.join(name), bytes)?;
    }
    Ok(Installed { root: dir.to_owned() })
}

impl Installed {
    /// The base model: `[model] base` of a recipe.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// The queries to train on, in HH-RLHF's format or that of the paper's TL;DR files: `[data] files`.
    pub fn queries(&self, kind: Kind) -> PathBuf {
        self.data(kind, "dialogue.jsonl", "posts.json")
    }

    /// The main principles: `[constitutions] principles`.
    pub fn principles(&self, kind: Kind) -> PathBuf {
        self.data(kind, "helpful-harmless.toml", "concise-comprehensive.toml")
    }

    /// The prompts: `[task] file`.
    pub fn task(&self, kind: Kind) -> PathBuf {
        self.data(kind, "dialogue-task.toml", "summaries-task.toml")
    }

    fn data(&self, kind: Kind, dialogue: &str, summaries: &str) -> PathBuf {
        let name = match kind {
            Kind::Dialogue => dialogue,
            Kind::Summaries => summaries,
        };
        self.root.join("data").join(name)
    }
}
