//! What reading queries came across.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What was read from one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes on disk, in hexadecimal.
    pub sha256: String,
    /// Its records: its lines, blank ones left out; the elements of its array; its entries in the
    /// TL;DR format.
    pub lines: usize,
    /// Queries taken from it.
    pub queries: usize,
    /// Lines whose query was there before, in this file or an earlier one.
    pub duplicates: usize,
    /// Lines left out, by reason ([`crate::BadLine::name`]).
    pub skipped: BTreeMap<String, usize>,
    /// Lines that gave a query although their turns are not as they should be, by what was done
    /// ([`Mend::name`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mended: BTreeMap<String, usize>,
}

/// What was done to find the first user turn where turns are not as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Several user turns before the first answer are one turn.
    JoinedTurns,
    /// The dialogue has lost its blank lines: turns begin at the lines that say so.
    SingleNewlines,
}

impl Mend {
    /// A short name to count by.
    pub fn name(self) -> &'static str {
        match self {
            Self::JoinedTurns => "joined-turns",
            Self::SingleNewlines => "single-newlines",
        }
    }
}

/// What was read from all files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryReport {
    /// One report per file, in the order of reading.
    pub files: Vec<FileReport>,
}

impl QueryReport {
    /// Queries taken.
    pub fn queries(&self) -> usize {
        self.files.iter().map(|file| file.queries).sum()
    }

    /// Repeated queries dropped.
    pub fn duplicates(&self) -> usize {
        self.files.iter().map(|file| file.duplicates).sum()
    }

    /// Lines left out because they gave no query.
    pub fn skipped(&self) -> usize {
        self.files.iter().flat_map(|file| file.skipped.values()).sum()
    }
}

impl fmt::Display for QueryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queries, duplicates) = (self.queries(), self.duplicates());
        write!(f, "{queries} {}", if queries == 1 { "query" } else { "queries" })?;
        write!(f, ", {duplicates} {} dropped", if duplicates == 1 { "duplicate" } else { "duplicates" })?;
        let mut say = |what, of: &mut dyn Iterator<Item = (&String, &usize)>| {
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            of.for_each(|(reason, count)| *reasons.entry(reason).or_default() += count);
            match reasons.values().sum() {
                0 => Ok(()),
                1 => write!(f, ", 1 line {what} ({})", counts(&reasons)),
                lines => write!(f, ", {lines} lines {what} ({})", counts(&reasons)),
            }
        };
        say("skipped", &mut self.files.iter().flat_map(|file| &file.skipped))?;
        say("mended", &mut self.files.iter().flat_map(|file| &file.mended))?;
        Ok(())
    }
}

/// `reason count, reason count`.
pub(crate) fn counts<K: AsRef<str>>(counts: &BTreeMap<K, usize>) -> String {
    let parts: Vec<_> = counts.iter().map(|(reason, count)| format!("{} {count}", reason.as_ref())).collect();
    parts.join(", ")
}
