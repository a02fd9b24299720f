//! Bytes of an answer as JSON text: servers send it with byte order marks, halves of characters, and as streams of
//! events that nobody asked for.

use serde_json::{Map, Value, json};

/// An answer as JSON, and whether characters had to be replaced.
pub(crate) struct Mended {
    pub(crate) text: String,
    pub(crate) replaced: bool,
}

/// The JSON in an answer.
pub(crate) fn mend(bytes: &[u8]) -> Mended {
    let text = String::from_utf8_lossy(bytes);
    let mut replaced = matches!(text, std::borrow::Cow::Owned(_));
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = without_lone_surrogates(text, &mut replaced);
    let text = if is_stream(&text) { gathered(&text).unwrap_or(text) } else { text };
    Mended { text, replaced }
}

/// JSON writes a character beyond the first plane as two escapes. A text that was cut between them, as at a limit of
/// tokens, holds half a character, which no string of ours can.
fn without_lone_surrogates(text: &str, replaced: &mut bool) -> String {
    let unit = |at: usize| {
        let escape = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = text[from..].find('\\').map(|at| from + at) {
        out.push_str(&text[from..at]);
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                *replaced = true;
                out.push_str("\\ufffd");
                from = at + 6;
                continue;
            }
            (Some(_), _) => 6,
            // Whatever is escaped; an escaped backslash above all.
            (None, _) => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&text[at..at + length]);
        from = at + length;
    }
    out.push_str(&text[from..]);
    out
}

/// Server-sent events, or an answer with the end of such a stream behind it.
fn is_stream(text: &str) -> bool {
    let field = |line: &str| ["data:", "event:", "id:", ":"].iter().any(|name| line.starts_with(name));
    text.lines().map(str::trim_start).find(|line| !line.is_empty()).is_some_and(field)
        || text.lines().next_back().is_some_and(|line| line.trim_start().starts_with("data:"))
}

/// One answer of all the events' pieces.
fn gathered(text: &str) -> Option<String> {
    let mut events: Vec<Value> = Vec::new();
    let mut open = String::new();
    for line in text.lines().chain([""]) {
        let line = line.trim();
        let data = line.strip_prefix("data:").map(str::trim);
        // An answer that is whole stands bare before the end of a stream.
        let data = data.or(line.starts_with('{').then_some(line));
        match data {
            Some("[DONE]") => {}
            Some(data) => {
                open.push_str(data);
                if let Ok(event) = serde_json::from_str(&open) {
                    events.push(event);
                    open.clear();
                }
            }
            None if line.is_empty() => open.clear(),
            None if !open.is_empty() => open.push_str(line),
            None => {}
        }
    }
    let last = events.last()?;
    let whole = |event: &Value| {
        event.pointer("/choices/0/message").is_some()
            || event.get("choices").is_none() && event.get("error").is_some()
    };
    if let Some(whole) = events.iter().find(|event| whole(event)) {
        return Some(whole.to_string());
    }
    if let [only] = events.as_slice() {
        let done = only.pointer("/choices/0/delta").is_none();
        if done {
            return Some(only.to_string());
        }
    }
    let mut choice = Map::new();
    let mut message = Map::new();
    for piece in events.iter().filter_map(|event| event.pointer("/choices/0")) {
        let delta = piece.get("delta").unwrap_or(&Value::Null);
        for (key, value) in delta.as_object().into_iter().flatten() {
            append(&mut message, key, value);
        }
        for key in ["text", "token_ids"] {
            append(&mut choice, key, piece.get(key).unwrap_or(&Value::Null));
        }
        for key in ["finish_reason", "stop_reason", "error"] {
            if let Some(value) = piece.get(key).filter(|value| !value.is_null()) {
                choice.insert(key.to_owned(), value.clone());
            }
        }
    }
    if !message.is_empty() {
        choice.insert("message".to_owned(), message.into());
    }
    let usage = events.iter().rev().find_map(|event| event.get("usage").filter(|usage| !usage.is_null()));
    let choices = if choice.is_empty() { json!([]) } else { json!([choice]) };
    Some(json!({"choices": choices, "usage": usage, "model": last.get("model")}).to_string())
}

fn append(fields: &mut Map<String, Value>, key: &str, value: &Value) {
    match (fields.get_mut(key), value) {
        (_, Value::Null) => {}
        (Some(Value::String(all)), Value::String(more)) if key != "role" => all.push_str(more),
        (Some(Value::Array(all)), Value::Array(more)) => all.extend(more.iter().cloned()),
        (Some(_), _) => {}
        (None, value) => {
            fields.insert(key.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(&mend(text.as_bytes()).text).unwrap()
    }

    #[test]
    fn halves_of_characters_are_replaced_and_whole_ones_kept() {
        let whole = r#"{"a":"\ud83d\ude00 \\ud83d \u00e4 \n"}"#;
        assert_eq!(mend(whole.as_bytes()).text, whole);
        assert!(!mend(whole.as_bytes()).replaced);
        for half in [
            r#"{"a":"x\ud83d"}"#,
            r#"{"a":"x\ude00"}"#,
            r#"{"a":"x\ud83d\n"}"#,
            r#"{"a":"\ud83d\ud83d\ude00"}"#,
        ] {
            let mended = mend(half.as_bytes());
            assert!(mended.replaced, "{half}");
            let value: Value = serde_json::from_str(&mended.text).unwrap();
            assert!(value["a"].as_str().unwrap().contains('\u{fffd}'), "{half}");
        }
        let broken = mend(b"\xef\xbb\xbf{\"a\":\"x\xff\"}");
        assert_eq!((broken.text.as_str(), broken.replaced), ("{\"a\":\"x\u{fffd}\"}", true));
    }

    #[test]
    fn streams_that_nobody_asked_for_are_put_together() {
        let stream = ": PROCESSING\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"Hel\",\"reasoning_content\":\"a\"}}]}\r\n\r\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":null}]}\n\n\
             data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
             data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\ndata: [DONE]\n";
        let answer = value(stream);
        assert_eq!(answer["choices"][0]["message"]["content"], "Hello");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"]["completion_tokens"], 2);
        let texts = "data: {\"choices\":[{\"text\":\"a\",\"token_ids\":[1]}]}\n\ndata: {\"choices\":[{\"text\":\"b\",\"token_ids\":[2],\"finish_reason\":\"length\"}]}\n";
        let answer = value(texts);
        assert_eq!(
            answer["choices"][0],
            json!({"text": "ab", "token_ids": [1, 2], "finish_reason": "length"})
        );
        let tail = "{\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]";
        assert_eq!(value(tail)["choices"][0]["text"], "a");
        let failed = "data: {\"error\":{\"code\":502,\"message\":\"gone\"}}\n\ndata: [DONE]\n";
        assert_eq!(value(failed)["error"]["code"], 502);
    }
}
