//! Python and its pip, which fetch and unpack the wheels.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    SetupError,
    error::io_error,
    wheels::{self, Arch, Flavor},
};
use crate::{repo, say};

const UNPACK: &str = include_str!("unpack.py");

/// A Python that has pip.
#[derive(Debug)]
pub(super) struct Python {
    program: OsString,
}

impl Python {
    /// `python3` or `python` with pip, or else with a virtual environment made in `scratch`.
    pub(super) fn find(scratch: &Path) -> Result<Self, SetupError> {
        let mut tried = Vec::new();
        for program in ["python3", "python"] {
            if !succeeds(
                Command::new(program).args(["-c", "import sys; sys.exit(sys.version_info < (3, 8))"]),
            ) {
                tried.push(format!("{program} (not found, or older than 3.8)"));
                continue;
            }
            if has_pip(program.as_ref()) {
                return Ok(Self { program: program.into() });
            }
            let venv = scratch.join("venv");
            let inside = venv.join("bin/python").into_os_string();
            if succeeds(Command::new(program).args(["-m", "venv"]).arg(&venv)) && has_pip(&inside) {
                return Ok(Self { program: inside });
            }
            tried.push(format!("{program} (no pip, and no venv to make one)"));
        }
        Err(SetupError::NoPip { tried: tried.join(", ") })
    }

    /// Downloads the flavor's wheels into `dir`, each checked against its pinned hash.
    ///
    /// The target is spelt out (CPython 3.12, manylinux), so every machine gets the same files whatever its Python is.
    /// pip's own cache is left alone: it would keep a second copy of half a gigabyte.
    pub(super) fn download(&self, flavor: Flavor, arch: Arch, dir: &Path) -> Result<(), SetupError> {
        fs::create_dir_all(dir).map_err(io_error("making", dir))?;
        let requirements = dir.join("requirements.txt");
        fs::write(&requirements, flavor.requirements()).map_err(io_error("writing", &requirements))?;
        let mut command = self.command();
        command.args([
            "-m",
            "pip",
            "--no-input",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "download",
        ]);
        command.args(["--no-deps", "--only-binary=:all:", "--require-hashes"]);
        command.args([
            "--implementation",
            "cp",
            "--python-version",
            "3.12",
            "--abi",
            "cp312",
            "--abi",
            "none",
        ]);
        for platform in arch.platforms() {
            command.args(["--platform", &platform]);
        }
        command.arg("--dest").arg(dir).arg("--requirement").arg(&requirements);
        // pip keeps what it is downloading in TMPDIR, which is often a small memory file system.
        command.env("TMPDIR", dir).env("PIP_REQUIRE_VIRTUALENV", "0");
        let status = status(&mut command)?;
        if status.success() { Ok(()) } else { Err(SetupError::Download { status }) }
    }

    /// Puts the wanted files of all wheels in `wheels` into `dir`, each wheel deleted when it is done.
    pub(super) fn unpack(
        &self,
        flavor: Flavor,
        arch: Arch,
        wheels: &Path,
        dir: &Path,
    ) -> Result<(), SetupError> {
        for package in flavor.packages() {
            let wheel = wheel_of(&package, wheels)?;
            say::line(&format!("  unpacking {}", wheel.file_name().unwrap_or_default().to_string_lossy()));
            let mut command = self.command();
            command
                .args(["-I", "-c", UNPACK])
                .arg(&wheel)
                .arg(dir)
                .args(wheels::rules(&package, flavor, arch));
            let status = status(&mut command)?;
            if !status.success() {
                return Err(SetupError::Unpack { dir: dir.to_path_buf(), status });
            }
            fs::remove_file(&wheel).map_err(io_error("deleting", &wheel))?;
        }
        Ok(())
    }

    /// Opens a library with the dynamic loader, all its symbols resolved.
    pub(super) fn load(&self, library: &Path) -> Result<(), SetupError> {
        let mut command = self.command();
        command
            .args(["-I", "-c", "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)"])
            .arg(library);
        let output = command.output().map_err(|source| start_error(&command, source))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let message = text.lines().last().unwrap_or("no message").to_owned();
        Err(SetupError::DoesNotLoad { message })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        command
    }
}

fn status(command: &mut Command) -> Result<std::process::ExitStatus, SetupError> {
    command.status().map_err(|source| start_error(command, source))
}

fn start_error(command: &Command, source: std::io::Error) -> SetupError {
    SetupError::Command(repo::RepoError::Start { command: repo::display(command), source })
}

fn has_pip(program: &std::ffi::OsStr) -> bool {
    succeeds(Command::new(program).args(["-m", "pip", "--version"]))
}

/// Whether a command runs and succeeds; what it prints is dropped.
pub(super) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn wheel_of(package: &str, dir: &Path) -> Result<PathBuf, SetupError> {
    let prefix = format!("{}-", package.replace('-', "_"));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("listing", dir))? {
        let path = entry.map_err(io_error("listing", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&prefix) && name.ends_with(".whl") {
            found.push(path);
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(wheel)) => Ok(wheel),
        (found, _) => Err(SetupError::Wheel { package: package.to_owned(), found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_found_by_its_package() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["torch-2.11.0-cp312.whl", "nvidia_cuda_runtime-13.0.96-py3.whl", "torch-notes.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(wheel_of("torch", dir.path()).unwrap().ends_with("torch-2.11.0-cp312.whl"));
        assert!(wheel_of("nvidia-cuda-runtime", dir.path()).is_ok());
        let error = wheel_of("nvidia-cuda-cupti", dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("pip left 0 wheels for nvidia-cuda-cupti"), "{error}");
    }
}
