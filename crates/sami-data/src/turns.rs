//! The first user turn of a conversation.

use serde_json::{Map, Value};

use crate::bad_line::{BadLine, Fields};
use crate::query_report::Mend;

/// Who speaks for the user, in the spellings of data sets.
const USERS: [&str; 3] = ["user", "human", "prompter"];
/// Who may speak before the user does.
const SYSTEMS: [&str; 2] = ["system", "developer"];

/// The text of a user's turn, and what was done to get it.
pub(crate) type Turn = (String, Option<Mend>);

/// Whether a text is a dialogue of turns that begin with `Human:` and `Assistant:`, not a query.
pub(crate) fn is_dialogue(text: &str) -> bool {
    text.trim_start().starts_with("Human:") && text.contains("Assistant:")
}

/// The first human turn of a dialogue as HH-RLHF marks it, `\n\nHuman: …\n\nAssistant: …`. Human
/// turns that follow each other are one turn. Where the file lost its blank lines, turns begin at
/// the lines that say so.
pub(crate) fn of_dialogue(dialogue: &str) -> Result<Turn, BadLine> {
    let dialogue = newlines(dialogue);
    let rest = dialogue.trim_start().strip_prefix("Human:").ok_or(BadLine::NoHumanTurn)?;
    let spaced = rest.contains("\n\nAssistant:") || rest.contains("\n\nHuman:");
    let (answer, human) =
        if spaced { ("\n\nAssistant:", "\n\nHuman:") } else { ("\nAssistant:", "\nHuman:") };
    let end = rest.find(answer);
    let turns: Vec<_> = rest[..end.unwrap_or(rest.len())].split(human).map(str::trim).collect();
    let marked = |line: &str| ["Assistant:", "Human:"].iter().any(|mark| line.starts_with(mark));
    let another = |turn: &&str| turn.lines().skip(1).any(|line| marked(line.trim_start()));
    let hidden = end.is_none() && rest.contains("Assistant:");
    if hidden || turns.iter().any(another) {
        return Err(BadLine::TurnMark);
    }
    let single = !spaced && (rest.contains(answer) || rest.contains(human));
    let mend = if turns.len() > 1 {
        Some(Mend::JoinedTurns)
    } else if single {
        Some(Mend::SingleNewlines)
    } else {
        None
    };
    Ok((joined(turns), mend))
}

/// The first user turn of a list of `{"role", "content"}` or `{"from", "value"}`. Only system turns
/// may stand before it; user turns that follow each other are one.
pub(crate) fn of_list(turns: &[Value]) -> Result<Turn, BadLine> {
    let mut asked = Vec::new();
    for (index, turn) in turns.iter().enumerate() {
        let Value::Object(turn) = turn else { return Err(bad_turn(index, turn)) };
        let (role, content) = role_and_content(turn).ok_or_else(|| BadLine::Turn {
            turn: index + 1,
            found: format!("fields {}", Fields::of(turn)),
        })?;
        let lower = role.to_lowercase();
        if USERS.contains(&lower.as_str()) {
            asked.push(text(content).map_err(|found| BadLine::TurnText { turn: index + 1, found })?);
        } else if !asked.is_empty() {
            break;
        } else if !SYSTEMS.contains(&lower.as_str()) {
            return Err(BadLine::NoUserTurn { first: role.to_owned() });
        }
    }
    if asked.is_empty() {
        return Err(BadLine::NoUserTurn { first: String::new() });
    }
    let mend = (asked.len() > 1).then_some(Mend::JoinedTurns);
    Ok((joined(asked.iter().map(String::as_str)), mend))
}

fn bad_turn(index: usize, found: &Value) -> BadLine {
    BadLine::Turn { turn: index + 1, found: kind(found).to_owned() }
}

fn role_and_content(turn: &Map<String, Value>) -> Option<(&str, &Value)> {
    let role = turn.get("role").or(turn.get("from")).and_then(Value::as_str)?;
    Some((role, turn.get("content").or(turn.get("value"))?))
}

/// Text, or a list of parts that are all text. The error is what else it holds.
fn text(content: &Value) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::Array(parts) => parts.iter().map(part).collect(),
        other => Err(kind(other).to_owned()),
    }
}

fn part(part: &Value) -> Result<String, String> {
    match (part, part.get("text")) {
        (Value::String(text), _) | (_, Some(Value::String(text))) => Ok(text.clone()),
        _ => Err(match part.get("type") {
            Some(Value::String(kind)) => format!("a part of type {kind:?}"),
            _ => kind(part).to_owned(),
        }),
    }
}

/// What a JSON value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn joined<'a>(turns: impl IntoIterator<Item = &'a str>) -> String {
    let turns: Vec<_> = turns.into_iter().filter(|turn| !turn.trim().is_empty()).collect();
    turns.join("\n\n")
}

/// A text with `\n` for `\r\n` and `\r`.
pub(crate) fn newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
