//! The bytes of a data file: plain, decompressed, or the rows of a Parquet file.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::ParquetRows;
use crate::error::DataError;
use crate::foreign::Foreign;

/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";
const GZIP: &[u8] = &[0x1f, 0x8b];
const BUFFER: usize = 1 << 16;

/// Decoded bytes, and the hash of those on disk.
pub(crate) enum Source {
    Plain(BufReader<Hashing>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<Hashing>>>>),
    Zstd(Box<BufReader<ZstdDecoder<'static, BufReader<Hashing>>>>),
    /// Read from its end, so its hash is taken once the rows were.
    Parquet {
        rows: Box<ParquetRows>,
        sha256: String,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.compression().unwrap_or(match self {
            Self::Parquet { .. } => "parquet",
            _ => "plain",
        });
        f.debug_tuple("Source").field(&kind).finish()
    }
}

/// Hashes bytes as they are on disk, while they are read.
pub(crate) struct Hashing {
    bytes: Bytes,
    hash: Sha256,
}

pub(crate) enum Bytes {
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
    /// Opens a file, and refuses what is known to hold no records.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let at = || DataError::io(path);
        let file = File::open(path).map_err(at())?;
        if file.metadata().map_err(at())?.is_dir() {
            return Err(at()(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let mut source = Self::new(Bytes::File(file)).map_err(at())?;
        if let Self::Plain(reader) = &source
            && reader.buffer().starts_with(PARQUET)
        {
            let rows = ParquetRows::open(File::open(path).map_err(at())?);
            let rows = rows.map_err(|reason| DataError::Parquet { path: path.to_owned(), reason })?;
            return Ok(Self::Parquet { rows: Box::new(rows), sha256: String::new() });
        }
        // What is damaged is said with the line that it damages.
        if let Ok(begin) = source.reader().and_then(|reader| reader.fill_buf())
            && let Some(kind) = Foreign::recognise(begin)
        {
            return Err(DataError::Foreign { path: path.to_owned(), kind });
        }
        Ok(source)
    }

    /// Bytes of the program.
    pub(crate) fn embedded(bytes: &'static [u8]) -> io::Result<Self> {
        Self::new(Bytes::Memory(io::Cursor::new(bytes)))
    }

    fn new(bytes: Bytes) -> io::Result<Self> {
        let mut raw = BufReader::with_capacity(BUFFER, Hashing { bytes, hash: Sha256::new() });
        let begin = raw.fill_buf()?;
        Ok(if begin.starts_with(GZIP) {
            Self::Gzip(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw))))
        } else if is_zstd(begin) {
            let decoder = ZstdDecoder::with_buffer(raw)?;
            Self::Zstd(Box::new(BufReader::with_capacity(BUFFER, decoder)))
        } else {
            Self::Plain(raw)
        })
    }

    /// The decoded bytes; a Parquet file has none that mean anything in their order.
    pub(crate) fn reader(&mut self) -> io::Result<&mut dyn BufRead> {
        match self {
            Self::Plain(reader) => Ok(reader),
            Self::Gzip(reader) => Ok(reader.as_mut()),
            Self::Zstd(reader) => Ok(reader.as_mut()),
            Self::Parquet { .. } => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is a Parquet file, and only queries, one a row, are read from those; write it as JSON",
            )),
        }
    }

    /// The name of the compression around the whole file.
    pub(crate) fn compression(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) | Self::Parquet { .. } => None,
            Self::Gzip(_) => Some("gzip"),
            Self::Zstd(_) => Some("zstd"),
        }
    }

    pub(crate) fn sha256(&self) -> String {
        let hash = match self {
            Self::Plain(reader) => &reader.get_ref().hash,
            Self::Gzip(reader) => &reader.get_ref().get_ref().get_ref().hash,
            Self::Zstd(reader) => &reader.get_ref().get_ref().get_ref().hash,
            Self::Parquet { sha256, .. } => return sha256.clone(),
        };
        hexadecimal(hash.clone())
    }
}

/// A frame, or one to be skipped, which some programs write first.
fn is_zstd(begin: &[u8]) -> bool {
    matches!(begin, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
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
