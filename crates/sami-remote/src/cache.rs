//! Answers on disk, so that a job that was interrupted pays for none of them twice.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::RemoteError;

/// SHA-256 of a request: address, body, and the seed where the body has none; never the key.
pub(crate) type RequestHash = [u8; 32];

pub(crate) fn request_hash(url: &str, body: &[u8], seed: Option<u32>) -> RequestHash {
    let mut hash = Sha256::new();
    hash.update(url.as_bytes());
    hash.update([0]);
    hash.update(body);
    if let Some(seed) = seed {
        hash.update([0]);
        hash.update(seed.to_le_bytes());
    }
    hash.finalize().into()
}

/// A JSONL file of `{"request": SHA-256 in hex, "answer": the body of the server's answer}`. Only positions are held in
/// memory. Several processes may share a file: lines are appended under a lock, each in one piece, and a line that a killed
/// process left torn is passed over.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    inner: Mutex<Inner>,
    /// Requests that somebody is sending; whoever wants the same answer waits for it.
    flights: Mutex<HashSet<RequestHash>>,
    landed: Condvar,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Where each answer's line begins.
    lines: HashMap<RequestHash, u64>,
}

#[derive(Serialize)]
struct LineRef<'a> {
    request: String,
    answer: &'a str,
}

#[derive(Deserialize)]
struct Line {
    request: String,
    answer: String,
}

/// Ends a flight when it is dropped.
pub(crate) struct Flight<'a> {
    cache: &'a Cache,
    hash: RequestHash,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        lock(&self.cache.flights).remove(&self.hash);
        self.cache.landed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    /// Opens a file, made where absent with its directories.
    pub(crate) fn open(path: &Path) -> Result<Self, RemoteError> {
        let at = |source| RemoteError::Cache { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(at)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(at)?;
        let (lines, skipped) = index(&file).map_err(at)?;
        if skipped > 0 {
            tracing::warn!("{}: {skipped} torn or foreign lines are passed over", path.display());
        }
        let inner = Mutex::new(Inner { file, lines });
        Ok(Self { path: path.to_owned(), inner, flights: Mutex::default(), landed: Condvar::new() })
    }

    /// Waits until nobody else is sending this request.
    pub(crate) fn take_off(&self, hash: RequestHash) -> Flight<'_> {
        let mut flights = lock(&self.flights);
        while !flights.insert(hash) {
            flights = self.landed.wait(flights).unwrap_or_else(PoisonError::into_inner);
        }
        Flight { cache: self, hash }
    }

    pub(crate) fn get(&self, hash: &RequestHash) -> Result<Option<String>, RemoteError> {
        let mut inner = lock(&self.inner);
        let Some(start) = inner.lines.get(hash).copied() else { return Ok(None) };
        let line = read_line(&mut inner.file, start)
            .map_err(|source| RemoteError::Cache { path: self.path.clone(), source })?;
        let line: Option<Line> = serde_json::from_slice(&line).ok();
        Ok(line.map(|line| line.answer))
    }

    pub(crate) fn put(&self, hash: RequestHash, answer: &str) -> Result<(), RemoteError> {
        let mut inner = lock(&self.inner);
        let start = append(&mut inner.file, &LineRef { request: hex(&hash), answer })
            .map_err(|source| RemoteError::Cache { path: self.path.clone(), source })?;
        inner.lines.insert(hash, start);
        Ok(())
    }
}

/// Where each whole line of ours begins, and how many others there are.
fn index(file: &File) -> io::Result<(HashMap<RequestHash, u64>, usize)> {
    let (mut lines, mut skipped, mut start) = (HashMap::new(), 0, 0);
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok((lines, skipped));
        }
        let parsed: Option<Line> = serde_json::from_slice(&line).ok();
        match parsed.and_then(|line| unhex(&line.request)) {
            Some(hash) if line.ends_with(b"\n") => {
                lines.insert(hash, start);
            }
            _ if line == b"\n" => {}
            _ => skipped += 1,
        }
        start += read as u64;
    }
}

fn read_line(file: &mut File, start: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// Appends a line in one piece; returns where it begins.
fn append(file: &mut File, line: &LineRef<'_>) -> io::Result<u64> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.lock()?;
    let result = (|| {
        let end = file.seek(SeekFrom::End(0))?;
        let mut start = end;
        if end > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(end - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // Somebody was killed in the middle of a line: end it, so that it spoils no other.
                bytes.insert(0, b'\n');
                start += 1;
            }
        }
        file.write_all(&bytes)?;
        Ok(start)
    })();
    file.unlock()?;
    result
}

fn hex(hash: &RequestHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<RequestHash> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, index) in hash.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(hash)
}
