//! An answer's text, before and after it is taken apart.

use std::collections::HashSet;

use crate::writer::label::words;

/// Different words that an instruction has at least.
const LEAST_WORDS: usize = 3;

/// Items that follow each other on one line get their own: `… 2. [harmless]: …`.
pub(super) fn split_items(answer: &str) -> String {
    let mut out = String::with_capacity(answer.len() + 16);
    let mut rest = answer;
    while let Some(at) = rest.find(['[', '*']) {
        let head = rest[..at].trim_end_matches(' ');
        let digits = head.strip_suffix('.').map(|head| head.trim_end_matches(|c: char| c.is_ascii_digit()));
        match digits.filter(|before| {
            before.len() + 1 < head.len() && before.ends_with(' ') && !before.trim().is_empty()
        }) {
            Some(before) => {
                out.push_str(before.trim_end_matches(' '));
                out.push('\n');
                out.push_str(&rest[before.len()..=at]);
            }
            None => out.push_str(&rest[..=at]),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out
}

/// One line, without quotation marks around it.
pub(super) fn clean(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_suffix(';').map_or(line.clone(), |line| format!("{line}."));
    let bare = [('"', '"'), ('\u{201c}', '\u{201d}'), ('\'', '\'')].iter().find_map(|(open, close)| {
        line.strip_prefix(*open)?.strip_suffix(*close).filter(|inside| !inside.contains([*open, *close]))
    });
    bare.unwrap_or(&line).trim().to_owned()
}

/// More than a placeholder, a fragment, or the same word over and over.
pub(super) fn is_sentence(text: &str) -> bool {
    let cut = text.ends_with('\u{2026}') || text.ends_with("...");
    let placeholder = text.starts_with(['<', '[']) && text.trim_end_matches('.').ends_with(['>', ']']);
    let distinct: HashSet<_> = words(text).into_iter().collect();
    distinct.len() >= LEAST_WORDS && !cut && !placeholder && !text.contains('\u{fffd}')
}
