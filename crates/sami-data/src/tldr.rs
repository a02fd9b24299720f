//! The paper's files of TL;DR posts and summaries.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::DataError;
use crate::lines::read_whole;

/// A post, and what a model wrote about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TldrRecord {
    /// The entry's key: `0`, `1`, ….
    pub id: String,
    /// The post, without the mark `POST: ` that the file puts before it.
    pub post: String,
    /// The constitution that the summary was asked to follow, as text, where the file has it.
    pub constitution: Option<String>,
    /// The summary, where the file has it.
    pub response: Option<String>,
}

type Column = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Columns {
    question: Column,
    constitution: Option<Column>,
    response: Option<Column>,
}

/// Reads `{"constitution": {"0": …}, "question": {"0": "POST: …"}, "response": {"0": …}}`, entries in the order of their
/// numbers.
///
/// # Errors
///
/// [`DataError::Io`]; [`DataError::Json`]; [`DataError::Columns`] for a post without a summary or constitution, or one of
/// them without a post, in a file that has such a column.
pub fn read_tldr(path: &Path) -> Result<Vec<TldrRecord>, DataError> {
    parse(path, &read_whole(path)?)
}

pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<TldrRecord>, DataError> {
    let columns: Columns = serde_json::from_slice(bytes).map_err(DataError::json(path))?;
    let missing = |key: &str, present, absent| DataError::Columns {
        path: path.to_owned(),
        key: key.to_owned(),
        present,
        absent,
    };
    for (name, column) in [("constitution", &columns.constitution), ("response", &columns.response)] {
        if let Some(key) =
            column.iter().flat_map(Column::keys).find(|key| !columns.question.contains_key(*key))
        {
            return Err(missing(key, name, "question"));
        }
    }
    let cell = |column: &Option<Column>, key: &str, name| match column {
        None => Ok(None),
        Some(column) => column.get(key).cloned().map(Some).ok_or_else(|| missing(key, "question", name)),
    };
    let mut records = Vec::with_capacity(columns.question.len());
    for (key, post) in &columns.question {
        records.push(TldrRecord {
            id: key.clone(),
            post: post.strip_prefix("POST:").unwrap_or(post.as_str()).trim().to_owned(),
            constitution: cell(&columns.constitution, key, "constitution")?,
            response: cell(&columns.response, key, "response")?,
        });
    }
    // Sorted as text so far: 10 before 2.
    records.sort_by_key(|record| (record.id.parse::<u64>().unwrap_or(u64::MAX), record.id.clone()));
    Ok(records)
}
