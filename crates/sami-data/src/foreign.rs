//! Files that hold no records, told by how they begin.

use std::fmt;

/// A kind of file that is handed over in place of data, by mistake or because a download went
/// wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// What Git keeps in place of a large file.
    LfsPointer,
    /// What git-annex keeps in place of a large file.
    AnnexPointer,
    /// A web page: a log-in form or an error, saved under the file's name.
    Html,
    /// Some other XML.
    Xml,
    /// Compressed by xz.
    Xz,
    /// Compressed by bzip2.
    Bzip2,
    /// Compressed by lz4.
    Lz4,
    /// A 7-Zip archive.
    SevenZip,
    /// A tar archive.
    Tar,
    /// What `torch.save` writes: a ZIP archive with a pickle.
    Torch,
    /// A ZIP archive.
    Zip,
    /// A model of llama.cpp.
    Gguf,
    /// Weights, for example PyTorch's `consolidated.safetensors`.
    Safetensors,
    /// A Python pickle.
    Pickle,
    /// Apache Arrow's own format, as `datasets` keeps in its cache.
    Arrow,
    /// Apache Avro.
    Avro,
    /// Apache ORC.
    Orc,
    /// HDF5.
    Hdf5,
    /// An SQLite database.
    Sqlite,
    /// A PDF document.
    Pdf,
    /// Text in UTF-16.
    Utf16,
    /// Something compressed within what is compressed.
    Inner,
}

/// How files begin that are told by that alone.
const MARKS: &[(&[u8], Foreign)] = &[
    (b"version https://git-lfs.github.com/spec/", Foreign::LfsPointer),
    (b"/annex/objects/", Foreign::AnnexPointer),
    (b"<?xml", Foreign::Xml),
    (b"\xfd7zXZ\0", Foreign::Xz),
    (b"BZh91AY&SY", Foreign::Bzip2),
    (b"\x04\x22\x4d\x18", Foreign::Lz4),
    (b"7z\xbc\xaf\x27\x1c", Foreign::SevenZip),
    (b"GGUF\x02\0", Foreign::Gguf),
    (b"GGUF\x03\0", Foreign::Gguf),
    (b"ARROW1\0\0", Foreign::Arrow),
    (b"\xff\xff\xff\xff", Foreign::Arrow),
    (b"Obj\x01", Foreign::Avro),
    (b"\x89HDF\r\n", Foreign::Hdf5),
    (b"SQLite format 3\0", Foreign::Sqlite),
    (b"%PDF-", Foreign::Pdf),
    (b"\xff\xfe", Foreign::Utf16),
    (b"\xfe\xff", Foreign::Utf16),
    // Files that begin so are read themselves; here it is what a compressed file holds.
    (b"\x1f\x8b", Foreign::Inner),
    (b"\x28\xb5\x2f\xfd", Foreign::Inner),
    (b"PAR1", Foreign::Inner),
];

impl Foreign {
    /// The kind of file that begins with these bytes, if it is one of them.
    pub(crate) fn recognise(begin: &[u8]) -> Option<Self> {
        if let Some((_, kind)) = MARKS.iter().find(|(mark, _)| begin.starts_with(mark)) {
            return Some(*kind);
        }
        if begin.starts_with(b"PK\x03\x04") {
            let named = |name: &[u8]| begin.windows(name.len()).any(|window| window == name);
            return Some(if named(b"/data.pkl") { Self::Torch } else { Self::Zip });
        }
        match begin {
            // Pickles name their protocol; the oldest ones are text.
            [0x80, 2..=5, ..] => return Some(Self::Pickle),
            // A byte that begins no text follows.
            [b'O', b'R', b'C', 0..=0x1f, ..] => return Some(Self::Orc),
            // JSON in UTF-16 without its mark.
            [b'{' | b'[' | b'"', 0, ..] | [0, b'{' | b'[' | b'"', ..] => return Some(Self::Utf16),
            _ => {}
        }
        if begin.get(257..262) == Some(b"ustar") {
            return Some(Self::Tar);
        }
        // The header's length, which fits in three bytes, and the header: a JSON object.
        if let [_, _, _, 0, 0, 0, 0, 0, b'{', ..] = begin {
            return Some(Self::Safetensors);
        }
        let text = begin.trim_ascii_start();
        let is = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        [&b"<!doctype html"[..], b"<html", b"<head", b"<body"].into_iter().any(is).then_some(Self::Html)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LfsPointer => "a Git LFS pointer, not the data; fetch the data with `git lfs pull`",
            Self::AnnexPointer => "a git-annex pointer, not the data; fetch the data with `git annex get`",
            Self::Html => "an HTML page, not data; the download gave a web page, so look at its address",
            Self::Xml => "XML; write it as JSON lines",
            Self::Xz => "compressed by xz; decompress it with `xz -d`, or compress it with gzip or zstd",
            Self::Bzip2 => "compressed by bzip2; decompress it with `bzip2 -d`, or use gzip or zstd",
            Self::Lz4 => "compressed by lz4; decompress it with `lz4 -d`, or use gzip or zstd",
            Self::SevenZip => "a 7-Zip archive; unpack it, and give the files in it",
            Self::Tar => "a tar archive; unpack it with `tar -x`, and give the files in it",
            Self::Torch => "a PyTorch file (a ZIP archive with a pickle), not data",
            Self::Zip => "a ZIP archive; unpack it with `unzip`, and give the files in it",
            Self::Gguf => "a GGUF file, a model of llama.cpp, not data",
            Self::Safetensors => "a safetensors file, weights of a model, not data",
            Self::Pickle => "a Python pickle; write its records as JSON lines",
            Self::Arrow => "an Arrow file; write it as Parquet or JSON lines (`Dataset.to_json`)",
            Self::Avro => "an Avro file; write it as Parquet or JSON lines",
            Self::Orc => "an ORC file; write it as Parquet or JSON lines",
            Self::Hdf5 => "an HDF5 file; write it as Parquet or JSON lines",
            Self::Sqlite => "an SQLite database; write its rows as JSON lines",
            Self::Pdf => "a PDF document, not data",
            Self::Utf16 => "text in UTF-16; convert it to UTF-8 (`iconv -f UTF-16 -t UTF-8`)",
            Self::Inner => "compressed twice, or a compressed Parquet file; decompress it once",
        })
    }
}
