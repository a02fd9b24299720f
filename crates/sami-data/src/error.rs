//! What can be wrong with files of data.

use std::path::{Path, PathBuf};

use sami_constitution::TaskProblem;
use thiserror::Error;

use crate::finite::NotFinite;
use crate::pairs::PairProblem;

/// Why a line gives no query.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadLine {
    /// A blank line between others.
    #[error("the line is blank; remove it")]
    Blank,
    /// Bytes that are no text.
    #[error("the line is not UTF-8 (byte {0} of the line); convert the file to UTF-8")]
    Utf8(usize),
    /// Not JSON, or a value of the wrong type.
    #[error("{message} (column {column})")]
    Json {
        /// What the parser said.
        message: String,
        /// Where in the line, from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("the line is no JSON object, {{…}}")]
    NoObject,
    /// A field that the format needs is absent.
    #[error("the line has no field {0}")]
    NoField(&'static str),
    /// HH-RLHF marks turns.
    #[error("\"chosen\" does not begin with \"\\n\\nHuman:\", so it has no first human turn")]
    NoHumanTurn,
    /// A query without text.
    #[error("the query is empty")]
    Empty,
    /// Two queries under one id.
    #[error("the id {0:?} is there twice; ids must differ")]
    RepeatedId(String),
    /// More than [`crate::MAX_LINE_BYTES`].
    #[error("the line is longer than {0} bytes; is this a JSONL file?")]
    TooLong(usize),
    /// A gzip file that ends early or does not match its checksum.
    #[error("the gzip data is damaged or cut off ({0}); fetch the file again")]
    Gzip(String),
    /// A Parquet file whose pages do not say what its description promises.
    #[error("the Parquet data is damaged or cut off ({0}); fetch the file again")]
    Parquet(String),
}

impl BadLine {
    /// A short name to count by, for example `not-json`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Utf8(_) => "not-utf-8",
            Self::Json { .. } => "not-json",
            Self::NoObject => "no-object",
            Self::NoField(_) => "no-field",
            Self::NoHumanTurn => "no-human-turn",
            Self::Empty => "empty-query",
            Self::RepeatedId(_) => "repeated-id",
            Self::TooLong(_) => "too-long",
            Self::Gzip(_) => "damaged-gzip",
            Self::Parquet(_) => "damaged-parquet",
        }
    }

    /// Reads one line as a JSON object.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, Self> {
        // Serde would take a list for an object with fields in order.
        if line.trim_start().starts_with('[') {
            return Err(Self::NoObject);
        }
        serde_json::from_str(line).map_err(|error| Self::json(&error))
    }

    fn json(error: &serde_json::Error) -> Self {
        // serde_json appends its own line and column, which are those of the line alone.
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Self::Json { message, column: error.column() }
    }
}

/// Why data cannot be read or written.
#[derive(Debug, Error)]
pub enum DataError {
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that gives no query.
    #[error("{path}, line {line}: {problem}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: BadLine,
    },
    /// A Parquet file that cannot be read at all.
    #[error("{path} is a Parquet file that cannot be read: {reason}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, or with this program.
        reason: String,
    },
    /// A file without any line.
    #[error("{path} is empty; it should hold one JSON object per line", path = path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// Every line was skipped.
    #[error("{path} holds no query: all {skipped} lines were skipped ({reasons}); is its format the one given?", path = path.display())]
    NoQuery {
        /// The file.
        path: PathBuf,
        /// Its lines.
        skipped: usize,
        /// Reasons with their counts.
        reasons: String,
    },
    /// A figure that no file may hold. Nothing was written.
    #[error("{path} cannot be written: {source}", path = path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The figure.
        source: NotFinite,
    },
    /// No file was given.
    #[error("no file of queries is given; name at least one")]
    NoFile,
    /// A pair record that no contrast set can be made of.
    #[error("{path}, line {line}: query {id:?}: {problem}", path = path.display())]
    Pair {
        /// The file.
        path: PathBuf,
        /// From 1; in the paper's JSON the number of the entry.
        line: usize,
        /// The record's id.
        id: String,
        /// What is wrong.
        problem: PairProblem,
    },
    /// A pair record that must not be written.
    #[error("query {id:?}: {problem}")]
    BadRecord {
        /// The record's id.
        id: String,
        /// What is wrong.
        problem: PairProblem,
    },
    /// A JSON file that is read as a whole.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and column.
        source: serde_json::Error,
    },
    /// A posts file whose columns do not belong together.
    #[error("{path}: entry {key:?} of {present} has no counterpart in {absent}", path = path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
        /// The column that holds it.
        present: &'static str,
        /// The column that does not.
        absent: &'static str,
    },
    /// Rules for responses that mean nothing.
    #[error(transparent)]
    Rules(#[from] TaskProblem),
    /// A file has fewer lines than were written to it.
    #[error("{path} has {found} whole lines, but {expected} were written; restore it, or begin anew in another directory", path = path.display())]
    LinesLost {
        /// The file.
        path: PathBuf,
        /// Lines found.
        found: usize,
        /// Lines that should be there.
        expected: usize,
    },
    /// A file was changed by somebody else while it was read.
    #[error("{path} is no longer what it was when it was read first; restore it, and run the same command again", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Another process works in the run directory.
    #[error("{path} is in use by another process{holder}; wait for it to end, or choose another directory", path = path.display())]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// ` (process N)` where known.
        holder: String,
    },
    /// A state of a later version.
    #[error("{path} has format {found}, and this version reads format {expected}; use the version that made it, or another directory", path = path.display())]
    StateFormat {
        /// The state file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        expected: u32,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn not_finite(path: &Path) -> impl FnOnce(NotFinite) -> Self {
        let path = path.to_owned();
        move |source| Self::NotFinite { path, source }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }
}
