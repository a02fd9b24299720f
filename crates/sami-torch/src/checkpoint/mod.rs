//! Checkpoints in Hugging Face's layout: reading by memory map with every tensor checked, writing in the same files, under
//! the names that transformers knows.

mod error;
mod files;
mod finite;
mod hints;
mod layout;
mod names;
mod read;
mod shard;
mod write;

pub use error::WeightsError;
pub(crate) use files::read_config;
pub(crate) use layout::Layout;
pub(crate) use read::CheckpointReader;
pub(crate) use shard::StateReader;
pub(crate) use write::{CheckpointWriter, Stored, fill_directory, save_tensors};
