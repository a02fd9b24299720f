//! The queries of one file as they stand in it: the one reader behind queries, their index and
//! prompts.

use std::path::{Path, PathBuf};

use crate::bad_line::BadLine;
use crate::error::DataError;
use crate::lines::LineReader;
use crate::parse::{Parsed, is_posts, parse};
use crate::records::{Place, RecordReader};
use crate::shape::{QueryFormat, QueryShape};
use crate::tldr;

/// A file, or bytes of the program under a name.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    File(PathBuf),
    Embedded(PathBuf, &'static [u8]),
}

impl Input {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Embedded(path, _) => path,
        }
    }

    fn open(&self) -> Result<LineReader, DataError> {
        match self {
            Self::File(path) => LineReader::open(path),
            Self::Embedded(name, bytes) => LineReader::embedded(name, bytes),
        }
    }
}

/// One entry of a file.
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) parsed: Result<Parsed, BadLine>,
}

/// Reads a file's entries in order.
#[derive(Debug)]
pub(crate) struct Entries {
    shape: QueryShape,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Records(Box<RecordReader>),
    Posts { posts: std::iter::Enumerate<std::vec::IntoIter<(String, String)>>, sha256: String },
}

impl Entries {
    pub(crate) fn open(input: &Input, shape: &QueryShape) -> Result<Self, DataError> {
        let lines = input.open()?;
        let shape = shape.clone();
        let mut records = match shape.format() {
            QueryFormat::Tldr => return Self::posts(lines, shape),
            QueryFormat::Text => RecordReader::lines(lines),
            _ => RecordReader::json(lines),
        };
        if shape == QueryFormat::Auto.into()
            && let Some(first) = records.peek()?
            && first.text.as_ref().is_ok_and(|text| is_posts(text))
        {
            return Self::posts(input.open()?, shape);
        }
        Ok(Self { shape, content: Content::Records(Box::new(records)) })
    }

    fn posts(mut lines: LineReader, shape: QueryShape) -> Result<Self, DataError> {
        let whole = lines.read_whole()?;
        let posts: Vec<_> =
            tldr::parse(lines.path(), &whole)?.into_iter().map(|one| (one.id, one.post)).collect();
        let posts = posts.into_iter().enumerate();
        Ok(Self { shape, content: Content::Posts { posts, sha256: lines.sha256() } })
    }

    /// The next entry; `None` after the last. Ids of posts stand behind the file's `label`, for
    /// they are numbers in each file.
    pub(crate) fn next(&mut self, label: &str) -> Result<Option<Entry>, DataError> {
        Ok(match &mut self.content {
            Content::Records(records) => records.next()?.map(|record| Entry {
                place: record.place,
                parsed: record.text.and_then(|text| parse(&self.shape, &text)),
            }),
            Content::Posts { posts, .. } => posts.next().map(|(index, (id, text))| Entry {
                place: Place::Record { number: index + 1, line: None },
                parsed: Ok(Parsed { id: Some(format!("{label}:{id}")), text, mend: None, repeats: false }),
            }),
        })
    }

    /// Of the file as it is on disk, once its last entry was read.
    pub(crate) fn sha256(&self) -> String {
        match &self.content {
            Content::Records(records) => records.sha256(),
            Content::Posts { sha256, .. } => sha256.clone(),
        }
    }
}

/// Prompts as they stand in a file: every one, and every character of it. Of turns the first user
/// turn is taken.
///
/// # Errors
///
/// The first bad record with its place; a file without records; what the system refuses.
pub fn read_prompts(path: &Path, shape: impl Into<QueryShape>) -> Result<Vec<String>, DataError> {
    let mut entries = Entries::open(&Input::File(path.to_owned()), &shape.into())?;
    let mut prompts = Vec::new();
    while let Some(Entry { place, parsed }) = entries.next("")? {
        prompts.push(parsed.map_err(|problem| DataError::at(path, place, problem))?.text);
    }
    if prompts.is_empty() {
        return Err(DataError::EmptyFile { path: path.to_owned() });
    }
    Ok(prompts)
}
