//! Files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::DataError;
use crate::finite::check_finite;

/// Writes a file so that, killed at any moment, `path` holds either what it held before or all of the new content: into a
/// temporary file beside it, flushed to disk, renamed over it, and the directory flushed too. Directories on the way to
/// `path` are made.
///
/// # Errors
///
/// [`DataError::Io`]: what `write` or the system refuses; the temporary file is then removed, and `path` is untouched.
pub fn atomic_write(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), DataError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let attempt = || -> io::Result<()> {
        fs::create_dir_all(parent)?;
        let file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(parent)?;
        let mut writer = BufWriter::new(file);
        write(&mut writer)?;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        share(file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_dir(parent)
    };
    attempt().map_err(DataError::io(path))
}

/// Writes one value as indented JSON, whole or not at all.
///
/// # Errors
///
/// [`DataError::NotFinite`], [`DataError::Json`], [`DataError::Io`]; `path` is then untouched.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<(), DataError> {
    check_finite(value).map_err(DataError::not_finite(path))?;
    let mut bytes = serde_json::to_vec_pretty(value).map_err(DataError::json(path))?;
    bytes.push(b'\n');
    atomic_write(path, |file| file.write_all(&bytes))
}

/// Writes values as JSON lines, all of them or none.
///
/// # Errors
///
/// As [`write_json`].
pub fn write_json_lines<'a, T: Serialize + 'a>(
    path: &Path,
    values: impl IntoIterator<Item = &'a T>,
) -> Result<(), DataError> {
    let mut refused = None;
    let written = atomic_write(path, |file| {
        for value in values {
            if let Err(found) = check_finite(value) {
                refused = Some(found);
                return Err(io::ErrorKind::InvalidData.into());
            }
            serde_json::to_writer(&mut *file, value)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    });
    match refused {
        Some(found) => Err(DataError::not_finite(path)(found)),
        None => written,
    }
}

/// Temporary files are private to their owner; what they become is read by others, as any new file is.
#[cfg(unix)]
fn share(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn share(_: &File) -> io::Result<()> {
    Ok(())
}

/// A rename is on disk once its directory is.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}
