//! Contrast sets on disk: `pairs.jsonl`, one query a line.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::{BadLine, DataError};
use crate::lines::{LineReader, peek};
use crate::paper_pairs;
use crate::responses::Rejection;

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended it with its end-of-sequence token.
    Eos,
    /// A stop string appeared.
    Stop,
    /// The limit of new tokens was reached.
    Length,
}

/// A constitution of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairConstitution {
    /// The sides that it takes, for example `helpful+not-harmless`; in sets from the paper's JSON its number.
    pub id: String,
    /// Its text; empty in sets from the paper's JSON, which holds whole prompts only.
    pub text: String,
}

/// A response of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairResponse {
    /// Index of the constitution that it was sampled with: its target in the contrast.
    pub constitution: usize,
    /// Its text. Directly follows a prompt.
    pub text: String,
    /// Exactly the tokens that are counted; whether a sampled end-of-sequence token is among them was decided when the set
    /// was made. `None`: prompt and text are tokenised jointly, with BOS, without EOS.
    #[serde(default)]
    pub token_ids: Option<Vec<u32>>,
    /// Why it ended, where known.
    #[serde(default)]
    pub finish: Option<Finish>,
}

/// A contrast set: one query, C constitutions with their training prompts, R responses. One line of `pairs.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRecord {
    /// The query's id.
    pub id: String,
    /// The query's text; empty in sets from the paper's JSON.
    pub query: String,
    /// C constitutions.
    pub constitutions: Vec<PairConstitution>,
    /// C training prompts, one per constitution.
    pub prompts: Vec<String>,
    /// R responses; R = C in the paper, one per constitution and in their order.
    pub responses: Vec<PairResponse>,
    /// Why the set is left out of training; empty if it is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejection>,
    /// What the model or the server said, where a request of the set was refused: the first refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// Why a record is no contrast set.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PairProblem {
    /// One prompt is no contrast.
    #[error("it has {0} constitutions; a contrast needs at least 2")]
    TooFewConstitutions(usize),
    /// Prompts and constitutions go together.
    #[error(
        "it has {constitutions} constitutions and {prompts} prompts; each constitution needs its training prompt"
    )]
    Prompts {
        /// C.
        constitutions: usize,
        /// The number of prompts.
        prompts: usize,
    },
    /// A response to a constitution that is not there.
    #[error(
        "responses[{response}].constitution is {constitution}, but there are {constitutions} (counted from 0)"
    )]
    NoSuchConstitution {
        /// Index of the response.
        response: usize,
        /// What it names.
        constitution: usize,
        /// C.
        constitutions: usize,
    },
    /// A kept set must have a response for each constitution.
    #[error("constitution {0} has no response; add one, or give the reason under \"rejected\"")]
    NoResponse(usize),
    /// A kept response must have something to count.
    #[error("responses[{0}] is empty; give the reason under \"rejected\"")]
    EmptyResponse(usize),
    /// An entry of the paper's JSON without prompt or response.
    #[error("entry {entry} has no {field}")]
    PaperField {
        /// Position in the list, from 0.
        entry: usize,
        /// `prompt` or `response`.
        field: &'static str,
    },
    /// The paper's JSON holds exactly one response per prompt, in order.
    #[error("the paper's format holds one response per constitution, in their order; this set is different")]
    NotPaperShaped,
}

impl PairRecord {
    /// Whether it is a contrast set: at least 2 constitutions, a prompt for each, every response to one of them; and, unless
    /// it is rejected, a response for each constitution, none of them empty.
    ///
    /// # Errors
    ///
    /// The first problem.
    pub fn check(&self) -> Result<(), PairProblem> {
        let constitutions = self.constitutions.len();
        if constitutions < 2 {
            return Err(PairProblem::TooFewConstitutions(constitutions));
        }
        if self.prompts.len() != constitutions {
            return Err(PairProblem::Prompts { constitutions, prompts: self.prompts.len() });
        }
        for (response, PairResponse { constitution, .. }) in self.responses.iter().enumerate() {
            if *constitution >= constitutions {
                let constitution = *constitution;
                return Err(PairProblem::NoSuchConstitution { response, constitution, constitutions });
            }
        }
        if self.is_kept() {
            let answered = |index| self.responses.iter().any(|response| response.constitution == index);
            if let Some(index) = (0..constitutions).find(|index| !answered(*index)) {
                return Err(PairProblem::NoResponse(index));
            }
            let empty = |one: &PairResponse| match &one.token_ids {
                Some(ids) => ids.is_empty(),
                None => one.text.is_empty(),
            };
            if let Some(index) = self.responses.iter().position(empty) {
                return Err(PairProblem::EmptyResponse(index));
            }
        }
        Ok(())
    }

    /// Whether it is trained on: no filter rejected it.
    pub fn is_kept(&self) -> bool {
        self.rejected.is_empty()
    }
}

/// Reads all records of a file, rejected ones too; see [`PairReader`].
///
/// # Errors
///
/// As [`PairReader`] yields them.
pub fn read_pairs(path: &Path) -> Result<Vec<PairRecord>, DataError> {
    PairReader::open(path)?.collect()
}

/// Reads records one at a time, from our JSONL (memory bounded by the longest line) or from the paper's JSON (read as a
/// whole), gzip or not; which one is told by the content. Every record that it yields passes [`PairRecord::check`].
///
/// Yields [`DataError::Line`] for a line that is no record, [`DataError::Pair`] for a record that is no contrast set, and
/// nothing after an error.
#[derive(Debug)]
pub struct PairReader {
    path: PathBuf,
    entries: Entries,
    /// Where the line of the last record begins.
    offset: u64,
    failed: bool,
}

#[derive(Debug)]
enum Entries {
    Lines(Box<LineReader>),
    Paper(std::iter::Enumerate<std::vec::IntoIter<(String, paper_pairs::Entries)>>),
}

impl PairReader {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`], [`DataError::EmptyFile`], and [`DataError::Json`] for what begins as the paper's JSON and is none.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let beginning = peek(path)?;
        if beginning.iter().all(u8::is_ascii_whitespace) {
            return Err(DataError::EmptyFile { path: path.to_owned() });
        }
        let entries = if paper_pairs::begins_like_one(&beginning) {
            Entries::Paper(paper_pairs::read(path)?.into_iter().enumerate())
        } else {
            Entries::Lines(Box::new(LineReader::open(path)?))
        };
        Ok(Self { path: path.to_owned(), entries, offset: 0, failed: false })
    }

    /// Whether the file is JSONL, not the paper's JSON.
    pub(crate) fn is_lines(&self) -> bool {
        matches!(self.entries, Entries::Lines(_))
    }

    /// Where the line of the record that came last begins, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn step(&mut self) -> Result<Option<PairRecord>, DataError> {
        let (line, record) = match &mut self.entries {
            Entries::Lines(lines) => {
                let Some(line) = lines.next().transpose()? else { return Ok(None) };
                self.offset = line.offset;
                let record: Result<PairRecord, BadLine> = line.text.and_then(|text| BadLine::parse(&text));
                let bad = |problem| DataError::Line { path: self.path.clone(), line: line.number, problem };
                (line.number, record.map_err(bad)?)
            }
            Entries::Paper(entries) => {
                let Some((index, (id, entries))) = entries.next() else { return Ok(None) };
                let bad = |problem| self.pair_error(index + 1, &id, problem);
                (index + 1, paper_pairs::record(id.clone(), entries).map_err(bad)?)
            }
        };
        record.check().map_err(|problem| self.pair_error(line, &record.id, problem))?;
        Ok(Some(record))
    }

    fn pair_error(&self, line: usize, id: &str, problem: PairProblem) -> DataError {
        DataError::Pair { path: self.path.clone(), line, id: id.to_owned(), problem }
    }
}

impl Iterator for PairReader {
    type Item = Result<PairRecord, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.step().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
