//! The per-user cache: one directory per kind of LibTorch, made whole or not at all.
//!
//! Everything that changes the cache happens under one lock, which the kernel drops when its holder dies. A new
//! installation grows in a scratch directory beside its place and gets there by one rename; a scratch directory that
//! is found under the lock belongs to a set-up that was killed, and is deleted.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use super::{
    SetupError,
    error::io_error,
    manifest::{Care, Damage, Manifest, sync},
    python::Python,
    wheels::{self, Arch, Flavor},
};
use crate::say;

const SCRATCH: &str = ".scratch-";

/// The cache directory, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    // Held, never read: dropping it releases the lock.
    _lock: File,
}

/// `$XDG_CACHE_HOME/sami`, or `~/.cache/sami`. A relative path in either variable is ignored, as the XDG
/// specification asks.
pub(super) fn cache_dir(xdg: Option<&OsStr>, home: Option<&OsStr>) -> Result<PathBuf, SetupError> {
    let absolute = |value: Option<&OsStr>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg)
        .or_else(|| absolute(home).map(|home| home.join(".cache")))
        .map(|cache| cache.join("sami"))
        .ok_or(SetupError::NoCacheDir)
}

impl Cache {
    /// Opens the user's cache; waits while another set-up works in it.
    pub(super) fn open() -> Result<Self, SetupError> {
        let dir = cache_dir(env::var_os("XDG_CACHE_HOME").as_deref(), env::var_os("HOME").as_deref())?;
        Self::open_at(dir)
    }

    fn open_at(dir: PathBuf) -> Result<Self, SetupError> {
        fs::create_dir_all(&dir).map_err(io_error("making", &dir))?;
        let path = dir.join("libtorch.lock");
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("opening the lock", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say::line(&format!("another set-up is at work in {}; waiting for it", dir.display()));
                lock.lock().map_err(io_error("waiting for the lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(io_error("taking the lock", &path)(source)),
        }
        let cache = Self { dir, _lock: lock };
        cache.delete_scratch()?;
        Ok(cache)
    }

    /// The place of one kind of LibTorch.
    pub(super) fn place(&self, flavor: Flavor, arch: Arch) -> PathBuf {
        self.dir.join(flavor.directory(arch))
    }

    /// The kind of LibTorch whose place `dir` is.
    pub(super) fn flavor_at(&self, dir: &Path, arch: Arch) -> Option<Flavor> {
        [Flavor::Cpu, Flavor::Cuda].into_iter().find(|flavor| self.place(*flavor, arch) == dir)
    }

    /// A whole LibTorch of this kind: the one that is there if it is undamaged, else a new one.
    pub(super) fn ensure(&self, flavor: Flavor, arch: Arch, care: Care) -> Result<PathBuf, SetupError> {
        let place = self.place(flavor, arch);
        let damage = match Manifest::verify(&place, wheels::RECIPE, &flavor.requirements(), care) {
            Ok(manifest) => {
                let size = say::megabytes(manifest.total_size());
                say::line(&format!("LibTorch {} in {}: complete ({size})", wheels::VERSION, place.display()));
                return Ok(place);
            }
            Err(damage) => damage,
        };
        if damage == Damage::Absent {
            say::line(&format!("LibTorch {} ({}) is not installed yet", wheels::VERSION, flavor.name()));
        } else {
            say::line(&format!(
                "LibTorch in {} is not usable: {damage}; installing it again",
                place.display()
            ));
        }
        self.install(flavor, arch, &place)?;
        Ok(place)
    }

    fn install(&self, flavor: Flavor, arch: Arch, place: &Path) -> Result<(), SetupError> {
        let start = std::time::Instant::now();
        let scratch = tempfile::Builder::new()
            .prefix(SCRATCH)
            .tempdir_in(&self.dir)
            .map_err(io_error("making a scratch directory in", &self.dir))?;
        let (download, disk) = flavor.megabytes();
        say::line(&format!(
            "  downloading PyTorch's wheels with pip: about {download} MB, {disk} MB when installed in {}",
            place.display()
        ));
        let python = Python::find(scratch.path())?;
        let wheel_dir = scratch.path().join("wheels");
        python.download(flavor, arch, &wheel_dir)?;

        let new = scratch.path().join("libtorch");
        python.unpack(flavor, arch, &wheel_dir, &new)?;
        write(&new.join("lib/libtorch.so"), wheels::LIBTORCH_SO)?;
        write(&new.join("build-version"), wheels::VERSION)?;
        python.load(&new.join("lib/libtorch_cpu.so"))?;

        // The libraries and the manifest must be on the disk before the rename is. The headers, thousands of small
        // files, are not flushed one by one: the manifest would tell a loss.
        let manifest = Manifest::of(&new, wheels::RECIPE, &flavor.requirements())?;
        for name in manifest.libraries() {
            sync(&new.join(name))?;
        }
        manifest.write(&new)?;
        sync(&new.join("lib"))?;
        sync(&new)?;

        if place.exists() {
            let old = scratch.path().join("old");
            fs::rename(place, &old).map_err(io_error("moving away", place))?;
        }
        fs::rename(&new, place).map_err(io_error("moving the new LibTorch to", place))?;
        sync(&self.dir)?;
        say::line(&format!(
            "  installed in {:.0} s: {} ({})",
            start.elapsed().as_secs_f64(),
            place.display(),
            say::megabytes(manifest.total_size())
        ));
        Ok(())
    }

    fn delete_scratch(&self) -> Result<(), SetupError> {
        for entry in fs::read_dir(&self.dir).map_err(io_error("listing", &self.dir))? {
            let entry = entry.map_err(io_error("listing", &self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                let path = entry.path();
                say::line(&format!("deleting what a killed set-up left: {}", path.display()));
                delete(&path)?;
            }
        }
        Ok(())
    }
}

/// Deletes a directory. A pip that outlived its killed set-up may still add files, hence the second and third try.
fn delete(path: &Path) -> Result<(), SetupError> {
    for _ in 0..2 {
        if fs::remove_dir_all(path).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("deleting", path)(error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), SetupError> {
    fs::write(path, text).map_err(io_error("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_the_xdg_specification() {
        let dir = |xdg: Option<&str>, home: Option<&str>| {
            cache_dir(xdg.map(OsStr::new), home.map(OsStr::new)).ok().map(|path| path.display().to_string())
        };
        assert_eq!(dir(Some("/x"), Some("/h")).as_deref(), Some("/x/sami"));
        assert_eq!(dir(None, Some("/h")).as_deref(), Some("/h/.cache/sami"));
        assert_eq!(dir(Some("relative"), Some("/h")).as_deref(), Some("/h/.cache/sami"));
        assert_eq!(dir(Some(""), None), None);
    }

    #[test]
    fn a_killed_set_up_leaves_nothing_that_counts() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sami");
        fs::create_dir_all(dir.join(".scratch-abc/libtorch/lib")).unwrap();
        fs::write(dir.join(".scratch-abc/libtorch/lib/libtorch_cpu.so"), "half").unwrap();
        let cache = Cache::open_at(dir.clone()).unwrap();
        assert!(!dir.join(".scratch-abc").exists());
        let place = cache.place(Flavor::Cpu, Arch::X86_64);
        assert!(place.ends_with("libtorch-2.11.0-cpu-x86_64"), "{}", place.display());
        assert_eq!(cache.flavor_at(&place, Arch::X86_64), Some(Flavor::Cpu));
        assert_eq!(cache.flavor_at(&dir, Arch::X86_64), None);
    }

    #[test]
    fn the_lock_excludes_a_second_set_up() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open_at(root.path().to_path_buf()).unwrap();
        let other = File::open(root.path().join("libtorch.lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(cache);
        assert!(other.try_lock().is_ok());
    }
}
