//! Records of a file, however it is laid out: a line each, a value over several lines each, or the
//! elements of one JSON array.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use crate::bad_line::BadLine;
use crate::error::DataError;
use crate::lines::{BOM, LineReader, MAX_LINE_BYTES, damage};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1, that is a record.
    Line(usize),
    /// A record of a file whose lines are none.
    Record {
        /// From 1.
        number: usize,
        /// The line on which it begins, from 1, where it is known.
        line: Option<usize>,
    },
}

impl Place {
    /// What names the record within its file: the line's number, or its own.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::Line(number) | Self::Record { number, .. } => number,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record { number, line: Some(line) } => write!(f, "record {number} (line {line})"),
            Self::Record { number, line: None } => write!(f, "record {number}"),
        }
    }
}

/// One record, or what is wrong with it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) place: Place,
    pub(crate) text: Result<String, BadLine>,
}

/// Reads records in order. Its memory is bounded by the longest one.
#[derive(Debug)]
pub(crate) struct RecordReader {
    lines: LineReader,
    layout: Layout,
    /// Records read so far.
    number: usize,
    ready: VecDeque<Record>,
    ended: bool,
}

#[derive(Debug)]
enum Layout {
    /// Told by the first record.
    Unknown,
    Lines,
    /// Values that go over several lines.
    Values,
    /// Elements of an array, on this line now.
    Array {
        line: usize,
    },
}

impl RecordReader {
    /// Records of JSON: lines, values or one array.
    pub(crate) fn json(mut lines: LineReader) -> Self {
        // What cannot be read is said with the record that is read next; a Parquet file has lines.
        let begin = lines.begin().unwrap_or_default();
        let begin = begin.strip_prefix(BOM).unwrap_or(begin);
        let array = begin.trim_ascii_start().first() == Some(&b'[');
        let layout = if array { Layout::Array { line: 1 } } else { Layout::Unknown };
        Self { lines, layout, number: 0, ready: VecDeque::new(), ended: false }
    }

    /// Each line is a record, whatever it says.
    pub(crate) fn lines(lines: LineReader) -> Self {
        Self { lines, layout: Layout::Lines, number: 0, ready: VecDeque::new(), ended: false }
    }

    pub(crate) fn sha256(&self) -> String {
        self.lines.sha256()
    }

    /// The record that comes next, which stays where it is.
    pub(crate) fn peek(&mut self) -> Result<Option<&Record>, DataError> {
        if self.ready.is_empty()
            && let Some(record) = self.read()?
        {
            self.ready.push_back(record);
        }
        Ok(self.ready.front())
    }

    /// The next record; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, DataError> {
        match self.ready.pop_front() {
            Some(record) => Ok(Some(record)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Record>, DataError> {
        if self.ended {
            return Ok(None);
        }
        match self.layout {
            Layout::Array { line } => self.element(line),
            _ => self.value(),
        }
    }

    /// A line, or the lines up to the end of the value that begins on it.
    fn value(&mut self) -> Result<Option<Record>, DataError> {
        let Some(line) = self.lines.next().transpose()? else { return Ok(None) };
        self.number += 1;
        let Ok(mut text) = line.text else {
            return Ok(Some(Record { place: self.place(line.number), text: line.text }));
        };
        let mut scan = Scan::default();
        if matches!(self.layout, Layout::Unknown) {
            scan.feed(text.as_bytes());
            // A line break within a text is no JSON, so such a line is a torn one.
            self.layout = if scan.is_open() && !scan.quoted { Layout::Values } else { Layout::Lines };
        } else if matches!(self.layout, Layout::Values) {
            scan.feed(text.as_bytes());
        }
        while matches!(self.layout, Layout::Values) && scan.is_open() {
            let Some(more) = self.lines.next().transpose()? else { break };
            match more.text {
                Ok(more) if text.len() + more.len() < MAX_LINE_BYTES => {
                    scan.feed(more.as_bytes());
                    text.push('\n');
                    text.push_str(&more);
                }
                more => {
                    self.ended = true;
                    let text = more.and(Err(BadLine::TooLong(MAX_LINE_BYTES)));
                    return Ok(Some(Record { place: self.place(line.number), text }));
                }
            }
        }
        Ok(Some(Record { place: self.place(line.number), text: Ok(text) }))
    }

    fn place(&self, line: usize) -> Place {
        match self.layout {
            Layout::Unknown | Layout::Lines => Place::Line(line),
            _ => Place::Record { number: self.number, line: Some(line) },
        }
    }

    /// The next element of an array, `line` being where the last one ended.
    fn element(&mut self, mut line: usize) -> Result<Option<Record>, DataError> {
        let (mut begin, mut bytes) = (line, Vec::new());
        let found = self.read_element(&mut line, &mut begin, &mut bytes);
        self.layout = Layout::Array { line };
        let text = match found {
            Ok(Element::Last) => {
                self.ended = true;
                return Ok(None);
            }
            Ok(Element::Next) => {
                String::from_utf8(bytes).map_err(|error| BadLine::Utf8(error.utf8_error().valid_up_to() + 1))
            }
            // Where the next element begins is not known any more.
            Ok(Element::Bad(problem)) => {
                self.ended = true;
                Err(problem)
            }
            Err(error) => {
                self.ended = true;
                Err(damage(self.lines.source(), error).map_err(DataError::io(self.lines.path()))?)
            }
        };
        self.number += 1;
        Ok(Some(Record { place: Place::Record { number: self.number, line: Some(begin) }, text }))
    }

    fn read_element(
        &mut self,
        line: &mut usize,
        begin: &mut usize,
        bytes: &mut Vec<u8>,
    ) -> io::Result<Element> {
        // What may stand before an element: the bracket before the first one, a comma before the
        // others.
        let (before, mut separated) = if self.number == 0 { (b'[', false) } else { (b',', false) };
        let mut scan = Scan::default();
        loop {
            let buffer = self.lines.source().reader()?.fill_buf()?;
            if buffer.is_empty() {
                return Ok(Element::Bad(BadLine::Array("the file ends before its array does")));
            }
            let mut used = 0;
            let mut end = None;
            for &byte in buffer {
                if bytes.is_empty() {
                    *begin = *line;
                    if byte.is_ascii_whitespace() || BOM.contains(&byte) && self.number == 0 && !separated {
                        // Between elements.
                    } else if byte == before && !separated {
                        separated = true;
                    } else if byte == b']' && (separated == (self.number == 0)) {
                        end = Some(Element::Last);
                    } else if !separated || matches!(byte, b',' | b']' | b'}' | b':') {
                        end = Some(Element::Bad(BadLine::Array("a comma is missing, or one too many")));
                    } else {
                        bytes.push(byte);
                        scan.feed(&[byte]);
                    }
                } else if !scan.is_open() && (byte.is_ascii_whitespace() || matches!(byte, b',' | b']')) {
                    end = Some(Element::Next);
                    break;
                } else {
                    bytes.push(byte);
                    scan.feed(&[byte]);
                }
                used += 1;
                *line += usize::from(byte == b'\n');
                if end.is_some() {
                    break;
                }
                if bytes.len() > MAX_LINE_BYTES {
                    end = Some(Element::Bad(BadLine::TooLong(MAX_LINE_BYTES)));
                    break;
                }
            }
            self.lines.source().reader()?.consume(used);
            match end {
                Some(Element::Last) => return self.after_array(),
                Some(end) => return Ok(end),
                None => {}
            }
        }
    }

    /// Nothing but white space may follow the array. Reading on to the end also makes the file's
    /// hash whole.
    fn after_array(&mut self) -> io::Result<Element> {
        loop {
            let buffer = self.lines.source().reader()?.fill_buf()?;
            if buffer.is_empty() {
                return Ok(Element::Last);
            }
            if !buffer.iter().all(u8::is_ascii_whitespace) {
                return Ok(Element::Bad(BadLine::Array("something follows the array")));
            }
            let used = buffer.len();
            self.lines.source().reader()?.consume(used);
        }
    }
}

enum Element {
    Next,
    Last,
    Bad(BadLine),
}

/// How far a JSON value has come.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Scan {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                b'{' | b'[' if !self.quoted => self.depth += 1,
                b'}' | b']' if !self.quoted => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Whether brackets or a text are still open.
    fn is_open(&self) -> bool {
        self.depth > 0 || self.quoted
    }
}
