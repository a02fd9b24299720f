//! What ended a command, as one message and an exit code.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use sami_driver::{Blame, DriverError};
use thiserror::Error as ThisError;

/// Why a command ended early.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Engine(#[from] sami_torch::Error),
    #[error(transparent)]
    Data(#[from] sami_data::DataError),
    #[error(transparent)]
    Constitution(#[from] sami_constitution::Error),
    #[error(transparent)]
    Sampling(#[from] sami_policy::SamplingParamsError),
    #[error("{path}, line {line}: {reason}")]
    Line { path: PathBuf, line: usize, reason: String },
    #[error("{argument}: {reason}")]
    Argument { argument: &'static str, reason: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("writing the result: {0}")]
    Result(#[source] serde_json::Error),
    #[error("interrupted; nothing was written")]
    Interrupted,
}

impl Failure {
    /// The message with its causes, each said once.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }

    /// 2 where the input is to blame, 1 where something failed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        use sami_torch::Error as Engine;
        let input = match self {
            Self::Driver(error) => error.blame() == Blame::Input,
            Self::Engine(error) => !matches!(error, Engine::LibTorch(_) | Engine::NonFinite { .. }),
            Self::Data(_) | Self::Constitution(_) | Self::Sampling(_) => true,
            Self::Line { .. } | Self::Argument { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Result(_) | Self::Interrupted => false,
        };
        ExitCode::from(if input { 2 } else { 1 })
    }
}
