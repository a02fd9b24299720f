//! Responses to be compared, from our pairs or the paper's files.

use std::path::{Path, PathBuf};

use sami_data::{DataError, PairReader, read_tldr};
use thiserror::Error;

/// One model's response to one query under one constitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The query's id.
    pub id: String,
    /// The query.
    pub query: String,
    /// The constitution's id, for example `harmless+helpful`; [`STATED`] in the paper's files, which give each query one.
    pub constitution: String,
    /// The constitution as the model read it.
    pub constitution_text: String,
    /// The response, without white space around it.
    pub response: String,
}

/// Stands for the constitution's id where a file has text only.
pub const STATED: &str = "stated";

/// Why a file gives no responses.
#[derive(Debug, Error)]
pub enum AnswersError {
    /// Unreadable as the format that it looks like.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The paper's file of posts without summaries.
    #[error("{path}: entry {id:?} has no {column}; give the file that a model's responses were written to", path = path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The entry.
        id: String,
        /// `response` or `constitution`.
        column: &'static str,
    },
    /// Pairs of the paper's training format have prompts, and no query or constitution of their own.
    #[error("{path}: set {id:?} has no query or no constitution text, so no judge can read it; give pairs that `sami generate` or `sami eval mi` wrote", path = path.display())]
    PromptsOnly {
        /// The file.
        path: PathBuf,
        /// The set.
        id: String,
    },
}

/// Reads a file of responses: pairs as `sami generate` and `sami eval mi` write them, or the paper's response file
/// (`{"constitution": {"0": …}, "question": …, "response": …}`). Which one is told by the content. Sets that a filter
/// rejected are read too: a model must not win by having its bad responses left out.
///
/// # Errors
///
/// [`AnswersError`], which names the file and the line or entry.
pub fn read_answers(path: &Path) -> Result<Vec<Answer>, AnswersError> {
    if looks_like_columns(path)? {
        return from_columns(path);
    }
    let mut answers = Vec::new();
    for record in PairReader::open(path)? {
        let record = record?;
        for response in &record.responses {
            // The reader has checked that the index is in range.
            let Some(constitution) = record.constitutions.get(response.constitution) else { continue };
            if record.query.is_empty() || constitution.text.is_empty() {
                return Err(AnswersError::PromptsOnly { path: path.to_owned(), id: record.id });
            }
            answers.push(Answer {
                id: record.id.clone(),
                query: record.query.clone(),
                constitution: constitution.id.clone(),
                constitution_text: constitution.text.clone(),
                response: response.text.trim().to_owned(),
            });
        }
    }
    Ok(answers)
}

/// A single JSON object with the column `question`; a line of pairs has no such key.
fn looks_like_columns(path: &Path) -> Result<bool, DataError> {
    let mut lines = sami_data::LineReader::open(path)?;
    for _ in 0..3 {
        let Some(line) = lines.next().transpose()? else { return Ok(false) };
        let Ok(text) = line.text else { return Ok(false) };
        let start = text.trim_start().trim_start_matches('{').trim_start();
        if ["\"constitution\":", "\"question\":", "\"response\":"].iter().any(|key| start.starts_with(key)) {
            return Ok(true);
        }
        if !start.is_empty() {
            return Ok(false);
        }
    }
    Ok(false)
}

fn from_columns(path: &Path) -> Result<Vec<Answer>, AnswersError> {
    let absent = |id: &str, column| AnswersError::Column { path: path.to_owned(), id: id.to_owned(), column };
    let mut answers = Vec::new();
    for record in read_tldr(path)? {
        let response = record.response.ok_or_else(|| absent(&record.id, "response"))?;
        answers.push(Answer {
            constitution: STATED.to_owned(),
            constitution_text: record.constitution.ok_or_else(|| absent(&record.id, "constitution"))?,
            response: response.trim().to_owned(),
            query: record.post,
            id: record.id,
        });
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Answer>, AnswersError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("responses.json");
        std::fs::write(&path, text).unwrap();
        read_answers(&path)
    }

    #[test]
    fn the_papers_columns_and_our_pairs_are_told_apart() {
        let columns = "{\n  \"constitution\": {\"0\": \"1. Be brief.\"},\n  \"question\": {\"0\": \"POST: A post.\"},\n  \"response\": {\"0\": \" A summary.\"}\n}";
        let expected = Answer {
            id: "0".into(),
            query: "A post.".into(),
            constitution: STATED.into(),
            constitution_text: "1. Be brief.".into(),
            response: "A summary.".into(),
        };
        assert_eq!(read(columns).unwrap(), [expected]);
        let pairs = r#"{"id":"q:1","query":"Why?","constitutions":[{"id":"brief","text":"1. Be brief."},{"id":"not-brief","text":"1. Be long."}],"prompts":["p","q"],"responses":[{"constitution":1,"text":" Long."},{"constitution":0,"text":"]"}],"rejected":["format"]}"#;
        let rejected =
            [read(pairs).unwrap(), read(&pairs.replace(",\"rejected\":[\"format\"]", "")).unwrap()];
        for answers in rejected {
            let seen: Vec<_> =
                answers.iter().map(|a| (a.constitution.as_str(), a.response.as_str())).collect();
            assert_eq!(seen, [("not-brief", "Long."), ("brief", "]")]);
        }
    }

    #[test]
    fn what_no_judge_can_read_is_refused() {
        let error = read("{\"question\": {\"3\": \"POST: A post.\"}, \"constitution\": {\"3\": \"1. x\"}}")
            .unwrap_err();
        assert!(error.to_string().contains("entry \"3\" has no response; give the file"), "{error}");
        let paper = r#"{"7": [{"prompt": "p", "response": "r", "example_id": 7}, {"prompt": "q", "response": "s", "example_id": 7}]}"#;
        let error = read(paper).unwrap_err().to_string();
        assert!(error.contains("set \"7\" has no query or no constitution text"), "{error}");
        assert!(matches!(read(""), Err(AnswersError::Data(DataError::EmptyFile { .. }))));
    }
}
