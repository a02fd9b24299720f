//! The fake on disk.

use std::path::{Path, PathBuf};

use super::FakeError;

pub(super) const MAGIC: &[u8; 8] = b"samifake";

pub(super) fn read_values(path: &Path, count: usize) -> Result<Vec<f64>, FakeError> {
    let bytes = std::fs::read(path).map_err(|source| FakeError::Io { path: path.to_owned(), source })?;
    let expected = MAGIC.len() + 8 * count;
    let (values, rest) = bytes.strip_prefix(MAGIC).unwrap_or_default().as_chunks::<8>();
    if bytes.len() != expected || !rest.is_empty() || values.len() != count {
        return Err(FakeError::Foreign { path: path.to_owned(), bytes: bytes.len(), expected });
    }
    Ok(values.iter().map(|&value| f64::from_le_bytes(value)).collect())
}

/// Writes a directory beside `dir` and renames it, so that `dir` appears whole or not at all.
pub(super) fn write_values(
    dir: &Path,
    name: &str,
    values: impl Iterator<Item = f64>,
) -> Result<(), FakeError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| FakeError::Io { path, source }
    };
    let mut partial = dir.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(at(&partial))?;
    }
    std::fs::create_dir_all(&partial).map_err(at(&partial))?;
    let bytes: Vec<u8> = MAGIC.iter().copied().chain(values.flat_map(f64::to_le_bytes)).collect();
    std::fs::write(partial.join(name), bytes).map_err(at(&partial))?;
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(at(dir))?;
    }
    std::fs::rename(&partial, dir).map_err(at(dir))
}
