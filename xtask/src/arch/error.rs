//! Failures of the checks.

use std::{io, path::PathBuf};

use crate::repo::RepoError;

/// The architecture is violated, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchError {
    #[error(
        "{count} violation(s) of the architecture, listed above; ARCHITECTURE.md says why each rule is there"
    )]
    Violations { count: usize },
    #[error(transparent)]
    Command(#[from] RepoError),
    #[error("`{command}` failed: {message}")]
    Output { command: String, message: String },
    #[error("`cargo metadata` printed what this cargo xtask does not understand")]
    Metadata(#[from] serde_json::Error),
    #[error("reading {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not valid TOML")]
    Toml { path: PathBuf, source: toml::de::Error },
}
