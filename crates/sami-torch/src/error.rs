//! What can go wrong in the engine.

use std::path::{Path, PathBuf};

use tch::TchError;
use thiserror::Error;

/// Everything `sami-torch` reports. Messages name the file, tensor or field, and what to do next.
#[derive(Debug, Error)]
pub enum Error {
    /// An adapter that cannot be used.
    #[error("{}: field \"{field}\": {reason}", path.display())]
    Adapter {
        /// The adapter's configuration.
        path: PathBuf,
        /// Its field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A KL term without a model to measure against.
    #[error(
        "the loss has a KL term, but no reference is kept; open the policy with a reference, or train with beta = 0"
    )]
    NoReference,
    /// A reference of another shape.
    #[error("{}: the reference's tensors differ from the policy's in name or shape; use the base that training started from", dir.display())]
    Reference {
        /// The reference's directory.
        dir: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A JSON file is not JSON.
    #[error("{path}: not valid JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// `config.json` describes something this engine does not compute, or contradicts itself.
    #[error("{path}: {source}")]
    Config {
        /// The `config.json`.
        path: PathBuf,
        /// The field and what is wrong with it.
        source: crate::config::ConfigError,
    },
    /// The weights on disk are damaged or do not fit the configuration.
    #[error("{path}: {source}")]
    Weights {
        /// The file or directory.
        path: PathBuf,
        /// The tensor and what is wrong with it.
        source: crate::checkpoint::WeightsError,
    },
    /// `tokenizer.json` cannot be used.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizer library says, or which token is missing.
        reason: String,
    },
    /// A conversation could not be written down.
    #[error("{path}: {source}")]
    Chat {
        /// The file that the chat template stands in, or the checkpoint.
        path: PathBuf,
        /// What is wrong with the template or with the conversation.
        source: crate::chat::ChatError,
    },
    /// Text could not be tokenised or decoded.
    #[error("tokenising {what}: {reason}")]
    Tokenise {
        /// Which text.
        what: String,
        /// What the tokenizer library says.
        reason: String,
    },
    /// A prompt or response without any token.
    #[error("{what} has no tokens; there is nothing to condition on or to score")]
    NoTokens {
        /// Which text.
        what: String,
    },
    /// A token id that the model has no embedding for.
    #[error("{what}: token id {id} is outside the model's vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// Which text.
        what: String,
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A prompt with its response is longer than the positions that the model knows.
    #[error(
        "{what} is {tokens} tokens long, but the model was made for {limit} (max_position_embeddings); shorten the \
         prompt or lower max_new_tokens"
    )]
    TooLong {
        /// Which text.
        what: String,
        /// Its length.
        tokens: usize,
        /// The model's.
        limit: usize,
    },
    /// A log-probability or gradient is NaN or infinite.
    #[error(
        "{what} is not finite; lower the learning rate, or look for NaN in the checkpoint and overflow in f16/bf16"
    )]
    NonFinite {
        /// Which set, response or parameter.
        what: String,
    },
    /// The objective refused the matrix.
    #[error(transparent)]
    Objective(#[from] sami_core::Error),
    /// A gradient matrix of the wrong shape came back from the objective.
    #[error(
        "the gradient for set {id} is {got:?}, but its log-probabilities are {expected:?} (constitutions × responses)"
    )]
    GradientShape {
        /// The set's id.
        id: String,
        /// Rows and columns that came.
        got: (usize, usize),
        /// Rows and columns that were expected.
        expected: (usize, usize),
    },
    /// A device that this machine, or this LibTorch, does not have.
    #[error("device {device}: {reason}")]
    Device {
        /// What was asked for.
        device: String,
        /// Why it is not to be had, and what to do.
        reason: String,
    },
    /// The work would not fit into memory.
    #[error("{}", plan.refusal())]
    Memory {
        /// What it would take, and what would fit.
        plan: Box<crate::plan::MemoryPlan>,
    },
    /// An option that cannot be used with the others.
    #[error("{option}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Why not, and what to do.
        reason: String,
    },
    /// The system refused threads.
    #[error("{threads} threads could not be started: {reason}; ask for fewer")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system says.
        reason: String,
    },
    /// LibTorch refused an operation (out of memory, most often).
    #[error("LibTorch: {0}")]
    LibTorch(#[from] TchError),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
