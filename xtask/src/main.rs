//! `cargo xtask`: set-up of LibTorch, the demo, the tests, and the checks that CI runs.
//!
//! Nothing here depends on LibTorch or on the crates it checks, so it builds in seconds on a fresh machine.

mod arch;
mod cli;
mod parity;
mod repo;
mod say;
mod setup;
mod tasks;

use std::process::ExitCode;

use clap::Parser;

/// What can go wrong in any subcommand.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Repo(#[from] repo::RepoError),
    #[error(transparent)]
    Setup(#[from] setup::SetupError),
    #[error(transparent)]
    Arch(#[from] arch::ArchError),
    #[error(transparent)]
    Task(#[from] tasks::TaskError),
    #[error(transparent)]
    Parity(#[from] parity::ParityError),
}

fn run(cli: cli::Cli) -> Result<(), Error> {
    let repo = repo::Repo::locate()?;
    match cli.command {
        cli::Command::Setup(options) => setup::setup(&repo, options.into()).map(drop).map_err(Error::from),
        cli::Command::Demo { args } => {
            setup::setup(&repo, setup::Request::default())?;
            Ok(tasks::demo(&repo, &args)?)
        }
        cli::Command::Test { args } => {
            setup::setup(&repo, setup::Request::default())?;
            Ok(tasks::test(&repo, &args)?)
        }
        cli::Command::Check => {
            tasks::format(&repo)?;
            arch::check(&repo)?;
            setup::setup(&repo, setup::Request::default())?;
            Ok(tasks::check(&repo)?)
        }
        cli::Command::Arch => Ok(arch::check(&repo)?),
        cli::Command::Parity(options) => {
            setup::setup(&repo, setup::Request::default())?;
            Ok(parity::parity(&repo, &options.into())?)
        }
    }
}

fn main() -> ExitCode {
    match run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&format!("error: {error}"));
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                say::error(&format!("  because: {cause}"));
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
