//! The JSON of the paper's own code: `{"0": [{"prompt", "response", "example_id"}, …C entries…], …}`.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use crate::error::DataError;
use crate::lines::read_whole;
use crate::pairs::{PairConstitution, PairProblem, PairRecord, PairResponse};

/// The entries under one key: one per constitution.
pub(crate) type Entries = Vec<Entry>;

#[derive(Debug, DeriveDeserialize)]
pub(crate) struct Entry {
    prompt: Option<String>,
    response: Option<String>,
}

/// Whether a file's first bytes are those of such a JSON: an object (perhaps over many lines) whose first key is a number. An
/// object without keys counts too.
pub(crate) fn begins_like_one(bytes: &[u8]) -> bool {
    let mut rest = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    rest.next() == Some(b'{')
        && match rest.next() {
            Some(b'"') => rest.next().is_some_and(|byte| byte.is_ascii_digit()),
            first => first == Some(b'}'),
        }
}

/// A JSON object's entries in the order of the file.
struct InOrder(Vec<(String, Entries)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a list of {\"prompt\", \"response\"} under each number")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<InOrder, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Reads a file: its keys with their entries, in order.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, Entries)>, DataError> {
    let entries: InOrder = serde_json::from_slice(&read_whole(path)?).map_err(DataError::json(path))?;
    if entries.0.is_empty() {
        return Err(DataError::EmptyFile { path: path.to_owned() });
    }
    Ok(entries.0)
}

/// The contrast set under one key: C prompts, C responses, response k to constitution k.
pub(crate) fn record(id: String, entries: Entries) -> Result<PairRecord, PairProblem> {
    let mut record = PairRecord {
        id,
        query: String::new(),
        constitutions: Vec::with_capacity(entries.len()),
        prompts: Vec::with_capacity(entries.len()),
        responses: Vec::with_capacity(entries.len()),
        rejected: Vec::new(),
        refusal: None,
    };
    for (index, entry) in entries.into_iter().enumerate() {
        let missing = |field| PairProblem::PaperField { entry: index, field };
        record.prompts.push(entry.prompt.ok_or(missing("prompt"))?);
        record.constitutions.push(PairConstitution { id: index.to_string(), text: String::new() });
        let text = entry.response.ok_or(missing("response"))?;
        record.responses.push(PairResponse { constitution: index, text, token_ids: None, finish: None });
    }
    Ok(record)
}

#[derive(Serialize)]
struct EntryOut<'a> {
    prompt: &'a str,
    response: &'a str,
    example_id: usize,
}

/// Writes kept records in the paper's format, numbered from 0; rejected ones are left out. Token ids, constitutions and
/// queries have no place in it.
///
/// # Errors
///
/// [`DataError::BadRecord`] for a set whose responses are not one per constitution in their order; [`DataError::Io`] with
/// `path`, which is used in messages only.
pub fn write_paper_pairs<'a>(
    path: &Path,
    writer: &mut dyn Write,
    records: impl IntoIterator<Item = &'a PairRecord>,
) -> Result<(), DataError> {
    let at = || DataError::io(path);
    writer.write_all(b"{").map_err(at())?;
    for (number, record) in records.into_iter().filter(|record| record.is_kept()).enumerate() {
        let in_order =
            record.responses.iter().map(|response| response.constitution).eq(0..record.prompts.len());
        let shape = if in_order { record.check() } else { Err(PairProblem::NotPaperShaped) };
        shape.map_err(|problem| DataError::BadRecord { id: record.id.clone(), problem })?;
        let entries: Vec<_> = record
            .prompts
            .iter()
            .zip(&record.responses)
            .map(|(prompt, response)| EntryOut { prompt, response: &response.text, example_id: number })
            .collect();
        let separator = if number == 0 { "" } else { "," };
        write!(writer, "{separator}\n\"{number}\": ").map_err(at())?;
        serde_json::to_writer(&mut *writer, &entries).map_err(io::Error::from).map_err(at())?;
    }
    writer.write_all(b"\n}\n").map_err(at())
}
