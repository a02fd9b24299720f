//! The kept pairs of a file by their position, without holding them.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::bad_line::BadLine;
use crate::error::DataError;
use crate::pairs::{PairReader, PairRecord};

/// The records of a pairs file that no filter rejected, in its order. Of our JSONL, 8 bytes per record are held; the paper's
/// JSON and compressed files are held whole, for neither can be read from the middle.
#[derive(Debug)]
pub struct PairIndex {
    path: PathBuf,
    content: Content,
    rejected: usize,
}

#[derive(Debug)]
enum Content {
    Held(Vec<PairRecord>),
    Offsets { file: BufReader<File>, offsets: Vec<u64> },
}

impl PairIndex {
    /// Reads a file once, checking every record.
    ///
    /// # Errors
    ///
    /// As [`PairReader`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut reader = PairReader::open(path)?;
        let (mut held, mut offsets, mut rejected) = (Vec::new(), Vec::new(), 0);
        let hold = !reader.has_offsets();
        while let Some(record) = reader.next() {
            let record = record?;
            if !record.is_kept() {
                rejected += 1;
            } else if hold {
                held.push(record);
            } else {
                offsets.push(reader.offset());
            }
        }
        let content = if hold {
            Content::Held(held)
        } else {
            Content::Offsets { file: BufReader::new(File::open(path).map_err(DataError::io(path))?), offsets }
        };
        Ok(Self { path: path.to_owned(), content, rejected })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that were kept.
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Held(records) => records.len(),
            Content::Offsets { offsets, .. } => offsets.len(),
        }
    }

    /// Whether none was kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records that were rejected.
    pub fn rejected(&self) -> usize {
        self.rejected
    }

    /// The kept record at a position.
    ///
    /// # Errors
    ///
    /// [`DataError::Changed`] for a file that is no longer what it was or a position beyond its end, [`DataError::Io`].
    pub fn read(&mut self, position: usize) -> Result<PairRecord, DataError> {
        let changed = || DataError::Changed { path: self.path.clone() };
        match &mut self.content {
            Content::Held(records) => records.get(position).cloned().ok_or_else(changed),
            Content::Offsets { file, offsets } => {
                let offset = *offsets.get(position).ok_or_else(changed)?;
                let mut line = Vec::new();
                file.seek(SeekFrom::Start(offset)).map_err(DataError::io(&self.path))?;
                file.read_until(b'\n', &mut line).map_err(DataError::io(&self.path))?;
                let text = std::str::from_utf8(&line).map_err(|_| changed())?;
                let record: PairRecord =
                    BadLine::parse(text.trim_start_matches('\u{feff}')).map_err(|_| changed())?;
                if record.is_kept() && record.check().is_ok() { Ok(record) } else { Err(changed()) }
            }
        }
    }
}
