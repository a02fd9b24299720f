//! Where a run came from.

use sami_data::FileReport;
use serde::{Deserialize, Serialize};

/// Where a run came from: written into the run's own copy of its recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provenance {
    /// Version of this crate.
    pub sami: String,
    /// Operating system and processor family.
    pub machine: String,
    /// Threads that the system offers.
    pub threads: usize,
    /// What the caller knows beyond that.
    pub origin: Origin,
    /// What was read from each data file, with its hash.
    pub data: Vec<FileReport>,
    /// Digests of what else was read: the principles, the task, the base model's files.
    pub inputs: Vec<FileDigest>,
}

/// What the program that runs a recipe knows about itself and its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Origin {
    /// Its name and version.
    pub program: String,
    /// The git revision that it was built from; empty where unknown.
    pub revision: String,
    /// Versions of what it computes with, for example LibTorch's.
    pub libraries: Vec<String>,
    /// Processor, memory, graphics processors.
    pub hardware: Vec<String>,
}

/// A file by its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Where it was.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits, of the size and of the whole file, or, where that is larger than 64 MiB, of its first
    /// and last 32 MiB: the weights of a large model would take longer to read than to run.
    pub digest: String,
}
