//! The repository, and how its commands are run.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Failures to find the repository or to run a program in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepoError {
    #[error("{path} is not the root of the sami workspace; run this as `cargo xtask` inside a clone")]
    NotARepository { path: PathBuf },
    #[error("`{command}` could not be started; is it installed and on PATH?")]
    Start { command: String, source: std::io::Error },
    #[error("`{command}` failed ({status}); its own message stands above")]
    Failed { command: String, status: std::process::ExitStatus },
}

/// A clone of the repository.
#[derive(Debug)]
pub(crate) struct Repo {
    root: PathBuf,
}

impl Repo {
    /// The clone that this program was started from.
    ///
    /// Cargo states the manifest directory at run time; the one at compile time may be that of a clone that has
    /// moved since.
    pub(crate) fn locate() -> Result<Self, RepoError> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map(Path::to_path_buf).unwrap_or(manifest);
        if root.join("Cargo.toml").is_file() && root.join("crates").is_dir() {
            Ok(Self { root })
        } else {
            Err(RepoError::NotARepository { path: root })
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The git-ignored link to the LibTorch of this clone, which `.cargo/config.toml` names.
    pub(crate) fn libtorch_link(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// The LIBTORCH that the user set, if any.
    ///
    /// `.cargo/config.toml` sets the variable for `cargo run` too, hence for this program: a value equal to this
    /// clone's own link says nothing about the user.
    pub(crate) fn user_libtorch(&self) -> Option<PathBuf> {
        let value = env::var_os("LIBTORCH").filter(|value| !value.is_empty()).map(PathBuf::from)?;
        (value != self.libtorch_link()).then_some(value)
    }

    /// A cargo command in this clone, in the environment that a user's own cargo command would have: otherwise
    /// LibTorch's bindings would be compiled once for xtask and once more for the user.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        if self.user_libtorch().is_none() {
            command.env_remove("LIBTORCH");
        }
        command
    }
}

/// The command as a user would type it.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, its output going to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), RepoError> {
    let status = command.status().map_err(|source| RepoError::Start { command: display(command), source })?;
    if status.success() { Ok(()) } else { Err(RepoError::Failed { command: display(command), status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--workspace"]);
        assert_eq!(display(&command), "cargo test --workspace");
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(Command::new("cargo").arg("no-such-subcommand")).unwrap_err();
        assert!(error.to_string().starts_with("`cargo no-such-subcommand` failed"), "{error}");
    }
}
