//! What a record of a file of queries is, and where its query stands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the records of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryFormat {
    /// Told by each record's fields: a dialogue of HH-RLHF, a TL;DR comparison, the paper's TL;DR posts, or an object as
    /// [`QueryFormat::Jsonl`] describes it. A record that is none of them is refused.
    #[default]
    Auto,
    /// A dialogue of HH-RLHF, `{"chosen": "\n\nHuman: …\n\nAssistant: …", …}`: its first human turn
    /// is the query; later turns and the preference label are left unread.
    HhRlhf,
    /// A JSON string, or an object with the query as text or as a list of turns under `query`, `prompt`, `question`,
    /// `instruction` (with `input` or `context` below it), `messages`, `conversations` or `conversation`, and perhaps an
    /// `id`. Of turns the first user turn is the query. `query` decides alone; others that are there must agree. A list of
    /// turns under `chosen` counts where none of them is there.
    Jsonl,
    /// Plain text, a query on each line.
    Text,
    /// The paper's file of TL;DR posts: one JSON object with `question`, read as a whole.
    Tldr,
    /// A comparison of the TL;DR dataset, `{"info": {"id": "t3_…", "post": …}, "summaries": …}`.
    /// Its post is the query; a post has several comparisons, of which the first is taken, by `id`.
    TldrComparisons,
}

/// A place in a record: names of fields, and positions in lists, from 0. Written `info.post` or
/// `turns.0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldPath {
    first: String,
    rest: Vec<String>,
}

impl FieldPath {
    /// The record's own field, and what follows below it.
    pub(crate) fn parts(&self) -> (&str, &[String]) {
        (&self.first, &self.rest)
    }
}

impl FromStr for FieldPath {
    type Err = ShapeProblem;

    fn from_str(text: &str) -> Result<Self, ShapeProblem> {
        let mut parts = text.split('.').map(str::to_owned);
        let (first, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
        if first.is_empty() || rest.iter().any(String::is_empty) {
            return Err(ShapeProblem::EmptyPart(text.to_owned()));
        }
        Ok(Self { first, rest })
    }
}

impl TryFrom<String> for FieldPath {
    type Error = ShapeProblem;

    fn try_from(text: String) -> Result<Self, ShapeProblem> {
        text.parse()
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        self.rest.iter().try_for_each(|part| write!(f, ".{part}"))
    }
}

/// Why a field cannot be looked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ShapeProblem {
    /// `a..b`, or nothing at all.
    #[error("{0:?} names no field; write it as name or outer.inner")]
    EmptyPart(String),
    /// A format that says itself where its query stands.
    #[error("the format {} says itself where its query stands; a field goes with auto or jsonl", name(*.0))]
    FormatHasField(QueryFormat),
}

fn name(format: QueryFormat) -> String {
    let name = serde_json::to_value(format);
    name.ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A format, and perhaps the field that holds the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryShape {
    format: QueryFormat,
    field: Option<FieldPath>,
}

impl QueryShape {
    /// Records of a format, with their query in `field` if there is one: text, or a list of turns.
    ///
    /// # Errors
    ///
    /// [`ShapeProblem::FormatHasField`].
    pub fn new(format: QueryFormat, field: Option<FieldPath>) -> Result<Self, ShapeProblem> {
        match format {
            QueryFormat::Auto | QueryFormat::Jsonl => Ok(Self { format, field }),
            _ if field.is_none() => Ok(Self { format, field }),
            _ => Err(ShapeProblem::FormatHasField(format)),
        }
    }

    /// What the records are.
    pub fn format(&self) -> QueryFormat {
        self.format
    }

    /// Where the query stands, if not where the format says.
    pub fn field(&self) -> Option<&FieldPath> {
        self.field.as_ref()
    }
}

impl From<QueryFormat> for QueryShape {
    fn from(format: QueryFormat) -> Self {
        Self { format, field: None }
    }
}
