//! JSONL files that grow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::DataError;
use crate::finite::check_finite;

/// Appends lines to a JSONL file. A process that was killed may leave a torn last line; opening the file again cuts it off,
/// so that lines are whole or absent.
#[derive(Debug)]
pub struct JsonlAppender {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Where the last whole line ends.
    end: u64,
}

impl JsonlAppender {
    /// Opens a file, made where absent with its directories, and cuts off what follows its last whole line.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_limited(path, None)
    }

    /// Opens a file and keeps exactly its first `lines` lines: what a resumed stage had finished.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`], and [`DataError::LinesLost`] if it has fewer.
    pub fn open_at(path: &Path, lines: usize) -> Result<Self, DataError> {
        Self::open_limited(path, Some(lines))
    }

    fn open_limited(path: &Path, limit: Option<usize>) -> Result<Self, DataError> {
        let at = || DataError::io(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at())?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(at())?;
        let (lines, end) = whole_lines(&file, limit).map_err(at())?;
        if let Some(expected) = limit.filter(|expected| *expected != lines) {
            return Err(DataError::LinesLost { path: path.to_owned(), found: lines, expected });
        }
        file.set_len(end).map_err(at())?;
        file.seek(SeekFrom::Start(end)).map_err(at())?;
        Ok(Self { path: path.to_owned(), file, lines, end })
    }

    /// Whole lines in the file.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Appends one value as a line, handed to the system in one piece.
    ///
    /// # Errors
    ///
    /// [`DataError::NotFinite`] before anything is written; [`DataError::Io`], [`DataError::Json`]. What a full disk took of the line is then cut off again, as far as the system
    /// lets us; opening the file anew cuts it off too.
    pub fn append<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), DataError> {
        check_finite(value).map_err(DataError::not_finite(&self.path))?;
        let mut line = serde_json::to_vec(value).map_err(DataError::json(&self.path))?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // The error that matters is the first one.
            let _ = self.file.set_len(self.end).and_then(|()| self.file.seek(SeekFrom::Start(self.end)));
            return Err(DataError::Io { path: self.path.clone(), source });
        }
        self.lines += 1;
        self.end += line.len() as u64;
        Ok(())
    }

    /// Returns when everything appended is on disk.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`].
    pub fn sync(&mut self) -> Result<(), DataError> {
        self.file.sync_data().map_err(DataError::io(&self.path))
    }
}

/// The number of lines that end in a newline, at most `limit`, and where the last of them ends. Bounded memory.
fn whole_lines(file: &File, limit: Option<usize>) -> io::Result<(usize, u64)> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut lines, mut position, mut end) = (0, 0, 0);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() || limit == Some(lines) {
            return Ok((lines, end));
        }
        for (index, _) in buffer.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            if limit == Some(lines) {
                break;
            }
            lines += 1;
            end = position + index as u64 + 1;
        }
        let used = buffer.len();
        position += used as u64;
        reader.consume(used);
    }
}
