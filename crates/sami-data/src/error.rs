//! What can be wrong with files of data.

use std::path::{Path, PathBuf};

use sami_constitution::TaskProblem;
use thiserror::Error;

use crate::bad_line::BadLine;
use crate::finite::NotFinite;
use crate::foreign::Foreign;
use crate::pairs::PairProblem;
use crate::records::Place;
use crate::shape::ShapeProblem;

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
    /// A record that gives no query, in a file whose lines are no records.
    #[error("{path}, {place}: {problem}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which one.
        place: Place,
        /// What is wrong.
        problem: BadLine,
    },
    /// A file of another kind.
    #[error("{path} is {kind}", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        kind: Foreign,
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
    /// A format and a field that do not go together.
    #[error(transparent)]
    Shape(#[from] ShapeProblem),
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
    pub(crate) fn at(path: &Path, place: Place, problem: BadLine) -> Self {
        let path = path.to_owned();
        match place {
            Place::Line(line) => Self::Line { path, line, problem },
            place => Self::Record { path, place, problem },
        }
    }

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
