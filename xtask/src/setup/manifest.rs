//! What an installed LibTorch directory holds, file by file, so that damage is noticed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{SetupError, error::io_error};

const NAME: &str = "sami-manifest.json";

/// How closely an installation is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// A file of the recorded size and time of change counts as unchanged: milliseconds.
    Quick,
    /// Every byte is read: seconds.
    Thorough,
}

/// Size, time of change (nanoseconds since 1970) and content of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    size: u64,
    modified: u64,
    sha256: String,
}

/// Every file of an installation except the manifest itself. It is written last: a directory without one is not
/// an installation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    recipe: u32,
    requirements_sha256: String,
    files: BTreeMap<String, Entry>,
}

/// Why a directory is not the installation that its name promises.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("it is not there")]
    Absent,
    #[error("it has no readable manifest")]
    NoManifest,
    #[error("it was made by another version of this set-up")]
    OtherRecipe,
    #[error("{0} is missing")]
    Missing(String),
    #[error("{name} has {found} bytes instead of {expected}")]
    Size { name: String, found: u64, expected: u64 },
    #[error("{0} has other content than when it was installed")]
    Content(String),
}

impl Manifest {
    /// Describes the files under `dir`.
    pub(super) fn of(dir: &Path, recipe: u32, requirements: &str) -> Result<Self, SetupError> {
        let mut files = BTreeMap::new();
        for path in files_under(dir)? {
            let metadata = fs::metadata(&path).map_err(io_error("reading the size of", &path))?;
            let sha256 = sha256_of(&path).map_err(io_error("reading", &path))?;
            let entry = Entry { size: metadata.len(), modified: modified(&metadata), sha256 };
            files.insert(relative(dir, &path), entry);
        }
        Ok(Self { recipe, requirements_sha256: hex(&Sha256::digest(requirements)), files })
    }

    /// Writes it into `dir`, through to the disk.
    pub(super) fn write(&self, dir: &Path) -> Result<(), SetupError> {
        let path = dir.join(NAME);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| SetupError::Manifest { dir: dir.to_path_buf(), source })?;
        fs::write(&path, text).map_err(io_error("writing", &path))?;
        sync(&path)
    }

    /// The bytes that the files take.
    pub(super) fn total_size(&self) -> u64 {
        self.files.values().map(|entry| entry.size).sum()
    }

    /// The libraries, largest part of an installation and the one that must reach the disk before the rename.
    pub(super) fn libraries(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str).filter(|name| name.starts_with("lib/"))
    }

    /// Compares `dir` with the manifest in it: every size first, then the contents.
    pub(super) fn verify(dir: &Path, recipe: u32, requirements: &str, care: Care) -> Result<Self, Damage> {
        if !dir.is_dir() {
            return Err(Damage::Absent);
        }
        let text = fs::read(dir.join(NAME)).map_err(|_| Damage::NoManifest)?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|_| Damage::NoManifest)?;
        if manifest.recipe != recipe || manifest.requirements_sha256 != hex(&Sha256::digest(requirements)) {
            return Err(Damage::OtherRecipe);
        }
        let mut to_read = Vec::new();
        for (name, entry) in &manifest.files {
            let metadata = fs::metadata(dir.join(name)).map_err(|_| Damage::Missing(name.clone()))?;
            let found = metadata.len();
            if found != entry.size {
                return Err(Damage::Size { name: name.clone(), found, expected: entry.size });
            }
            if care == Care::Thorough || modified(&metadata) != entry.modified {
                to_read.push((name, entry));
            }
        }
        for (name, entry) in to_read {
            let found = sha256_of(&dir.join(name)).map_err(|_| Damage::Missing(name.clone()))?;
            if found != entry.sha256 {
                return Err(Damage::Content(name.clone()));
            }
        }
        Ok(manifest)
    }
}

/// Flushes a file or directory to the disk.
pub(super) fn sync(path: &Path) -> Result<(), SetupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io_error("flushing", path))
}

fn files_under(dir: &Path) -> Result<Vec<PathBuf>, SetupError> {
    let (mut files, mut pending) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(io_error("listing", &dir))? {
            let path = entry.map_err(io_error("listing", &dir))?.path();
            if path.is_dir() { pending.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

fn relative(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}

/// A time that cannot be told is no recorded one, so the file is read.
fn modified(metadata: &fs::Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(u64::MAX)
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lib")).unwrap();
        fs::write(dir.path().join("lib/a.so"), "library").unwrap();
        fs::write(dir.path().join("build-version"), "2.11.0").unwrap();
        Manifest::of(dir.path(), 1, "pins").unwrap().write(dir.path()).unwrap();
        dir
    }

    fn damage(dir: &Path) -> Damage {
        Manifest::verify(dir, 1, "pins", Care::Thorough).unwrap_err()
    }

    #[test]
    fn an_untouched_installation_verifies() {
        let manifest = Manifest::verify(installation().path(), 1, "pins", Care::Thorough).unwrap();
        assert_eq!(manifest.total_size(), 13);
        assert_eq!(manifest.libraries().collect::<Vec<_>>(), ["lib/a.so"]);
    }

    #[test]
    fn each_kind_of_damage_is_told_apart() {
        let dir = installation();
        assert_eq!(Manifest::verify(dir.path(), 2, "pins", Care::Quick).unwrap_err(), Damage::OtherRecipe);
        assert_eq!(Manifest::verify(dir.path(), 1, "other", Care::Quick).unwrap_err(), Damage::OtherRecipe);

        let library = dir.path().join("lib/a.so");
        fs::write(&library, "librarY").unwrap();
        assert_eq!(damage(dir.path()), Damage::Content("lib/a.so".to_owned()));
        fs::write(&library, "libra").unwrap();
        assert_eq!(damage(dir.path()), Damage::Size { name: "lib/a.so".to_owned(), found: 5, expected: 7 });
        fs::remove_file(&library).unwrap();
        assert_eq!(damage(dir.path()), Damage::Missing("lib/a.so".to_owned()));

        fs::write(dir.path().join(NAME), "{").unwrap();
        assert_eq!(damage(dir.path()), Damage::NoManifest);
        assert_eq!(damage(&dir.path().join("none")), Damage::Absent);
    }

    #[test]
    fn a_quick_look_reads_what_was_touched_and_a_thorough_one_everything() {
        let dir = installation();
        let library = dir.path().join("lib/a.so");
        let installed = fs::metadata(&library).unwrap().modified().unwrap();
        let verify = |care| Manifest::verify(dir.path(), 1, "pins", care);
        let set_time = |time| File::options().write(true).open(&library).unwrap().set_modified(time).unwrap();

        // Touched, but the same.
        set_time(UNIX_EPOCH);
        assert!(verify(Care::Quick).is_ok());
        fs::write(&library, "librarY").unwrap();
        set_time(UNIX_EPOCH);
        assert_eq!(verify(Care::Quick).unwrap_err(), Damage::Content("lib/a.so".to_owned()));
        // A disk that lost a bit tells nobody: that takes reading.
        set_time(installed);
        assert!(verify(Care::Quick).is_ok());
        assert_eq!(verify(Care::Thorough).unwrap_err(), Damage::Content("lib/a.so".to_owned()));
    }

    #[test]
    fn the_hash_is_sha256() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("abc"), "abc").unwrap();
        assert_eq!(
            sha256_of(&dir.path().join("abc")).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
