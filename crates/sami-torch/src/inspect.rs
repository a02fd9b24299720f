//! What a checkpoint is, without loading it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::{CheckpointReader, read_config};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::lora::AdapterFiles;
use crate::tokenizer::{StopToken, Tokenizer};

/// What [`inspect`] found; everything in it has been checked.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointSummary {
    /// The directory.
    pub path: PathBuf,
    /// Where it is an adapter: what it changes. All else is said of its base.
    pub adapter: Option<AdapterSummary>,
    /// The checked configuration.
    pub config: ModelConfig,
    /// Number of parameters; a tied head counts once.
    pub parameters: usize,
    /// Weight files.
    pub shards: Vec<String>,
    /// Their bytes.
    pub bytes: usize,
    /// Tokens that the tokenizer knows.
    pub tokens: usize,
    /// The tokens that end a text.
    pub stop_tokens: Vec<StopToken>,
    /// The file that holds the chat template; none for a base model.
    pub chat_template: Option<PathBuf>,
    /// What is unusual about the weight files, and how they are read.
    pub remarks: Vec<String>,
}

/// What an adapter changes.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterSummary {
    /// The directory of its base.
    pub base: PathBuf,
    /// Modules with a low-rank update.
    pub low_rank: Vec<String>,
    /// Tensors that take the place of the base's.
    pub whole: Vec<String>,
}

/// Checks configuration, every tensor's name, shape and dtype, and the tokenizer.
pub fn inspect(dir: &Path) -> Result<CheckpointSummary> {
    let files = AdapterFiles::open(dir)?;
    let base = files.as_ref().map_or(Ok(dir.to_owned()), AdapterFiles::base)?;
    let reader = CheckpointReader::open(&base, &read_config(&base)?)?;
    let config = reader.config().clone();
    let tokenizer = Tokenizer::open(&base)?;
    let adapter = files.map(|files| adapter(&files, base, &config)).transpose()?;
    let chat_template = tokenizer.chat_template().map(|template| template.path().to_owned());
    Ok(CheckpointSummary {
        path: dir.to_owned(),
        adapter,
        parameters: config.parameters(),
        shards: reader.files(),
        bytes: reader.bytes(),
        tokens: tokenizer.vocab_size(),
        stop_tokens: tokenizer.stop_tokens().to_vec(),
        chat_template,
        remarks: reader.remarks().to_vec(),
        config,
    })
}

fn adapter(files: &AdapterFiles, base: PathBuf, config: &ModelConfig) -> Result<AdapterSummary> {
    let adapters = files.on(config, 0)?;
    files.load(&adapters, config)?;
    let low_rank = adapters.modules().map(|(name, ..)| name.to_owned()).collect();
    let whole = adapters.whole().map(str::to_owned).collect();
    Ok(AdapterSummary { base, low_rank, whole })
}

impl fmt::Display for CheckpointSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let gib = self.bytes as f64 / f64::from(1 << 30);
        match &self.adapter {
            None => writeln!(f, "checkpoint      {}", self.path.display())?,
            Some(AdapterSummary { base, low_rank, whole }) => {
                writeln!(f, "adapter         {}", self.path.display())?;
                writeln!(
                    f,
                    "changes         {} modules by low rank, {} tensors whole",
                    low_rank.len(),
                    whole.len()
                )?;
                writeln!(f, "base            {}", base.display())?;
            }
        }
        writeln!(f, "architecture    {}", config.architecture)?;
        writeln!(f, "parameters      {:.3} million", self.parameters as f64 / 1e6)?;
        writeln!(
            f,
            "shape           {} layers, width {}, {} heads of {} ({} key/value), MLP {}, vocabulary {}",
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.head_dim,
            config.num_key_value_heads,
            config.intermediate_size,
            config.vocab_size
        )?;
        writeln!(f, "positions       {}", config.longest_sequence())?;
        writeln!(f, "rope            {}", rope(config))?;
        writeln!(f, "attention       {}", attention(&config.windows))?;
        writeln!(
            f,
            "head            {}",
            if config.tie_word_embeddings { "tied to the embedding" } else { "its own" }
        )?;
        writeln!(f, "weights         {gib:.3} GiB in {} file(s)", self.shards.len())?;
        writeln!(f, "tokenizer       {} tokens", self.tokens)?;
        if self.stop_tokens.is_empty() {
            writeln!(f, "ends a text     no token: texts run to their limit")?;
        }
        for StopToken { id, text, named_by } in &self.stop_tokens {
            let text = text.as_deref().unwrap_or("(no text)");
            writeln!(f, "ends a text     {text} ({id}), named by {}", named_by.join(", "))?;
        }
        match &self.chat_template {
            Some(path) => write!(f, "chat template   {}", path.display())?,
            None => write!(f, "chat template   none (a base model)")?,
        }
        let notes = config.notes.iter().chain(&config.training_notes).chain(&self.remarks);
        notes.into_iter().try_for_each(|note| write!(f, "\nnote            {note}"))
    }
}

/// θ, the kind, and the kind's own numbers.
fn rope(config: &ModelConfig) -> String {
    let mut text = format!("theta {}", config.rope_theta);
    let scaling = &config.rope_scaling;
    let Ok(Value::Object(scaling)) = serde_json::to_value(scaling) else { return text };
    let kind = scaling.get("rope_type").and_then(Value::as_str).filter(|&kind| kind != "default");
    if let Some(kind) = kind {
        text.push_str(&format!(", {kind}"));
        let numbers = scaling.iter().filter(|(name, _)| *name != "rope_type");
        text.extend(numbers.map(|(name, value)| format!(", {name} {value}")));
    }
    text
}

/// How far the layers see. Layers count from 0, as in the names of tensors.
fn attention(windows: &[Option<usize>]) -> String {
    let Some(window) = windows.iter().flatten().next() else { return "all earlier tokens".into() };
    if windows.iter().all(Option::is_some) {
        return format!("window of {window} tokens");
    }
    let (last, mut runs) = (windows.len(), Vec::new());
    let mut layer = 0;
    while layer < last {
        let end = (layer..last).find(|&at| windows[at].is_none()).unwrap_or(last);
        match end - layer {
            0 => {}
            1 => runs.push(layer.to_string()),
            _ => runs.push(format!("{layer}-{}", end - 1)),
        }
        layer = end + 1;
    }
    format!(
        "window of {window} tokens in layers {} of {last}, all earlier tokens in the others",
        runs.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_with_a_window_are_listed() {
        let all = Some(16);
        for (windows, expected) in [
            (vec![None, None], "all earlier tokens"),
            (vec![all, all], "window of 16 tokens"),
            (
                vec![None, all, all, None, all],
                "window of 16 tokens in layers 1-2, 4 of 5, all earlier tokens in the others",
            ),
        ] {
            assert_eq!(attention(&windows), expected);
        }
    }
}
