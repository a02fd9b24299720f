//! From a record's text to its query.

use serde_json::{Map, Value};

use crate::bad_line::{BadLine, Fields};
use crate::query_report::Mend;
use crate::shape::{FieldPath, QueryFormat, QueryShape};
use crate::turns;

/// Fields that hold a query. They must agree where several are there.
const FIELDS: [&str; 6] = ["prompt", "question", "instruction", "messages", "conversations", "conversation"];
/// Those whose text would be turns in some notation, not a query.
const TURNS_ONLY: [&str; 3] = ["messages", "conversations", "conversation"];
/// What stands below an instruction, in Alpaca's and Dolly's spelling.
const BELOW: [&str; 2] = ["input", "context"];
/// What a record may hold, for messages.
pub(crate) const KNOWN: &str = "query, prompt, question, instruction, messages, conversations, conversation";

/// What a record gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// An id of its own, if it has one.
    pub(crate) id: Option<String>,
    /// The query, as it stands in the record.
    pub(crate) text: String,
    /// What was done to get it.
    pub(crate) mend: Option<Mend>,
    /// Whether other records may have the same id and query, as the comparisons of one post have.
    pub(crate) repeats: bool,
}

impl Parsed {
    fn new(id: Option<String>, (text, mend): turns::Turn) -> Self {
        Self { id, text, mend, repeats: false }
    }
}

/// Finds the query of one record.
pub(crate) fn parse(shape: &QueryShape, record: &str) -> Result<Parsed, BadLine> {
    if shape.format() == QueryFormat::Text {
        if is_conflict(record) {
            return Err(BadLine::MergeConflict);
        }
        return Ok(Parsed::new(None, (record.to_owned(), None)));
    }
    let record = match (value(record)?, shape.format()) {
        (Value::Object(record), _) => record,
        (Value::String(text), QueryFormat::Auto | QueryFormat::Jsonl) if shape.field().is_none() => {
            return Ok(Parsed::new(None, unwrapped(shape, text)?));
        }
        _ => return Err(BadLine::NoObject),
    };
    match (shape.format(), shape.field()) {
        (_, Some(field)) => Ok(Parsed::new(id(&record)?, of_field(shape, &record, field)?)),
        (QueryFormat::HhRlhf, _) => hh_rlhf(&record),
        (QueryFormat::TldrComparisons, _) => comparison(&record),
        (QueryFormat::Auto, _) if first_field(&record).is_none() => {
            match (record.get("chosen"), record.get("info").and_then(|info| info.get("post"))) {
                (Some(Value::String(_)), _) => hh_rlhf(&record),
                (None, Some(_)) => comparison(&record),
                _ => plain(shape, &record),
            }
        }
        _ => plain(shape, &record),
    }
}

/// Whether a record is the paper's file of TL;DR posts: `{"question": {"0": …}}`.
pub(crate) fn is_posts(record: &str) -> bool {
    let numbered = |column: &Map<String, Value>| {
        !column.is_empty() && column.keys().all(|key| key.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let question = || value(record).ok()?.get("question")?.as_object().map(numbered);
    record.contains("\"question\"") && question() == Some(true)
}

/// A line that Git put into the file where it could not merge.
fn is_conflict(line: &str) -> bool {
    let after = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"].iter().find_map(|mark| line.strip_prefix(mark));
    after.is_some_and(|after| after.is_empty() || after.starts_with(' '))
}

fn value(record: &str) -> Result<Value, BadLine> {
    json(record).map_err(|problem| match record.lines().any(is_conflict) {
        true => BadLine::MergeConflict,
        false => problem,
    })
}

fn json(record: &str) -> Result<Value, BadLine> {
    if !record.trim_start().starts_with(['{', '[', '"']) {
        return Err(BadLine::no_json(record));
    }
    let error = match serde_json::from_str(record) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // Python writes NaN and Infinity, which JSON does not know, into fields that nobody reads here.
    without_nan(record)
        .and_then(|record| serde_json::from_str(&record).ok())
        .ok_or_else(|| BadLine::json(&error))
}

/// A record with `null` for `NaN` and `Infinity`, if it has one outside of texts.
fn without_nan(record: &str) -> Option<String> {
    let mut rest = record;
    let (mut found, mut quoted) = (false, false);
    let mut whole = String::with_capacity(record.len());
    while let Some(first) = rest.chars().next() {
        let number = ["NaN", "-Infinity", "Infinity"].into_iter().find(|name| rest.starts_with(name));
        let taken = match (quoted, first, number) {
            (false, _, Some(name)) => {
                found = true;
                whole.push_str("null");
                name.len()
            }
            (true, '\\', _) => {
                let escape = rest.chars().take(2).map(char::len_utf8).sum();
                whole.push_str(&rest[..escape]);
                escape
            }
            _ => {
                quoted ^= first == '"';
                whole.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    found.then_some(whole)
}

fn hh_rlhf(record: &Map<String, Value>) -> Result<Parsed, BadLine> {
    let dialogue = text_of(record, "chosen")?;
    Ok(Parsed::new(None, turns::of_dialogue(dialogue)?))
}

fn comparison(record: &Map<String, Value>) -> Result<Parsed, BadLine> {
    let info = match record.get("info") {
        Some(Value::Object(info)) => info,
        Some(Value::Null) | None => return Err(BadLine::no_field("info", record)),
        Some(other) => return Err(BadLine::wrong_type("info", other, "an object")),
    };
    let inner = |name: &'static str, shown| match info.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) | None => Err(BadLine::no_field(shown, info)),
        Some(other) => Err(BadLine::wrong_type(shown, other, "text")),
    };
    let post = inner("post", "info.post")?;
    Ok(Parsed { id: Some(inner("id", "info.id")?), text: post, mend: None, repeats: true })
}

fn text_of<'a>(record: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, BadLine> {
    match record.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) | None => Err(BadLine::no_field(name, record)),
        Some(other) => Err(BadLine::wrong_type(name, other, "text")),
    }
}

/// The name of the first field with something in it that may be a query.
fn first_field(record: &Map<String, Value>) -> Option<&'static str> {
    ["query"].into_iter().chain(FIELDS).find(|name| record.get(*name).is_some_and(|value| !is_blank(value)))
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(turns) => turns.is_empty(),
        _ => false,
    }
}

/// A record whose query stands in a field of a known name.
fn plain(shape: &QueryShape, record: &Map<String, Value>) -> Result<Parsed, BadLine> {
    let Some(first) = first_field(record) else {
        return match record.get("chosen") {
            Some(turns @ Value::Array(_)) => Ok(Parsed::new(id(record)?, turn_of(shape, "chosen", turns)?)),
            _ if ["query"].into_iter().chain(FIELDS).any(|name| record.contains_key(name)) => {
                Err(BadLine::Empty)
            }
            _ => Err(BadLine::NoQueryField { found: Fields::of(record) }),
        };
    };
    let found = of_name(shape, record, first)?;
    if first != "query" {
        let same = |text: &str| turns::newlines(text).trim() == turns::newlines(&found.0).trim();
        for name in FIELDS.into_iter().filter(|name| *name != first) {
            if record.get(name).is_some_and(|value| !is_blank(value))
                && !same(&of_name(shape, record, name)?.0)
            {
                return Err(BadLine::Ambiguous { one: first, other: name });
            }
        }
    }
    Ok(Parsed::new(id(record)?, found))
}

fn of_name(
    shape: &QueryShape,
    record: &Map<String, Value>,
    name: &'static str,
) -> Result<turns::Turn, BadLine> {
    let value = record.get(name).unwrap_or(&Value::Null);
    if TURNS_ONLY.contains(&name) && value.is_string() {
        return Err(BadLine::wrong_type(name, value, "a list of turns"));
    }
    let (mut text, mend) = turn_of(shape, name, value)?;
    if name == "instruction" {
        for below in BELOW.into_iter().filter_map(|name| record.get(name)?.as_str()) {
            if !below.trim().is_empty() {
                text = format!("{}\n\n{}", text.trim_end(), below.trim_start());
            }
        }
    }
    Ok((text, mend))
}

fn of_field(
    shape: &QueryShape,
    record: &Map<String, Value>,
    field: &FieldPath,
) -> Result<turns::Turn, BadLine> {
    let name = field.to_string();
    if let Some(value) = record.get(&name) {
        return turn_of(shape, &name, value);
    }
    let missing = || BadLine::NoField { wanted: name.clone(), found: Fields::of(record) };
    let (first, rest) = field.parts();
    let mut place = record.get(first).ok_or_else(missing)?;
    for part in rest {
        let inner = match place {
            Value::Array(list) => part.parse().ok().and_then(|index: usize| list.get(index)),
            value => value.get(part),
        };
        place = inner.ok_or_else(missing)?;
    }
    turn_of(shape, &name, place)
}

/// A query from a value: text, or the first user turn of a list of turns.
fn turn_of(shape: &QueryShape, name: &str, value: &Value) -> Result<turns::Turn, BadLine> {
    match value {
        Value::String(text) => unwrapped(shape, text.clone()),
        Value::Null => Ok((String::new(), None)),
        Value::Array(turns) => turns::of_list(turns),
        other => Err(BadLine::wrong_type(name, other, "text or a list of turns")),
    }
}

/// A text as it is, or the first human turn of one that is a whole dialogue, where the format is to
/// be told.
fn unwrapped(shape: &QueryShape, text: String) -> Result<turns::Turn, BadLine> {
    match shape.format() {
        QueryFormat::Auto if turns::is_dialogue(&text) => turns::of_dialogue(&text),
        _ => Ok((text, None)),
    }
}

/// A record's own id: any JSON value but a list or an object.
fn id(record: &Map<String, Value>) -> Result<Option<String>, BadLine> {
    match record.get("id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(scalar.to_string())),
        Some(other) => Err(BadLine::wrong_type("id", other, "text or a number")),
    }
}
