//! Lines of plain, gzip or Parquet files, with their numbers, in bounded memory.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::ParquetRows;
use crate::error::{BadLine, DataError};

/// A longer line is refused, not held: 64 MiB.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// One line, or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// Where it begins, in bytes of the file (of the decompressed one, for gzip; 0 in a Parquet file).
    pub offset: u64,
    /// Its text without the line end.
    pub text: Result<String, BadLine>,
}

/// Reads a file line by line. Gzip is told by the file's first two bytes, not by its name, and may have several members. So is
/// Parquet, whose rows are lines of JSON: an object of the columns that hold text or whole numbers (feature `parquet`).
///
/// Yields every line with its number, and [`DataError::Io`] where the system fails. Damaged gzip or Parquet data is the last
/// line's problem. Blank lines at the end of the file are not yielded; earlier ones are [`BadLine::Blank`].
#[derive(Debug)]
pub struct LineReader {
    path: PathBuf,
    source: Source,
    number: usize,
    /// Where the next line begins.
    offset: u64,
    /// Blank lines seen since the last one with text; yielded when another with text follows.
    blanks: usize,
    ready: Option<Line>,
    ended: bool,
}

/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";

/// Where decoded bytes come from.
#[derive(Debug)]
enum Source {
    Plain(BufReader<Hashing>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<Hashing>>>>),
    /// Read from its end, so its hash is taken once the rows were.
    Parquet {
        rows: Box<ParquetRows>,
        sha256: String,
    },
}

/// Hashes bytes as they are on disk, while they are read.
#[derive(Debug)]
struct Hashing {
    bytes: Bytes,
    hash: Sha256,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(io::Cursor<&'static [u8]>),
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.bytes {
            Bytes::File(file) => file.read(buffer),
            Bytes::Memory(bytes) => bytes.read(buffer),
        }?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self, DataError> {
        let at = || DataError::io(path);
        let file = File::open(path).map_err(at())?;
        if file.metadata().map_err(at())?.is_dir() {
            return Err(at()(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let source = Self::new(Bytes::File(file)).map_err(at())?;
        if let Self::Plain(reader) = &source
            && reader.buffer().starts_with(PARQUET)
        {
            let rows = ParquetRows::open(File::open(path).map_err(at())?);
            let rows = rows.map_err(|reason| DataError::Parquet { path: path.to_owned(), reason })?;
            return Ok(Self::Parquet { rows: Box::new(rows), sha256: String::new() });
        }
        Ok(source)
    }

    fn new(bytes: Bytes) -> io::Result<Self> {
        let mut raw = BufReader::with_capacity(1 << 16, Hashing { bytes, hash: Sha256::new() });
        Ok(if raw.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))))
        } else {
            Self::Plain(raw)
        })
    }

    /// The decoded bytes; a Parquet file has none that mean anything in their order.
    fn reader(&mut self) -> io::Result<&mut dyn BufRead> {
        match self {
            Self::Plain(reader) => Ok(reader),
            Self::Gzip(reader) => Ok(reader.as_mut()),
            Self::Parquet { .. } => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is a Parquet file, and only queries, one a row, are read from those; write it as JSON",
            )),
        }
    }

    fn sha256(&self) -> String {
        let hash = match self {
            Self::Plain(reader) => &reader.get_ref().hash,
            Self::Gzip(reader) => &reader.get_ref().get_ref().get_ref().hash,
            Self::Parquet { sha256, .. } => return sha256.clone(),
        };
        hexadecimal(hash.clone())
    }
}

impl LineReader {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Ok(Self::over(path, Source::open(path)?))
    }

    /// Reads lines that are part of the program. `name` stands for the file in messages.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`], as [`LineReader::open`]; memory gives none.
    pub fn embedded(name: &Path, bytes: &'static [u8]) -> Result<Self, DataError> {
        let source = Source::new(Bytes::Memory(io::Cursor::new(bytes))).map_err(DataError::io(name))?;
        Ok(Self::over(name, source))
    }

    fn over(path: &Path, source: Source) -> Self {
        Self { path: path.to_owned(), source, number: 0, offset: 0, blanks: 0, ready: None, ended: false }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines read so far.
    pub fn lines(&self) -> usize {
        self.number
    }

    /// SHA-256 of the file as it is on disk, in hexadecimal: of all of it once the last line was read.
    pub fn sha256(&self) -> String {
        self.source.sha256()
    }

    /// All that is left to read, as one piece.
    pub(crate) fn read_whole(&mut self) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let mut read = || self.source.reader()?.read_to_end(&mut bytes);
        read().map_err(DataError::io(&self.path))?;
        Ok(bytes)
    }

    /// The next line that is not blank, with blank ones counted into `self.blanks`; `None` at the end.
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
                Err(error) if matches!(self.source, Source::Gzip(_)) && is_damage(&error) => {
                    self.ended = true;
                    Err(BadLine::Gzip(error.to_string()))
                }
                Err(source) => return Err(DataError::Io { path: self.path.clone(), source }),
            };
            self.number += 1;
            if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
                self.blanks += 1;
            } else {
                return Ok(Some(Line { number: self.number, offset, text }));
            }
        }
    }
}

impl Iterator for LineReader {
    type Item = Result<Line, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_none() {
            if self.ended {
                return None;
            }
            match self.line_with_text() {
                Ok(Some(line)) => self.ready = Some(line),
                Ok(None) => {
                    self.ended = true;
                    return None;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        if self.blanks > 0 {
            let number = self.ready.as_ref().map_or(self.number, |line| line.number) - self.blanks;
            self.blanks -= 1;
            return Some(Ok(Line { number, offset: self.offset, text: Err(BadLine::Blank) }));
        }
        self.ready.take().map(Ok)
    }
}

fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

fn decode(mut bytes: Vec<u8>, first: bool) -> Result<String, BadLine> {
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    // Some editors begin a file with a byte order mark, which JSON does not know.
    if first && bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| BadLine::Utf8(error.utf8_error().valid_up_to() + 1))
}

enum Fits {
    Yes,
    No,
}

/// One line without its newline into `line`, or as much of it as fits, and the bytes that it takes in the file; `None` at the
/// end of the file.
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

/// SHA-256 of a file as it is on disk, in hexadecimal.
///
/// # Errors
///
/// [`DataError::Io`].
pub fn sha256(path: &Path) -> Result<String, DataError> {
    let mut file =
        Hashing { bytes: Bytes::File(File::open(path).map_err(DataError::io(path))?), hash: Sha256::new() };
    io::copy(&mut file, &mut io::sink()).map_err(DataError::io(path))?;
    Ok(hexadecimal(file.hash))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// All of a file that is one JSON value, decompressed if it is gzip.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, DataError> {
    LineReader::open(path)?.read_whole()
}

/// The first bytes of a file, decompressed if it is gzip.
pub(crate) fn peek(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut source = Source::open(path)?;
    let bytes = source.reader().and_then(|reader| reader.fill_buf()).map_err(DataError::io(path))?;
    Ok(bytes.to_vec())
}
