//! Queries from files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{BadLine, DataError};
use crate::lines::LineReader;
use crate::query_report::{FileReport, QueryReport, counts};
use crate::tldr;

/// What a person asks: x.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Query {
    /// Names it in files and messages; distinct within what was read. The line's own `id` where a plain JSONL line has
    /// one, otherwise file name and line number: `harmless-base-test:17`.
    pub id: String,
    /// Its text, without white space around it.
    pub text: String,
}

/// What a line of a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryFormat {
    /// A dialogue of HH-RLHF, `{"chosen": "\n\nHuman: …\n\nAssistant: …", …}`: its first human turn is the query; later turns
    /// and the preference label are left unread.
    #[default]
    HhRlhf,
    /// An object with the query itself under `query` or `prompt`, and perhaps an `id`.
    Jsonl,
    /// The paper's file of TL;DR posts: one JSON object with `question`, read as a whole.
    Tldr,
    /// A comparison of the TL;DR dataset, `{"info": {"id": "t3_…", "post": …}, "summaries": …}`. Its post is the query; a post
    /// has several comparisons, of which the first is taken, by `id`.
    TldrComparisons,
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
    format: QueryFormat,
    on_bad_line: OnBadLine,
) -> Result<Queries, DataError> {
    QueryReader::open(files, format, on_bad_line)?.read_all()
}

/// Reads queries one at a time. Holds two digests per distinct query, to drop duplicates and to refuse repeated ids: about 70
/// bytes each.
#[derive(Debug)]
pub struct QueryReader {
    inputs: std::vec::IntoIter<Input>,
    format: QueryFormat,
    on_bad_line: OnBadLine,
    current: Option<Current>,
    texts: HashSet<Digest16>,
    ids: HashSet<Digest16>,
    report: QueryReport,
    failed: bool,
}

#[derive(Debug)]
enum Input {
    File(PathBuf),
    Embedded(PathBuf, &'static [u8]),
}

#[derive(Debug)]
struct Current {
    source: Entries,
    /// Names its lines.
    label: String,
    report: FileReport,
}

#[derive(Debug)]
enum Entries {
    Lines(Box<LineReader>),
    Posts { posts: std::vec::IntoIter<(String, String)>, sha256: String },
}

/// Half a SHA-256: enough to tell texts apart, and less to hold than the texts.
type Digest16 = [u8; 16];

fn digest(text: &str) -> Digest16 {
    let mut half = [0; 16];
    half.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(byte, whole)| *byte = whole);
    half
}

/// An id of its own, if it has one, and the text.
pub(crate) type Parsed = (Option<String>, String);

impl QueryReader {
    /// Begins to read; files are opened when their turn comes.
    ///
    /// # Errors
    ///
    /// [`DataError::NoFile`].
    pub fn open<P: AsRef<Path>>(
        files: &[P],
        format: QueryFormat,
        on_bad_line: OnBadLine,
    ) -> Result<Self, DataError> {
        if files.is_empty() {
            return Err(DataError::NoFile);
        }
        let inputs = files.iter().map(|path| Input::File(path.as_ref().to_owned())).collect();
        Ok(Self::over(inputs, format, on_bad_line))
    }

    /// Reads queries that are part of the program. `name` stands for the file in ids and messages.
    pub fn embedded(name: &Path, bytes: &'static [u8], format: QueryFormat, on_bad_line: OnBadLine) -> Self {
        Self::over(vec![Input::Embedded(name.to_owned(), bytes)], format, on_bad_line)
    }

    fn over(inputs: Vec<Input>, format: QueryFormat, on_bad_line: OnBadLine) -> Self {
        Self {
            inputs: inputs.into_iter(),
            format,
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

    /// File (from 0) and line or entry (from 1) of the query that came last.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.report.files.len(), self.current.as_ref().map_or(0, |current| current.report.lines))
    }

    fn begin(&self, input: Input) -> Result<Current, DataError> {
        let (path, mut lines) = match input {
            Input::File(path) => {
                let lines = LineReader::open(&path)?;
                (path, lines)
            }
            Input::Embedded(name, bytes) => {
                let lines = LineReader::embedded(&name, bytes)?;
                (name, lines)
            }
        };
        let label = label(&path, self.report.files.iter().map(|file| file.path.as_path()));
        let source = match self.format {
            QueryFormat::HhRlhf | QueryFormat::Jsonl | QueryFormat::TldrComparisons => {
                Entries::Lines(Box::new(lines))
            }
            QueryFormat::Tldr => {
                let posts = tldr::parse(&path, &lines.read_whole()?)?;
                let posts: Vec<_> = posts.into_iter().map(|one| (one.id, one.post)).collect();
                Entries::Posts { posts: posts.into_iter(), sha256: lines.sha256() }
            }
        };
        Ok(Current { source, label, report: FileReport { path, ..FileReport::default() } })
    }

    /// The next query of the current file; `None` at its end.
    fn advance(&mut self, current: &mut Current) -> Result<Option<Query>, DataError> {
        loop {
            let (number, parsed) = match &mut current.source {
                Entries::Lines(lines) => match lines.next() {
                    None => return Ok(None),
                    Some(line) => {
                        let line = line?;
                        (line.number, line.text.and_then(|text| parse(self.format, &text)))
                    }
                },
                Entries::Posts { posts, .. } => match posts.next() {
                    None => return Ok(None),
                    Some((id, post)) => {
                        let id = post_id(&current.label, &id);
                        (current.report.lines + 1, Ok((Some(id), post.trim().to_owned())))
                    }
                },
            };
            current.report.lines += 1;
            match parsed.and_then(|parsed| self.accept(&current.label, number, parsed)) {
                Ok(Some(query)) => {
                    current.report.queries += 1;
                    return Ok(Some(query));
                }
                Ok(None) => current.report.duplicates += 1,
                Err(problem) => match self.on_bad_line {
                    OnBadLine::Stop => {
                        let path = current.report.path.clone();
                        return Err(DataError::Line { path, line: number, problem });
                    }
                    OnBadLine::Skip => {
                        *current.report.skipped.entry(problem.name().to_owned()).or_default() += 1;
                    }
                },
            }
        }
    }

    /// A query, or `None` if its text was there before.
    fn accept(&mut self, label: &str, number: usize, (id, text): Parsed) -> Result<Option<Query>, BadLine> {
        if text.is_empty() {
            return Err(BadLine::Empty);
        }
        let key = digest(&text);
        if self.texts.contains(&key) {
            return Ok(None);
        }
        let id = id_of(label, number, id);
        if !self.ids.insert(digest(&id)) {
            // One post, more than one pair of summaries.
            if self.format == QueryFormat::TldrComparisons {
                return Ok(None);
            }
            return Err(BadLine::RepeatedId(id));
        }
        self.texts.insert(key);
        Ok(Some(Query { id, text }))
    }

    fn finish(&mut self, mut current: Current) -> Result<(), DataError> {
        current.report.sha256 = match &current.source {
            Entries::Lines(lines) => lines.sha256(),
            Entries::Posts { sha256, .. } => sha256.clone(),
        };
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
                    Some(input) => self.begin(input)?,
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

#[derive(Deserialize)]
struct HhRlhfLine {
    chosen: Option<String>,
}

#[derive(Deserialize)]
struct ComparisonLine {
    info: Option<ComparisonInfo>,
}

#[derive(Deserialize)]
struct ComparisonInfo {
    id: Option<String>,
    post: Option<String>,
}

#[derive(Deserialize)]
struct PlainLine {
    id: Option<PlainId>,
    query: Option<String>,
    prompt: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PlainId {
    Text(String),
    Number(u64),
}

/// What a file's lines are named by. Files of one name in different directories: the second one's lines get a number before
/// theirs.
pub(crate) fn label<'a>(path: &Path, earlier: impl Iterator<Item = &'a Path>) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = [".jsonl", ".json", ".parquet"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    match earlier.filter(|one| one.file_name() == path.file_name()).count() {
        0 => stem.to_owned(),
        before => format!("{stem}#{}", before + 1),
    }
}

pub(crate) fn id_of(label: &str, number: usize, own: Option<String>) -> String {
    own.unwrap_or_else(|| format!("{label}:{number}"))
}

pub(crate) fn post_id(label: &str, id: &str) -> String {
    format!("{label}:{id}")
}

pub(crate) fn parse(format: QueryFormat, line: &str) -> Result<Parsed, BadLine> {
    match format {
        QueryFormat::HhRlhf => {
            let line: HhRlhfLine = BadLine::parse(line)?;
            let dialogue = line.chosen.ok_or(BadLine::NoField("chosen"))?;
            Ok((None, first_human_turn(&dialogue).ok_or(BadLine::NoHumanTurn)?.to_owned()))
        }
        QueryFormat::TldrComparisons => {
            let line: ComparisonLine = BadLine::parse(line)?;
            let info = line.info.ok_or(BadLine::NoField("info"))?;
            let post = info.post.ok_or(BadLine::NoField("info.post"))?;
            Ok((Some(info.id.ok_or(BadLine::NoField("info.id"))?), post.trim().to_owned()))
        }
        QueryFormat::Jsonl | QueryFormat::Tldr => {
            let line: PlainLine = BadLine::parse(line)?;
            let text = line.query.or(line.prompt).ok_or(BadLine::NoField("\"query\" or \"prompt\""))?;
            let id = line.id.map(|id| match id {
                PlainId::Text(text) => text,
                PlainId::Number(number) => number.to_string(),
            });
            Ok((id, text.trim().to_owned()))
        }
    }
}

/// The text between a dialogue's first `Human:` and whatever turn follows it.
fn first_human_turn(dialogue: &str) -> Option<&str> {
    let rest = dialogue.trim_start().strip_prefix("Human:")?;
    let end = ["\n\nAssistant:", "\n\nHuman:"].iter().filter_map(|turn| rest.find(turn)).min();
    Some(rest[..end.unwrap_or(rest.len())].trim())
}
