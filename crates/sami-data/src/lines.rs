//! Lines of plain, compressed or Parquet files, with their numbers, in bounded memory.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use crate::bad_line::BadLine;
use crate::error::DataError;
use crate::source::{Source, sha256};

/// A longer line is refused, not held: 64 MiB.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// The byte order mark with which some editors begin a file, and which JSON does not know.
pub(crate) const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// One line, or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1; blank lines count.
    pub number: usize,
    /// Where it begins, in bytes of the file (of the decompressed one, where it is compressed; 0 in
    /// a Parquet file).
    pub offset: u64,
    /// Its text without the line end, which may be `\n` or `\r\n`.
    pub text: Result<String, BadLine>,
}

/// Reads a file line by line. Gzip and zstd are told by the file's first bytes, not by its name,
/// and may have several members or frames. So is Parquet, whose rows are lines of JSON: an object
/// of the columns that hold text or whole numbers, lists of them included (feature `parquet`).
///
/// Yields every line that is not blank with its number, and [`DataError::Io`] where the system
/// fails. Damaged compressed or Parquet data is the last line's problem.
#[derive(Debug)]
pub struct LineReader {
    path: PathBuf,
    source: Source,
    number: usize,
    /// Where the next line begins.
    offset: u64,
    ended: bool,
}

impl LineReader {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`]; [`DataError::Foreign`] for a kind of file that holds no lines of data; [`DataError::Parquet`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Ok(Self::over(path, Source::open(path)?))
    }

    /// Reads lines that are part of the program. `name` stands for the file in messages.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`], as [`LineReader::open`]; memory gives none.
    pub fn embedded(name: &Path, bytes: &'static [u8]) -> Result<Self, DataError> {
        Ok(Self::over(name, Source::embedded(bytes).map_err(DataError::io(name))?))
    }

    fn over(path: &Path, source: Source) -> Self {
        Self { path: path.to_owned(), source, number: 0, offset: 0, ended: false }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines read so far.
    pub fn lines(&self) -> usize {
        self.number
    }

    /// SHA-256 of the file as it is on disk, in hexadecimal: of all of it once the last line was
    /// read.
    pub fn sha256(&self) -> String {
        self.source.sha256()
    }

    /// Whether a line can be found again by its offset in the file.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.source, Source::Plain(_))
    }

    /// All that is left to read, as one piece, without a byte order mark.
    pub(crate) fn read_whole(&mut self) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let mut read = || self.source.reader()?.read_to_end(&mut bytes);
        read().map_err(DataError::io(&self.path))?;
        if bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
        }
        Ok(bytes)
    }

    /// The first bytes that are left, as many as are at hand.
    pub(crate) fn begin(&mut self) -> Result<&[u8], DataError> {
        let bytes = self.source.reader().and_then(|reader| reader.fill_buf());
        bytes.map_err(DataError::io(&self.path))
    }

    /// Decoded bytes, and how to tell what is wrong with them.
    pub(crate) fn source(&mut self) -> &mut Source {
        &mut self.source
    }

    fn line_with_text(&mut self) -> Result<Option<Line>, DataError> {
        if let Source::Parquet { rows, sha256: hash } = &mut self.source {
            let text = match rows.next() {
                Ok(Some(row)) => Ok(row),
                Ok(None) => {
                    *hash = sha256(&self.path)?;
                    return Ok(None);
                }
                Err(reason) => {
                    self.ended = true;
                    Err(BadLine::Parquet(reason))
                }
            };
            self.number += 1;
            return Ok(Some(Line { number: self.number, offset: 0, text }));
        }
        loop {
            let mut bytes = Vec::new();
            let offset = self.offset;
            let read = self.source.reader().and_then(|reader| read_line(reader, &mut bytes));
            let text = match read {
                Ok(None) => return Ok(None),
                Ok(Some((read, fits))) => {
                    self.offset += read;
                    match fits {
                        Fits::Yes => decode(bytes, self.number == 0),
                        Fits::No => Err(BadLine::TooLong(MAX_LINE_BYTES)),
                    }
                }
                Err(error) => {
                    self.ended = true;
                    Err(damage(&self.source, error).map_err(DataError::io(&self.path))?)
                }
            };
            self.number += 1;
            if !text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                return Ok(Some(Line { number: self.number, offset, text }));
            }
        }
    }
}

impl Iterator for LineReader {
    type Item = Result<Line, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.line_with_text().transpose();
        self.ended |= !matches!(next, Some(Ok(_)));
        next
    }
}

/// What the decoder of compressed data says is wrong with it; an error of the system comes back.
pub(crate) fn damage(source: &Source, error: io::Error) -> Result<BadLine, io::Error> {
    match source.compression() {
        Some(kind) if error.raw_os_error().is_none() => {
            Ok(BadLine::Compressed { kind, reason: error.to_string() })
        }
        _ => Err(error),
    }
}

fn decode(mut bytes: Vec<u8>, first: bool) -> Result<String, BadLine> {
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    if first && bytes.starts_with(BOM) {
        bytes.drain(..BOM.len());
    }
    String::from_utf8(bytes).map_err(|error| BadLine::Utf8(error.utf8_error().valid_up_to() + 1))
}

enum Fits {
    Yes,
    No,
}

/// One line without its newline into `line`, or as much of it as fits, and the bytes that it takes
/// in the file; `None` at the end of the file.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<(u64, Fits)>> {
    let read = (&mut *reader).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read > MAX_LINE_BYTES {
        let skipped = reader.skip_until(b'\n')?;
        return Ok(Some(((read + skipped) as u64, Fits::No)));
    }
    Ok((read > 0).then_some((read as u64, Fits::Yes)))
}

/// All of a file that is one JSON value, decompressed, without a byte order mark.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, DataError> {
    LineReader::open(path)?.read_whole()
}
