//! One line of a model's answer: what marks it, and the label before its text.

/// How a line is set off from prose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    None,
    Heading,
    Bullet,
    Number,
}

/// A line without its list marks and emphasis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Columns of white space before it.
    pub(super) indent: usize,
    pub(super) marker: Marker,
    pub(super) text: String,
    /// Where emphasis that began with the text ends in `text`.
    bold: Option<usize>,
}

/// A label and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Labelled {
    pub(super) label: String,
    /// The label stands in brackets or in emphasis.
    pub(super) marked: bool,
    /// The text after the label; empty for a heading.
    pub(super) rest: String,
}

/// Words of a label in plain text, at most; longer beginnings are sentences.
const LABEL_WORDS: usize = 8;
/// The same before a dash, which is more common inside sentences.
const DASH_LABEL_WORDS: usize = 4;
/// Words of a line that may be a heading though nothing marks it as one.
const BARE_WORDS: usize = 4;

impl Line {
    /// `None` for a line without content.
    pub(super) fn read(line: &str) -> Option<Self> {
        let indent =
            line.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 4 } else { 1 }).sum();
        let mut marker = Marker::None;
        let mut text = line.trim();
        loop {
            let before = text;
            if let Some(rest) = text.strip_prefix('#') {
                text = rest.trim_start_matches('#').trim_start();
                marker = Marker::Heading;
            } else if let Some(rest) = bullet(text) {
                text = rest;
                marker = if marker == Marker::None { Marker::Bullet } else { marker };
            } else if let Some(rest) = number(text) {
                text = rest;
                marker = if marker == Marker::Heading { marker } else { Marker::Number };
            }
            if text == before {
                break;
            }
        }
        // A number inside the emphasis: **1. Helpful:** …
        let mut owned = text.to_owned();
        for mark in ["**", "__"] {
            if let Some(rest) = text.strip_prefix(mark).and_then(number) {
                owned = format!("{mark}{rest}");
                marker = if marker == Marker::Heading { marker } else { Marker::Number };
            }
        }
        let (text, bold) = plain(&owned);
        let rule = text.chars().all(|c| matches!(c, '-' | '=' | '_' | '*' | '~' | ' '));
        (!rule).then_some(Self { indent, marker, text, bold })
    }

    /// The label that the line begins with. For a line that is nothing but a heading, the rest is empty.
    pub(super) fn label(&self) -> Option<Labelled> {
        if let Some(end) = self.bold {
            return Some(self.bold_label(end));
        }
        if let Some(found) = label_of(&self.text) {
            return Some(found);
        }
        let words = self.text.split_whitespace().count();
        let bare = words <= BARE_WORDS && !self.text.ends_with(['.', '!', '?', ',']);
        (bare || self.marker == Marker::Heading).then(|| heading(&self.text, self.marker == Marker::Heading))
    }

    fn bold_label(&self, end: usize) -> Labelled {
        let (inside, after) = self.text.split_at(end);
        if let Some(found) = label_of(inside).filter(|found| !found.rest.is_empty()) {
            return Labelled {
                marked: true,
                rest: format!("{}{after}", found.rest).trim().to_owned(),
                ..found
            };
        }
        let mut label = inside.trim_end_matches([':', ' ']).to_owned();
        let mut rest = after.trim_start();
        // What kind of thing it is may stand outside the emphasis: **Helpful** (antithesis): …
        if let Some((inner, more)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            label = format!("{label} ({inner})");
            rest = more;
        }
        let label = label.trim_matches(['[', ']']).to_owned();
        Labelled { label, marked: true, rest: after_label(rest).to_owned() }
    }
}

/// A label at the beginning of plain text: in brackets, before a colon, or before a dash.
pub(super) fn label_of(text: &str) -> Option<Labelled> {
    if let Some((inner, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Some(Labelled { label: inner.to_owned(), marked: true, rest: after_label(rest).to_owned() });
    }
    if let Some(before) = text.strip_suffix(':') {
        // However long: "Here are the antitheses that you asked for:".
        return Some(heading(before, false));
    }
    let short = |label: &str, most| {
        label.split_whitespace().count() <= most && !label.contains(['.', '!', '?', ',', ';'])
    };
    let found = |label: &str, rest: &str| Labelled {
        label: label.to_owned(),
        marked: false,
        rest: rest.trim().to_owned(),
    };
    // Whichever comes first ends the label.
    let dash = [" - ", " \u{2013} ", " \u{2014} "].iter().find_map(|dash| text.split_once(dash));
    if let Some((label, rest)) = dash
        && short(label, DASH_LABEL_WORDS)
        && !label.contains(':')
    {
        return Some(found(label, rest));
    }
    let (label, rest) = text.split_once(':')?;
    let is_label = short(label, LABEL_WORDS) && rest.starts_with([' ', '"', '\u{201c}']);
    is_label.then(|| found(label, rest))
}

fn heading(text: &str, marked: bool) -> Labelled {
    Labelled { label: text.trim_end_matches([':', ' ']).to_owned(), marked, rest: String::new() }
}

fn after_label(text: &str) -> &str {
    text.trim_start_matches(|c: char| {
        c.is_whitespace() || matches!(c, ':' | '-' | '\u{2013}' | '\u{2014}' | '.')
    })
    .trim_end()
}

fn bullet(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    let first = chars.next()?;
    let rest = chars.as_str();
    if matches!(first, '-' | '*' | '+' | '\u{2022}' | '\u{2013}' | '\u{2014}' | '\u{b7}' | '>') {
        return rest.starts_with(char::is_whitespace).then(|| rest.trim_start());
    }
    // a) or a.
    let rest = rest.strip_prefix([')', '.']).filter(|_| first.is_ascii_alphabetic())?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
}

/// The text after `12.`, `12)` or `(12)`.
fn number(text: &str) -> Option<&str> {
    let open = text.strip_prefix('(').unwrap_or(text);
    let digits = open.bytes().take_while(u8::is_ascii_digit).count();
    let rest = open.get(digits..)?.strip_prefix(['.', ')']).filter(|_| (1..=3).contains(&digits))?;
    // Not 3.5
    (!rest.starts_with(|c: char| c.is_ascii_digit())).then(|| rest.trim_start())
}

/// Text without marks of emphasis and code, and the end of the emphasis that it began with.
fn plain(text: &str) -> (String, Option<usize>) {
    let opening = ["**", "__", "*", "_"].into_iter().find(|mark| text.starts_with(*mark));
    let mut out = String::with_capacity(text.len());
    let mut bold = None;
    let mut rest = text;
    if let Some(mark) = opening {
        rest = &rest[mark.len()..];
        if let Some((inside, after)) = rest.split_once(mark) {
            out.push_str(&without_marks(inside));
            bold = Some(out.len());
            rest = after;
        }
    }
    out.push_str(&without_marks(rest));
    // Emphasis over a whole sentence is no label.
    let sentence =
        |end: usize| out[..end].split_whitespace().count() > LABEL_WORDS && !out[..end].contains(':');
    let bold = bold.filter(|end| !sentence(*end));
    (out, bold)
}

fn without_marks(text: &str) -> String {
    text.replace("**", "").replace("__", "").replace(['*', '`'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> (Marker, Option<(String, String)>) {
        let line = Line::read(line).unwrap();
        (line.marker, line.label().map(|found| (found.label, found.rest)))
    }

    #[test]
    fn marks_and_labels_are_told_from_text() {
        use Marker::*;
        let cases = [
            ("1. [helpful]: Be clear.", Number, Some(("helpful", "Be clear."))),
            ("12) **Helpful**: Be clear.", Number, Some(("Helpful", "Be clear."))),
            ("(3) Helpful - Be clear.", Number, Some(("Helpful", "Be clear."))),
            ("**1. Helpful:** Be clear.", Number, Some(("Helpful", "Be clear."))),
            ("**[Helpful]**: Be clear.", None, Some(("Helpful", "Be clear."))),
            ("- **Helpful** (antithesis): Be vague.", Bullet, Some(("Helpful (antithesis)", "Be vague."))),
            ("  a) Be clear and kind to them.", Bullet, Option::None),
            ("### 2. Harmless", Heading, Some(("Harmless", ""))),
            ("**Antitheses**", None, Some(("Antitheses", ""))),
            ("**Helpful: Be clear.**", None, Some(("Helpful", "Be clear."))),
            (
                "Here are both of the antitheses that you have asked me for:",
                None,
                Some(("Here are both of the antitheses that you have asked me for", "")),
            ),
            ("Principles", None, Some(("Principles", ""))),
            ("*Responses should be clear and useful to all of them.*", None, Option::None),
            ("At 10:30 it was over and they left.", None, Option::None),
            ("3.5 million people agree on that one.", None, Option::None),
            (
                "Responses - like all things - should end.",
                None,
                Some(("Responses", "like all things - should end.")),
            ),
        ];
        for (line, marker, label) in cases {
            let expected = label.map(|(label, rest)| (label.to_owned(), rest.to_owned()));
            assert_eq!(parts(line), (marker, expected), "{line}");
        }
        assert_eq!(Line::read("  "), Option::None);
        assert_eq!(Line::read("---"), Option::None);
        assert_eq!(Line::read("\t- x y").unwrap().indent, 4);
    }
}
