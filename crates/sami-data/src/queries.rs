//! Queries from files.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bad_line::BadLine;
use crate::entries::{Entries, Entry, Input};
use crate::error::DataError;
use crate::parse::Parsed;
use crate::query_report::{FileReport, QueryReport, counts};
use crate::shape::QueryShape;
use crate::turns::newlines;

/// What a person asks: x.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Query {
    /// Names it in files and messages; distinct within what was read. The record's own `id` where it has one, otherwise file
    /// name and line number (in a file whose lines are no records, the record's number): `harmless-base-test:17`.
    pub id: String,
    /// Its text, without white space around it, with `\n` at the end of its lines.
    pub text: String,
}

/// What to do with a line that gives no query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadLine {
    /// End with its file and line number.
    #[default]
    Stop,
    /// Leave it out, and count it by reason.
    Skip,
}

/// Queries, and what was seen on the way to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queries {
    /// In the order of the files; no two have the same text.
    pub queries: Vec<Query>,
    /// Counts and hashes.
    pub report: QueryReport,
}

/// Reads all queries of some files, in order, without duplicates.
///
/// # Errors
///
/// The first bad line with its file and number (unless `on_bad_line` is [`OnBadLine::Skip`]); a file without any line, or
/// without any query; no file at all; what the system refuses.
pub fn read_queries<P: AsRef<Path>>(
    files: &[P],
    shape: impl Into<QueryShape>,
    on_bad_line: OnBadLine,
) -> Result<Queries, DataError> {
    QueryReader::open(files, shape, on_bad_line)?.read_all()
}

/// Reads queries one at a time. Holds two digests per distinct query, to drop duplicates and to refuse repeated ids: about 70
/// bytes each.
#[derive(Debug)]
pub struct QueryReader {
    inputs: std::vec::IntoIter<Input>,
    shape: QueryShape,
    on_bad_line: OnBadLine,
    current: Option<Current>,
    texts: HashSet<Digest16>,
    ids: HashSet<Digest16>,
    report: QueryReport,
    failed: bool,
}

#[derive(Debug)]
struct Current {
    entries: Entries,
    /// Names its lines.
    label: String,
    /// The number of the entry that came last.
    number: usize,
    report: FileReport,
}

/// Half a SHA-256: enough to tell texts apart, and less to hold than the texts.
type Digest16 = [u8; 16];

fn digest(text: &str) -> Digest16 {
    let mut half = [0; 16];
    half.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(byte, whole)| *byte = whole);
    half
}

impl QueryReader {
    /// Begins to read; files are opened when their turn comes.
    ///
    /// # Errors
    ///
    /// [`DataError::NoFile`].
    pub fn open<P: AsRef<Path>>(
        files: &[P],
        shape: impl Into<QueryShape>,
        on_bad_line: OnBadLine,
    ) -> Result<Self, DataError> {
        if files.is_empty() {
            return Err(DataError::NoFile);
        }
        let inputs = files.iter().map(|path| Input::File(path.as_ref().to_owned())).collect();
        Ok(Self::over(inputs, shape.into(), on_bad_line))
    }

    /// Reads queries that are part of the program. `name` stands for the file in ids and messages.
    pub fn embedded(
        name: &Path,
        bytes: &'static [u8],
        shape: impl Into<QueryShape>,
        on_bad_line: OnBadLine,
    ) -> Self {
        Self::over(vec![Input::Embedded(name.to_owned(), bytes)], shape.into(), on_bad_line)
    }

    fn over(inputs: Vec<Input>, shape: QueryShape, on_bad_line: OnBadLine) -> Self {
        Self {
            inputs: inputs.into_iter(),
            shape,
            on_bad_line,
            current: None,
            texts: HashSet::new(),
            ids: HashSet::new(),
            report: QueryReport::default(),
            failed: false,
        }
    }

    /// Reads all that is left.
    ///
    /// # Errors
    ///
    /// The first error, as [`read_queries`].
    pub fn read_all(mut self) -> Result<Queries, DataError> {
        let queries = self.by_ref().collect::<Result<_, _>>()?;
        Ok(Queries { queries, report: self.into_report() })
    }

    /// What was read so far; complete once the iterator has ended.
    pub fn into_report(self) -> QueryReport {
        self.report
    }

    /// File (from 0) and number within it (from 1) of the query that came last.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.report.files.len(), self.current.as_ref().map_or(0, |current| current.number))
    }

    fn begin(&self, input: &Input) -> Result<Current, DataError> {
        let entries = Entries::open(input, &self.shape)?;
        let label = label(input.path(), self.report.files.iter().map(|file| file.path.as_path()));
        let report = FileReport { path: input.path().to_owned(), ..FileReport::default() };
        Ok(Current { entries, label, number: 0, report })
    }

    /// The next query of the current file; `None` at its end.
    fn advance(&mut self, current: &mut Current) -> Result<Option<Query>, DataError> {
        while let Some(Entry { place, parsed }) = current.entries.next(&current.label)? {
            current.number = place.number();
            let report = &mut current.report;
            report.lines += 1;
            let mend = parsed.as_ref().ok().and_then(|parsed| parsed.mend);
            match parsed.and_then(|parsed| self.accept(&current.label, current.number, parsed)) {
                Ok(query) => {
                    if let Some(mend) = mend {
                        *report.mended.entry(mend.name().to_owned()).or_default() += 1;
                    }
                    if query.is_some() {
                        report.queries += 1;
                        return Ok(query);
                    }
                    report.duplicates += 1;
                }
                Err(problem) => match self.on_bad_line {
                    OnBadLine::Stop => return Err(DataError::at(&report.path, place, problem)),
                    OnBadLine::Skip => {
                        *report.skipped.entry(problem.name().to_owned()).or_default() += 1;
                    }
                },
            }
        }
        Ok(None)
    }

    /// A query, or `None` if its text was there before.
    fn accept(&mut self, label: &str, number: usize, parsed: Parsed) -> Result<Option<Query>, BadLine> {
        let repeats = parsed.repeats;
        let query = query(label, number, parsed);
        if query.text.is_empty() {
            return Err(BadLine::Empty);
        }
        let key = digest(&query.text);
        if self.texts.contains(&key) {
            return Ok(None);
        }
        if !self.ids.insert(digest(&query.id)) {
            return if repeats { Ok(None) } else { Err(BadLine::RepeatedId(query.id)) };
        }
        self.texts.insert(key);
        Ok(Some(query))
    }

    fn finish(&mut self, mut current: Current) -> Result<(), DataError> {
        current.report.sha256 = current.entries.sha256();
        let report = &current.report;
        if report.lines == 0 {
            return Err(DataError::EmptyFile { path: report.path.clone() });
        }
        if report.queries == 0 && report.duplicates == 0 {
            let skipped = report.skipped.values().sum();
            return Err(DataError::NoQuery {
                path: report.path.clone(),
                skipped,
                reasons: counts(&report.skipped),
            });
        }
        self.report.files.push(current.report);
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Query>, DataError> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => match self.inputs.next() {
                    Some(input) => self.begin(&input)?,
                    None => return Ok(None),
                },
            };
            if let Some(query) = self.advance(&mut current)? {
                self.current = Some(current);
                return Ok(Some(query));
            }
            self.finish(current)?;
        }
    }
}

impl Iterator for QueryReader {
    type Item = Result<Query, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.step().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// What a file's lines are named by. Files of one name in different directories: the second one's lines get a number before
/// theirs.
pub(crate) fn label<'a>(path: &Path, earlier: impl Iterator<Item = &'a Path>) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let ends = [".jsonl", ".ndjson", ".json", ".parquet", ".txt"];
    let stem = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    match earlier.filter(|one| one.file_name() == path.file_name()).count() {
        0 => stem.to_owned(),
        before => format!("{stem}#{}", before + 1),
    }
}

/// The query that an entry gives: named, and without what surrounds its text.
pub(crate) fn query(label: &str, number: usize, parsed: Parsed) -> Query {
    let id = parsed.id.unwrap_or_else(|| format!("{label}:{number}"));
    Query { id, text: newlines(&parsed.text).trim().to_owned() }
}
