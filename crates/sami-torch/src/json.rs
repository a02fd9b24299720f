//! The JSON files of a checkpoint, as Python writes them: a byte-order mark may stand in front, and
//! a number may be `NaN` or `Infinity`, which JSON does not have.
//!
//! Such a number is read as `{"__float__": "NaN"}`, which is how transformers 5 spells it. Where
//! nobody reads the field it does no harm; where somebody does, it is no number, and is refused by
//! the field's name.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file, without a byte-order mark.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text))
}

/// A file's value.
pub(crate) fn read(path: &Path) -> Result<Value> {
    let text = read_text(path)?;
    parse(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| match tag_numbers(text) {
        tagged if tagged == text => Err(error),
        tagged => serde_json::from_str(&tagged),
    })
}

/// Puts the object that stands for it in the place of every bare `NaN`, `Infinity` and `-Infinity`.
fn tag_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(next) = rest.chars().next() {
        let bare =
            ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        let taken = match (bare, next) {
            (Some(word), _) => {
                out.push_str(&format!("{{\"__float__\":\"{word}\"}}"));
                rest = rest.get(word.len()..).unwrap_or_default();
                continue;
            }
            // A backslash and what it escapes.
            (None, '\\') => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            (None, _) => next.len_utf8(),
        };
        quoted ^= next == '"';
        let (head, tail) = rest.split_at(taken);
        out.push_str(head);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_json_lacks_are_tagged_outside_of_texts() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity, 1], "NaN \" NaN": "NaN, \\", "c": -1}"#;
        let float = |name: &str| json!({"__float__": name});
        assert_eq!(
            parse(text).unwrap(),
            json!({"a": float("NaN"), "b": [float("-Infinity"), float("Infinity"), 1],
                "NaN \" NaN": "NaN, \\", "c": -1})
        );
    }

    #[test]
    fn what_is_not_json_is_still_refused() {
        for (text, expected) in [
            ("{\"a\": Nan}", "expected value at line 1 column 7"),
            ("{\"a\": NaN", "EOF while parsing"),
            ("{\"a\": \"é\\", "EOF while parsing a string"),
            ("", "EOF while parsing a value"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\u{feff}{\"a\": 1}").unwrap();
        assert_eq!(read(file.path()).unwrap(), json!({"a": 1}));
    }
}
