//! Files that are whole or absent.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::DataError;

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
