//! What can be wrong with one record.

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::parse::KNOWN;
use crate::turns::kind;

/// The names of a record's fields, for messages: the first ones, if there are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields(Vec<String>);

/// Fields that a message names.
const NAMED: usize = 8;
/// Characters of a name that a message shows.
const SHOWN: usize = 40;

impl Fields {
    pub(crate) fn of(record: &Map<String, Value>) -> Self {
        Self(record.keys().map(|name| name.chars().take(SHOWN).collect()).collect())
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let named: Vec<_> = self.0.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
        f.write_str(&named.join(", "))?;
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Why a record gives no query.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadLine {
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
    /// Something else than JSON: plain text, a table.
    #[error(
        "it is not JSON, for it begins with {begin:?}; plain text with a query on each line has the format text"
    )]
    NoJson {
        /// Its first characters.
        begin: String,
    },
    /// JSON, but no object.
    #[error("the line is no JSON object, {{…}}")]
    NoObject,
    /// A JSON array that is not whole.
    #[error("the JSON array is damaged: {0}")]
    Array(&'static str),
    /// What Git leaves in a file that it could not merge.
    #[error("it is a mark of a Git merge conflict; resolve the conflict in this file first")]
    MergeConflict,
    /// A field that the format needs is absent.
    #[error("the record has no field {wanted}; its fields: {found}")]
    NoField {
        /// Its name.
        wanted: String,
        /// Those that are there.
        found: Fields,
    },
    /// No field has a name that says that it holds a query.
    #[error(
        "the record has no field that is known to hold a query ({KNOWN}); its fields: {found}; name one of them as the query field"
    )]
    NoQueryField {
        /// Those that are there.
        found: Fields,
    },
    /// Two fields that say different things.
    #[error("the fields {one} and {other} hold different texts; name one of them as the query field")]
    Ambiguous {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A field of another type.
    #[error("the field {field} holds {found}, not {wanted}")]
    Type {
        /// Its name.
        field: String,
        /// What it holds.
        found: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// HH-RLHF marks turns.
    #[error("\"chosen\" does not begin with \"\\n\\nHuman:\", so it has no first human turn")]
    NoHumanTurn,
    /// Turns of which some are marked otherwise, or not on lines of their own.
    #[error(
        "its first human turn holds \"Human:\" or \"Assistant:\", marked otherwise than elsewhere in the dialogue, so where the \
         turn ends is not clear"
    )]
    TurnMark,
    /// A conversation that the user does not begin.
    #[error("its list of turns does not begin with one of the user{}", said_first(.first))]
    NoUserTurn {
        /// Whose turn is first; empty where there is none.
        first: String,
    },
    /// An element of a list of turns that is no turn.
    #[error("turn {turn} has no role and content, and no from and value; it is {found}")]
    Turn {
        /// From 1.
        turn: usize,
        /// What it is.
        found: String,
    },
    /// A turn that is not text alone.
    #[error("turn {turn} holds {found}, not text")]
    TurnText {
        /// From 1.
        turn: usize,
        /// What it holds.
        found: String,
    },
    /// A query without text.
    #[error("the query is empty")]
    Empty,
    /// Two queries under one id.
    #[error("the id {0:?} is there twice; ids must differ")]
    RepeatedId(String),
    /// More than [`crate::MAX_LINE_BYTES`].
    #[error("the line is longer than {0} bytes; is this a JSONL file?")]
    TooLong(usize),
    /// A compressed file that ends early or does not match its checksum.
    #[error("the {kind} data is damaged or cut off ({reason}); fetch the file again")]
    Compressed {
        /// `gzip` or `zstd`.
        kind: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A Parquet file whose pages do not say what its description promises.
    #[error("the Parquet data is damaged or cut off ({0}); fetch the file again")]
    Parquet(String),
}

fn said_first(role: &str) -> String {
    match role {
        "" => String::new(),
        role => format!(", but with one of {role:?}"),
    }
}

impl BadLine {
    /// A short name to count by, for example `not-json`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Utf8(_) => "not-utf-8",
            Self::Json { .. } | Self::NoJson { .. } => "not-json",
            Self::NoObject => "no-object",
            Self::Array(_) => "damaged-array",
            Self::MergeConflict => "merge-conflict",
            Self::NoField { .. } | Self::NoQueryField { .. } => "no-field",
            Self::Ambiguous { .. } => "ambiguous-fields",
            Self::Type { .. } => "wrong-type",
            Self::NoHumanTurn => "no-human-turn",
            Self::TurnMark => "unclear-turns",
            Self::NoUserTurn { .. } => "no-user-turn",
            Self::Turn { .. } | Self::TurnText { .. } => "bad-turn",
            Self::Empty => "empty-query",
            Self::RepeatedId(_) => "repeated-id",
            Self::TooLong(_) => "too-long",
            Self::Compressed { kind: "zstd", .. } => "damaged-zstd",
            Self::Compressed { .. } => "damaged-gzip",
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

    pub(crate) fn json(error: &serde_json::Error) -> Self {
        // serde_json appends its own line and column, which are those of the line alone.
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Self::Json { message, column: error.column() }
    }

    pub(crate) fn no_json(line: &str) -> Self {
        Self::NoJson { begin: line.trim_start().chars().take(20).collect() }
    }

    pub(crate) fn no_field(wanted: &str, record: &Map<String, Value>) -> Self {
        Self::NoField { wanted: wanted.to_owned(), found: Fields::of(record) }
    }

    pub(crate) fn wrong_type(field: &str, found: &Value, wanted: &'static str) -> Self {
        Self::Type { field: field.to_owned(), found: kind(found), wanted }
    }
}
