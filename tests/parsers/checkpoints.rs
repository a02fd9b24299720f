//! What reads a checkpoint's files, which anybody may have written: one function for each file of the directory. The other
//! files are those of a small model.

use std::fs;
use std::path::{Path, PathBuf};

use super::entries::{Entry, says_something};
use super::readers::policy::{ChatMessage, Role};
use super::readers::torch::{
    ChatTemplate, EngineOptions, RandomCheckpoint, TorchPolicy, inspect, random_checkpoint,
};

/// All of them, as [`super::entries::ENTRIES`].
pub(crate) const CHECKPOINT_ENTRIES: [Entry; 8] = [
    ("checkpoint_config", |dir, bytes| checkpoint(dir, "config.json", bytes)),
    ("checkpoint_weights", |dir, bytes| checkpoint(dir, "model.safetensors", bytes)),
    ("checkpoint_index", |dir, bytes| checkpoint(dir, "model.safetensors.index.json", bytes)),
    ("checkpoint_generation_config", |dir, bytes| checkpoint(dir, "generation_config.json", bytes)),
    ("checkpoint_tokenizer", |dir, bytes| checkpoint(dir, "tokenizer.json", bytes)),
    ("checkpoint_tokenizer_config", |dir, bytes| chat(dir, "tokenizer_config.json", bytes)),
    ("checkpoint_chat_template", |dir, bytes| chat(dir, "chat_template.jinja", bytes)),
    ("checkpoint_adapter_config", adapter),
];

/// The smallest model there is, made once.
fn base(dir: &Path) -> PathBuf {
    let base = dir.join("base");
    if !base.join("config.json").exists() {
        let small = RandomCheckpoint {
            hidden_size: 8,
            intermediate_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            vocab_size: 260,
            max_position_embeddings: 32,
            ..RandomCheckpoint::default()
        };
        random_checkpoint(&base, &small).expect("a temporary directory");
    }
    base
}

/// The small model with one file of its own.
fn with_file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (base, own) = (base(dir), dir.join(name));
    if !own.exists() {
        fs::create_dir(&own).expect("a temporary directory");
        for entry in fs::read_dir(&base).expect("it was made") {
            let path = entry.expect("it was made").path();
            fs::copy(&path, own.join(path.file_name().expect("a file"))).expect("a temporary directory");
        }
    }
    fs::write(own.join(name), bytes).expect("a temporary file");
    own
}

fn checkpoint(dir: &Path, name: &str, bytes: &[u8]) {
    match inspect(&with_file(dir, name, bytes)) {
        Ok(summary) => assert!(summary.parameters > 0),
        Err(error) => says_something(&error.to_string()),
    }
}

/// Whatever a template says, it is rendered or refused, within bounds.
fn chat(dir: &Path, name: &str, bytes: &[u8]) {
    let own = with_file(dir, name, bytes);
    let template = match ChatTemplate::open(&own) {
        Ok(None) => return,
        Ok(Some(template)) => template,
        Err(error) => return says_something(&error.to_string()),
    };
    let turns =
        [ChatMessage::new(Role::User, "Who sweeps the stairs?"), ChatMessage::new(Role::Assistant, "I do.")];
    for (turns, open) in [(&turns[..1], true), (&turns[..], false)] {
        if let Err(error) = template.render(turns, open) {
            says_something(&error.to_string());
        }
    }
}

fn adapter(dir: &Path, bytes: &[u8]) {
    let (base, own) = (base(dir), dir.join("adapter"));
    fs::create_dir_all(&own).expect("a temporary directory");
    // The base's place is not the writer's to know.
    let text = String::from_utf8_lossy(bytes).replace("BASE", &base.to_string_lossy());
    fs::write(own.join("adapter_config.json"), text).expect("a temporary file");
    let weights = own.join("adapter_model.safetensors");
    if !weights.exists() {
        fs::copy(base.join("model.safetensors"), &weights).expect("a temporary directory");
    }
    let options = EngineOptions { check_memory: false, ..EngineOptions::default() };
    if let Err(error) = TorchPolicy::open(&own, &options) {
        says_something(&error.to_string());
    }
}
