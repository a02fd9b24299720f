//! What ended a command, as one message and an exit code.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use sami_data::{DataError, NotFinite};
use sami_driver::{Blame, DriverError};
use thiserror::Error as ThisError;

use crate::hub::HubError;

/// Why a command ended early.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Engine(#[from] sami_torch::Error),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Eval(#[from] sami_eval::Error),
    #[error(transparent)]
    Constitution(#[from] sami_constitution::Error),
    #[error(transparent)]
    Remote(#[from] sami_remote::RemoteError),
    #[error("{0}")]
    NoPrinciples(String),
    #[error(transparent)]
    Sampling(#[from] sami_policy::SamplingParamsError),
    #[error("the recipe cannot be written as TOML: {0}")]
    Recipe(#[source] sami_driver::recipe::RenderError),
    #[error(
        "model.gpus is {gpus}, and training over several GPUs is not there yet{}; --set model.gpus=1 tries one GPU, for example \
         with --set training.lora.rank=16",
        on_one(.plan)
    )]
    SeveralGpus { gpus: usize, plan: Option<u64> },
    #[error("{argument}: {reason}")]
    Argument { argument: &'static str, reason: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("writing the result: {0}")]
    Result(#[source] serde_json::Error),
    #[error("the result cannot be written as JSON: {0}")]
    NotFinite(#[from] NotFinite),
    #[error("interrupted; nothing was written")]
    Interrupted,
    #[error("interrupted; what is finished is kept, and the same command goes on from there")]
    Paused,
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
        let input = match self {
            Self::Driver(DriverError::Policy { source, .. }) => {
                source.downcast_ref::<sami_torch::Error>().is_some_and(engine_blames_input)
                    || source.downcast_ref::<sami_remote::RemoteError>().is_some_and(server_blames_input)
            }
            Self::Driver(error) => error.blame() == Blame::Input,
            Self::Engine(error) => engine_blames_input(error),
            Self::Eval(error) => error.blames_input(),
            Self::Data(error) => !matches!(error, DataError::NotFinite { .. }),
            Self::Constitution(_) | Self::Sampling(_) => true,
            Self::Argument { .. } | Self::SeveralGpus { .. } => true,
            Self::Hub(error) => !matches!(error, HubError::Network { .. } | HubError::Io { .. }),
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Remote(error) => server_blames_input(error),
            Self::NoPrinciples(_) | Self::Recipe(_) | Self::Result(_) => false,
            Self::NotFinite(_) | Self::Interrupted | Self::Paused => false,
        };
        ExitCode::from(if input { 2 } else { 1 })
    }
}

/// What one device would have to hold, where the model's configuration is at hand.
fn on_one(plan: &Option<u64>) -> String {
    plan.map(|bytes| {
        format!(
            ": on one it takes about {:.0} GiB (`sami inspect --plan` says what for)",
            bytes as f64 / 1.074e9
        )
    })
    .unwrap_or_default()
}

/// A prompt that is too long is the input's fault; running out of memory is not.
fn engine_blames_input(error: &sami_torch::Error) -> bool {
    use sami_torch::Error as Engine;
    match error {
        Engine::LibTorch(_)
        | Engine::NonFinite { .. }
        | Engine::Extreme { .. }
        | Engine::NoParameter { .. }
        | Engine::Memory { .. } => false,
        Engine::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => true,
    }
}

/// Settings that cannot be are the input's fault; a server that refuses or is away is not.
fn server_blames_input(error: &sami_remote::RemoteError) -> bool {
    use sami_remote::RemoteError as Remote;
    !matches!(
        error,
        Remote::Transport { .. }
            | Remote::Status { .. }
            | Remote::Wait { .. }
            | Remote::RefusesAll { .. }
            | Remote::Request(_)
            | Remote::RequestCap { .. }
            | Remote::SpendCap { .. }
            | Remote::Cache { .. }
    )
}
