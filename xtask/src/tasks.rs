//! The cargo commands behind `demo`, `test` and `check`.

use std::process::Command;

use crate::{
    repo::{self, Repo, RepoError},
    say,
};

/// A cargo command of ours failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error(transparent)]
    Command(#[from] RepoError),
}

fn step(command: &mut Command) -> Result<(), TaskError> {
    say::line(&format!("==> {}", repo::display(command)));
    Ok(repo::run(command)?)
}

/// Every package; what is optional is on by default.
const ALL: &str = "--workspace";

/// The example that runs the whole algorithm.
pub(crate) fn demo(repo: &Repo, args: &[String]) -> Result<(), TaskError> {
    let mut command = repo.cargo();
    command.args(["run", "--release", "--example", "hh_rlhf"]);
    if !args.is_empty() {
        command.arg("--").args(args);
    }
    step(&mut command)
}

/// `cargo test`, over the whole workspace unless the arguments say otherwise.
pub(crate) fn test(repo: &Repo, args: &[String]) -> Result<(), TaskError> {
    let mut command = repo.cargo();
    command.arg("test");
    // `cargo xtask test -- --nocapture` still means every package.
    if args.first().is_none_or(|first| first == "--") {
        command.arg(ALL);
    }
    step(command.args(args))
}

/// Formatting: first in CI, for it takes a second.
pub(crate) fn format(repo: &Repo) -> Result<(), TaskError> {
    step(repo.cargo().args(["fmt", "--all", "--check"]))
}

/// What CI runs after formatting, architecture and set-up.
///
/// All of it uses the dev profile and the same features, so LibTorch's bindings compile once.
pub(crate) fn check(repo: &Repo) -> Result<(), TaskError> {
    test(repo, &[])?;
    step(repo.cargo().arg("clippy").arg(ALL).args(["--all-targets", "--", "-D", "warnings"]))?;
    step(repo.cargo().args(["doc", ALL, "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    // The facade must also build for those who bring a policy of their own, and without Parquet it must say so.
    step(repo.cargo().args(["check", "--package", "sami", "--no-default-features"]))?;
    let bare = ["test", "--package", "sami-data", "--no-default-features", "--test", "parquet"];
    step(repo.cargo().args(bare))
}
