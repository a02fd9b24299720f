//! What a checkpoint is, without loading it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::chat::ChatTemplate;
use crate::checkpoint::{CheckpointReader, read_config};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// What [`inspect`] found; everything in it has been checked.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointSummary {
    /// The directory.
    pub path: PathBuf,
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
    /// End-of-sequence ids.
    pub eos: Vec<u32>,
    /// The file that holds the chat template; none for a base model.
    pub chat_template: Option<PathBuf>,
    /// What is unusual about the weight files, and how they are read.
    pub remarks: Vec<String>,
}

/// Checks configuration, every tensor's name, shape and dtype, and the tokenizer.
pub fn inspect(dir: &Path) -> Result<CheckpointSummary> {
    let reader = CheckpointReader::open(dir, &read_config(dir)?)?;
    let config = reader.config().clone();
    let tokenizer = Tokenizer::open(dir)?;
    let chat_template = ChatTemplate::open(dir)?.map(|template| template.path().to_owned());
    Ok(CheckpointSummary {
        path: dir.to_owned(),
        parameters: config.parameters(),
        shards: reader.files(),
        bytes: reader.bytes(),
        tokens: tokenizer.vocab_size(),
        eos: tokenizer.eos().to_vec(),
        chat_template,
        remarks: reader.remarks().to_vec(),
        config,
    })
}

impl fmt::Display for CheckpointSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let gib = self.bytes as f64 / f64::from(1 << 30);
        writeln!(f, "checkpoint      {}", self.path.display())?;
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
        writeln!(f, "positions       {}", config.max_position_embeddings)?;
        match config.windows.iter().flatten().next() {
            Some(window) => writeln!(f, "attention       window of {window} tokens")?,
            None => writeln!(f, "attention       all earlier tokens")?,
        }
        writeln!(
            f,
            "head            {}",
            if config.tie_word_embeddings { "tied to the embedding" } else { "its own" }
        )?;
        writeln!(f, "weights         {gib:.3} GiB in {} file(s)", self.shards.len())?;
        writeln!(f, "tokenizer       {} tokens, end of sequence {:?}", self.tokens, self.eos)?;
        match &self.chat_template {
            Some(path) => write!(f, "chat template   {}", path.display())?,
            None => write!(f, "chat template   none (a base model)")?,
        }
        self.remarks.iter().try_for_each(|remark| write!(f, "\nnote            {remark}"))
    }
}
