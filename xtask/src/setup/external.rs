//! A LibTorch that the user brings.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{SetupError, wheels};

const HEADER: &str = "include/torch/csrc/api/include/torch/torch.h";

/// Checks that `dir` is a LibTorch of the right version: headers, libraries, and a version in `build-version` or, in
/// the directory of an installed PyTorch, in `version.py`. Returns its absolute path.
pub(super) fn validate(dir: &Path) -> Result<PathBuf, SetupError> {
    let suffix = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    for wanted in [
        HEADER.to_owned(),
        format!("lib/libtorch_cpu.{suffix}"),
        format!("lib/libtorch.{suffix}"),
        format!("lib/libc10.{suffix}"),
    ] {
        if !dir.join(&wanted).is_file() {
            return Err(SetupError::NotLibtorch { dir: dir.to_path_buf(), missing: wanted });
        }
    }
    let expected = wheels::VERSION;
    let found =
        version(dir).ok_or_else(|| SetupError::UnknownVersion { dir: dir.to_path_buf(), expected })?;
    // "2.11.0+cu130" is 2.11.0 with CUDA 13.0.
    if found.split('+').next() != Some(expected) {
        return Err(SetupError::WrongVersion { dir: dir.to_path_buf(), found, expected });
    }
    dir.canonicalize().map_err(super::error::io_error("resolving", dir))
}

fn version(dir: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(dir.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(dir.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    line.split(['\'', '"']).nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [HEADER, "lib/libtorch_cpu.so", "lib/libtorch.so", "lib/libc10.so"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn a_build_version_or_a_version_py_states_the_version() {
        let dir = libtorch();
        let error = validate(dir.path()).unwrap_err().to_string();
        assert!(error.contains("says nowhere which LibTorch it is"), "{error}");
        fs::write(dir.path().join("version.py"), "x = 1\n__version__ = '2.11.0+cu130'\n").unwrap();
        assert_eq!(validate(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
        fs::write(dir.path().join("build-version"), "2.10.0\n").unwrap();
        let error = validate(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is version 2.10.0; tch 0.24 binds 2.11.0"), "{error}");
        fs::write(dir.path().join("build-version"), "2.11.0+cpu\n").unwrap();
        assert!(validate(dir.path()).is_ok());
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = libtorch();
        fs::remove_file(dir.path().join("lib/libtorch_cpu.so")).unwrap();
        let error = validate(dir.path()).unwrap_err().to_string();
        assert!(error.contains("which has no lib/libtorch_cpu.so"), "{error}");
    }
}
