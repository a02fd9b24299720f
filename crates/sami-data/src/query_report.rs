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
    /// Its lines, blank ones at the end left out; its entries in the TL;DR format.
    pub lines: usize,
    /// Queries taken from it.
    pub queries: usize,
    /// Lines whose query was there before, in this file or an earlier one.
    pub duplicates: usize,
    /// Lines left out, by reason ([`crate::BadLine::name`]).
    pub skipped: BTreeMap<String, usize>,
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
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for (reason, count) in self.files.iter().flat_map(|file| &file.skipped) {
            *reasons.entry(reason).or_default() += count;
        }
        if !reasons.is_empty() {
            let skipped = self.skipped();
            write!(f, ", {skipped} {} skipped", if skipped == 1 { "line" } else { "lines" })?;
            write!(f, " ({})", counts(&reasons))?;
        }
        Ok(())
    }
}

/// `reason count, reason count`.
pub(crate) fn counts<K: AsRef<str>>(counts: &BTreeMap<K, usize>) -> String {
    let parts: Vec<_> = counts.iter().map(|(reason, count)| format!("{} {count}", reason.as_ref())).collect();
    parts.join(", ")
}
