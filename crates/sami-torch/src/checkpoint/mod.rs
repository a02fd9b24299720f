//! Checkpoints in Hugging Face's layout: reading by memory map with every tensor checked, writing back as they came.

mod read;
mod write;

use thiserror::Error;

pub(crate) use read::{CheckpointReader, Layout, StateReader};
pub(crate) use write::{CheckpointWriter, Stored, fill_directory, save_tensors};

/// What is wrong with the weights on disk.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// Neither `model.safetensors` nor an index.
    #[error(
        "there is no model.safetensors and no model.safetensors.index.json here; convert the checkpoint to safetensors"
    )]
    NoWeights,
    /// The safetensors header is damaged, or lies about the file.
    #[error("not a whole safetensors file ({0}); download or copy it again")]
    Header(safetensors::SafeTensorError),
    /// The index is not a map from tensors to files.
    #[error("\"weight_map\" must map tensor names to file names")]
    Index,
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
    /// Tensors that the configuration needs and the files lack, and the other way round.
    #[error("the tensors do not fit config.json: missing {missing:?}, unexpected {unexpected:?}")]
    Names {
        /// Needed, not there.
        missing: Vec<String>,
        /// There, not known.
        unexpected: Vec<String>,
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
    /// A tensor's dtype is not a float that this engine reads.
    #[error("tensor {tensor} is {dtype}; weights must be F32, BF16 or F16")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// In the file.
        dtype: String,
    },
    /// A tensor of the trainer's state that should be there.
    #[error("the training state lacks {0}; it belongs to another model or optimizer")]
    State(String),
}
