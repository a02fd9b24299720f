//! What is wrong with weights on disk.

use thiserror::Error;

/// What is wrong with the weights on disk.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// No file that could hold weights.
    #[error("there is no model.safetensors and no model.safetensors.index.json here; {advice}")]
    NoWeights {
        /// What is here instead, and what to do.
        advice: String,
    },
    /// Weights in another format.
    #[error("{file} is {what}; {advice}")]
    Foreign {
        /// The file.
        file: String,
        /// The format.
        what: &'static str,
        /// How to come by safetensors.
        advice: String,
    },
    /// The safetensors header is damaged, or lies about the file.
    #[error("not a whole safetensors file ({0}); download or copy it again")]
    Header(safetensors::SafeTensorError),
    /// The index is not a map from tensors to files.
    #[error("\"weight_map\" must map tensor names to file names")]
    Index,
    /// `config.json` names weights that cannot be read.
    #[error(
        "field \"transformers_weights\" is \"{0}\"; expected a .safetensors file of this directory, or a \
         .safetensors.index.json"
    )]
    NamedFile(String),
    /// The index names a file outside the checkpoint.
    #[error("the index puts tensor {tensor} into \"{file}\"; a shard must be a file of this directory")]
    ShardOutside {
        /// The tensor.
        tensor: String,
        /// What the index says.
        file: String,
    },
    /// The index promises a tensor that its file does not hold.
    #[error("the index puts tensor {tensor} into {file}, which does not hold it")]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    },
    /// Two tensors for one place in the model.
    #[error(
        "{first} and {second} are both tensor {tensor} of the model; remove the one that does not belong to it"
    )]
    Twice {
        /// The model's name for it.
        tensor: String,
        /// Name and file of one of them.
        first: String,
        /// Name and file of the other.
        second: String,
    },
    /// Tensors that the configuration needs and the files lack, and the other way round.
    #[error("the tensors do not fit config.json: {}", misfit(missing, unexpected, hint))]
    Names {
        /// Needed, not there.
        missing: Vec<String>,
        /// There, not known.
        unexpected: Vec<String>,
        /// What the names look like; may be empty.
        hint: String,
    },
    /// An untied model without a head of its own.
    #[error("there is no lm_head.weight, and config.json does not tie the head to the embedding; {advice}")]
    NoHead {
        /// What to do.
        advice: &'static str,
    },
    /// A tensor's shape is not what the configuration says.
    #[error("tensor {tensor} has shape {got:?}, but config.json says {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// In the file.
        got: Vec<i64>,
        /// By the configuration.
        expected: Vec<i64>,
    },
    /// A tensor of the trainer's state is not as large as the parameter that it belongs to.
    #[error(
        "tensor {tensor} has shape {got:?}, but what is trained here needs {expected:?}; the training state \
         belongs to another model or optimizer"
    )]
    StateShape {
        /// The tensor.
        tensor: String,
        /// In the file.
        got: Vec<i64>,
        /// By the model.
        expected: Vec<i64>,
    },
    /// A tensor's dtype is not a float that this engine reads.
    #[error("tensor {tensor} is {dtype}; weights must be F32, BF16, F16 or F64")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// In the file.
        dtype: String,
    },
    /// NaN or an infinity.
    #[error(
        "tensor {tensor} holds {value} at {index:?} ({count} of its {numel} numbers are not finite); the file is \
         damaged, or was saved after a training that diverged: download it again, or take an earlier checkpoint"
    )]
    NotFinite {
        /// The tensor, by its name in the file.
        tensor: String,
        /// Where the first one stands.
        index: Vec<i64>,
        /// What stands there.
        value: f64,
        /// How many there are.
        count: i64,
        /// Numbers in the tensor.
        numel: usize,
    },
    /// A weight that no trained model has.
    #[error(
        "tensor {tensor} holds {value:.3e} at {index:?}; no weight of a trained model is beyond ±{limit} (the \
         largest number of f16): the file is damaged, or was saved after a training that diverged: download it \
         again, or take an earlier checkpoint"
    )]
    TooLarge {
        /// The tensor, by its name in the file.
        tensor: String,
        /// Where the largest one stands.
        index: Vec<i64>,
        /// What stands there.
        value: f64,
        /// What is allowed.
        limit: f64,
    },
    /// A tensor of the trainer's state that should be there.
    #[error("the training state lacks {0}; it belongs to another model or optimizer")]
    State(String),
    /// A tensor of the trainer's state that belongs to nothing.
    #[error(
        "the training state holds {0}, which nothing here needs; it belongs to another model or optimizer"
    )]
    StateUnknown(String),
}

/// "2 are missing (a, b); 301 are not known (a, b, c and 298 more); hint".
fn misfit(missing: &[String], unexpected: &[String], hint: &str) -> String {
    let mut parts = Vec::new();
    for (names, what) in [(missing, "missing"), (unexpected, "not known")] {
        if !names.is_empty() {
            let verb = if names.len() == 1 { "is" } else { "are" };
            parts.push(format!("{} {verb} {what} ({})", names.len(), few(names)));
        }
    }
    if !hint.is_empty() {
        parts.push(hint.to_owned());
    }
    parts.join("; ")
}

/// At most three names, and how many more there are.
pub(super) fn few(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(3) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
