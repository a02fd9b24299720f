//! The git-ignored link `.libtorch`, through which plain cargo commands find LibTorch.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{SetupError, error::io_error};

/// What stands at the link's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    Absent,
    /// A link, and where it leads.
    To(PathBuf),
    /// A directory or file that somebody put there.
    Other,
}

/// Looks, and changes nothing.
pub(super) fn read(link: &Path) -> Link {
    match fs::symlink_metadata(link) {
        Err(_) => Link::Absent,
        Ok(metadata) if metadata.is_symlink() => fs::read_link(link).map_or(Link::Other, Link::To),
        Ok(_) => Link::Other,
    }
}

/// Makes the link lead to `target`, in one step even if it leads elsewhere now. Returns whether that changed it.
pub(super) fn point(link: &Path, target: &Path) -> Result<bool, SetupError> {
    if read(link) == Link::To(target.to_path_buf()) {
        return Ok(false);
    }
    let mut name = link.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(name);
    // A leftover of a killed process that had the same id.
    let _ = fs::remove_file(&fresh);
    symlink(target, &fresh).map_err(io_error("making the link", &fresh))?;
    fs::rename(&fresh, link).map_err(io_error("making the link", link))?;
    Ok(true)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_changed_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(".libtorch");
        assert_eq!(read(&link), Link::Absent);
        assert!(point(&link, Path::new("/a")).unwrap());
        assert!(!point(&link, Path::new("/a")).unwrap());
        assert!(point(&link, Path::new("/b")).unwrap());
        assert_eq!(read(&link), Link::To("/b".into()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_of_the_users_is_not_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(".libtorch");
        fs::create_dir(&link).unwrap();
        assert_eq!(read(&link), Link::Other);
        assert!(point(&link, Path::new("/a")).is_err());
    }
}
