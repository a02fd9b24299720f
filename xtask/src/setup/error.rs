//! Everything that can go wrong in a set-up, with the next step.

use std::{io, path::PathBuf};

use crate::repo::RepoError;

/// A set-up that did not succeed. Nothing half-made is left in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Command(#[from] RepoError),

    #[error(
        "no LibTorch wheel is pinned for {os} on {arch}. Install PyTorch 2.11.0 or LibTorch 2.11.0 yourself, set LIBTORCH \
         to its directory (the one that holds include and lib), and run `cargo xtask setup` again"
    )]
    Platform { os: &'static str, arch: &'static str },

    #[error(
        "no C++ compiler: `{tried}` does not run, and LibTorch's bindings are C++. Install one (Debian, Ubuntu: \
         apt-get install g++; Fedora: dnf install gcc-c++) or name it in CXX"
    )]
    NoCompiler { tried: String },

    #[error(
        "no Python with pip: tried {tried}. LibTorch comes as a Python wheel. Install pip (Debian, Ubuntu: \
         apt-get install python3-pip; Fedora: dnf install python3-pip), or set LIBTORCH to a LibTorch 2.11.0"
    )]
    NoPip { tried: String },

    #[error(
        "pip could not download LibTorch ({status}); its own message stands above. Without a network, put the wheels of \
         xtask/src/setup/requirements-*.txt into a folder, name it in PIP_FIND_LINKS and run again, or set LIBTORCH"
    )]
    Download { status: std::process::ExitStatus },

    #[error("pip left {found} wheels for {package} where one was expected; run `cargo xtask setup` again")]
    Wheel { package: String, found: usize },

    #[error(
        "a wheel could not be unpacked ({status}); its own message stands above. Is the disk of {dir} full?"
    )]
    Unpack { dir: PathBuf, status: std::process::ExitStatus },

    #[error(
        "LibTorch is complete but does not load on this machine: {message}. PyTorch's wheels need glibc 2.28 or newer; \
         on an older system, build LibTorch 2.11.0 and set LIBTORCH"
    )]
    DoesNotLoad { message: String },

    #[error(
        "neither XDG_CACHE_HOME nor HOME names an absolute directory, so there is no place for LibTorch; set one of them"
    )]
    NoCacheDir,

    #[error(
        "LIBTORCH is {dir}, which has no {missing}. Give the directory that holds include and lib, or unset LIBTORCH"
    )]
    NotLibtorch { dir: PathBuf, missing: String },

    #[error(
        "the LibTorch in {dir} is version {found}; tch 0.24 binds {expected}. Set LIBTORCH to a LibTorch {expected}, or \
         unset it and let `cargo xtask setup` install one"
    )]
    WrongVersion { dir: PathBuf, found: String, expected: &'static str },

    #[error(
        "{dir} says nowhere which LibTorch it is (no build-version, no version.py). If it is {expected}, write that \
         into {dir}/build-version"
    )]
    UnknownVersion { dir: PathBuf, expected: &'static str },

    #[error(
        "no NVIDIA GPU is found here (no nvidia-smi that lists one, no /proc/driver/nvidia). Its driver may be missing. \
         `cargo xtask setup` installs LibTorch for the CPU; `cargo xtask setup --cuda --force` installs the CUDA \
         libraries all the same"
    )]
    NoGpu,

    #[error(
        "{link} is a directory or file of its own, not a link, and not a usable LibTorch ({problem}). Move it away and \
         run `cargo xtask setup` again"
    )]
    LinkInTheWay { link: PathBuf, problem: String },

    #[error("the LibTorch in {dir} is damaged: {problem}")]
    Damaged { dir: PathBuf, problem: String },

    #[error("{action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("the manifest of {dir} could not be written")]
    Manifest { dir: PathBuf, source: serde_json::Error },
}

/// Attaches what was being done, and to which path.
pub(super) fn io_error(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_path_buf();
    move |source| SetupError::Io { action, path, source }
}
