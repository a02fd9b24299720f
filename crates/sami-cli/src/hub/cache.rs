//! The cache on disk: `models--org--name/refs/REVISION` holds a commit, `snapshots/COMMIT/…` its files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::HubError;
use super::reference::{Kind, Reference};
use crate::progress::Progress;

/// Where the cache is.
pub(super) fn root() -> Result<PathBuf, HubError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home =
        || Some(variable("XDG_CACHE_HOME").unwrap_or(variable("HOME")?.join(".cache")).join("huggingface"));
    let hub = variable("HF_HUB_CACHE").or_else(|| Some(variable("HF_HOME").or_else(home)?.join("hub")));
    hub.ok_or_else(|| HubError::Io {
        path: PathBuf::from("HF_HOME"),
        source: std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "neither it nor HOME is set; say where the cache is",
        ),
    })
}

/// One repository in the cache.
pub(super) struct Repository {
    root: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, reference: &Reference) -> Self {
        let kind = match reference.kind() {
            Kind::Model => "models",
            Kind::Data { .. } => "datasets",
        };
        Self { root: cache.join(format!("{kind}--{}", reference.repository().replace('/', "--"))) }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// What the cache holds of a revision, if it is all there.
    pub(super) fn complete(&self, reference: &Reference) -> Option<PathBuf> {
        let named = fs::read_to_string(self.root.join("refs").join(reference.revision()));
        let commit = match named {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => reference.revision().to_owned(),
        };
        let snapshot = self.snapshot(&commit);
        match reference.kind() {
            Kind::Model => {
                let whole =
                    snapshot.join("config.json").exists() || snapshot.join("adapter_config.json").exists();
                let weights = fs::read_dir(&snapshot).ok()?.flatten();
                let weights =
                    weights.filter(|entry| entry.file_name().to_string_lossy().ends_with(".safetensors"));
                (whole && weights.count() > 0).then_some(snapshot)
            }
            Kind::Data { file } => Some(snapshot.join(file)).filter(|path| path.exists()),
        }
    }

    /// Says which commit a revision is.
    pub(super) fn remember(&self, reference: &Reference, commit: &str) -> Result<(), HubError> {
        let path = self.root.join("refs").join(reference.revision());
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, commit));
        written.map_err(|source| HubError::Io { path, source })
    }
}

/// Writes a file beside its place and renames it.
pub(super) fn store(
    target: &Path,
    mut body: impl Read,
    progress: &mut Progress,
    name: &str,
    size: Option<u64>,
) -> Result<(), HubError> {
    let at = |source| HubError::Io { path: target.to_owned(), source };
    let mut partial = target.as_os_str().to_owned();
    partial.push(".incomplete");
    let partial = PathBuf::from(partial);
    fs::create_dir_all(target.parent().unwrap_or(target)).map_err(at)?;
    let mut file = File::create(&partial).map_err(at)?;
    let mebibytes = |bytes: u64| (bytes >> 20) as usize;
    let total = size.map_or(0, mebibytes);
    progress.begin(name, 0, total);
    let (mut buffer, mut done) = (vec![0; 1 << 18], 0_u64);
    loop {
        let read = body.read(&mut buffer).map_err(at)?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(at)?;
        done += read as u64;
        progress.advance(name, mebibytes(done), total.max(mebibytes(done)));
    }
    progress.end();
    if let Some(size) = size.filter(|size| *size != done) {
        let message = format!("{done} of {size} bytes came; run the same command again");
        return Err(at(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, message)));
    }
    file.sync_all().and_then(|()| fs::rename(&partial, target)).map_err(at)
}
