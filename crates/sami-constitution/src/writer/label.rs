//! What a label says: which principle, which side, or something else.

use crate::constitution::Stance;

/// A principle's name as words.
#[derive(Clone, Debug)]
pub(super) struct Name(Vec<String>);

/// Whom a label speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    None,
    One(usize),
    Many,
}

/// A label, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) subject: Subject,
    /// The side that it names, by a word for it or by denying the principle.
    pub(super) stance: Option<Stance>,
    /// It speaks of several: "Antitheses", "Both principles".
    pub(super) plural: bool,
    /// Another wording of the same: "Variant 2".
    pub(super) wording: bool,
    /// What follows is talk: "Note", "Example".
    pub(super) aside: bool,
}

const DENIALS: [&str; 12] =
    ["not", "non", "no", "un", "anti", "without", "lack", "lacks", "lacking", "never", "against", "avoid"];
const NEGATIVE: [&str; 8] = [
    "antithesis",
    "antitheses",
    "antithetical",
    "opposite",
    "opposites",
    "contrary",
    "contrastive",
    "negative",
];
const POSITIVE: [&str; 9] = [
    "principle",
    "principles",
    "definition",
    "definitions",
    "statement",
    "statements",
    "positive",
    "thesis",
    "meaning",
];
const PLURAL: [&str; 5] = ["antitheses", "opposites", "principles", "definitions", "statements"];
const WORDING: [&str; 12] = [
    "variant",
    "variants",
    "wording",
    "wordings",
    "version",
    "variation",
    "variations",
    "alternative",
    "option",
    "paraphrase",
    "phrasing",
    "rephrasing",
];
const ASIDES: [&str; 18] = [
    "note",
    "notes",
    "example",
    "examples",
    "explanation",
    "rationale",
    "reason",
    "reasoning",
    "why",
    "tip",
    "summary",
    "conclusion",
    "reminder",
    "disclaimer",
    "comment",
    "clarification",
    "usage",
    "format",
];
const PREFIXES: [&str; 9] = ["un", "in", "im", "ir", "il", "dis", "non", "anti", "mis"];

impl Name {
    pub(super) fn new(name: &str) -> Self {
        Self(words(name))
    }

    /// Where the name stands in `label`, and whether it is denied there.
    fn find(&self, label: &[String]) -> Option<(usize, bool)> {
        let at = |start: usize| -> Option<bool> {
            let mut denied = false;
            for (name, word) in self.0.iter().zip(label.get(start..start + self.0.len())?) {
                denied |= same(word, name)?;
            }
            Some(denied)
        };
        (0..label.len()).find_map(|start| at(start).map(|denied| (start, denied)))
    }
}

/// Whether `word` is `name` or a form of it, and then whether it denies it: "helpfulness", "unhelpful", "harmful".
fn same(word: &str, name: &str) -> Option<bool> {
    if form_of(word, name) {
        return Some(false);
    }
    let prefixed =
        PREFIXES.iter().filter_map(|prefix| word.strip_prefix(prefix)).any(|rest| form_of(rest, name));
    let turned = [("less", "ful"), ("ful", "less")].iter().any(|(end, other)| {
        name.strip_suffix(end)
            .is_some_and(|stem| word.strip_prefix(stem).is_some_and(|rest| rest.starts_with(other)))
    });
    (prefixed || turned).then_some(true)
}

/// "honesty" is a form of "honest", "concision" of "concise": all but the last two letters agree.
fn form_of(word: &str, name: &str) -> bool {
    let length = name.chars().count();
    let common = word.chars().zip(name.chars()).take_while(|(a, b)| a == b).count();
    word == name
        || (length >= 4 && common >= length.saturating_sub(2).max(4) && word.chars().count() <= length + 6)
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

impl Meaning {
    /// Reads a label.
    pub(super) fn of(label: &str, names: &[Name]) -> Self {
        let words = words(label);
        let mut found: Vec<(usize, usize, bool)> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if let Some((start, denied)) = name.find(&words) {
                found.push((index, start, denied));
            }
        }
        // "very helpful" is not also "helpful".
        let covers = |outer: &(usize, usize, bool), inner: &(usize, usize, bool)| {
            let (long, short) = (names[outer.0].0.len(), names[inner.0].0.len());
            long > short && outer.1 <= inner.1 && inner.1 + short <= outer.1 + long
        };
        let kept: Vec<_> =
            found.iter().filter(|inner| !found.iter().any(|outer| covers(outer, inner))).copied().collect();
        let subject = match kept[..] {
            [] => Subject::None,
            [(index, _, _)] => Subject::One(index),
            _ => Subject::Many,
        };
        let inside = |at: usize| {
            kept.iter().any(|(index, start, _)| (*start..start + names[*index].0.len()).contains(&at))
        };
        let others: Vec<&str> =
            words.iter().enumerate().filter(|(at, _)| !inside(*at)).map(|(_, word)| word.as_str()).collect();
        let any = |list: &[&str]| others.iter().any(|word| list.contains(word));
        let (negative, positive) = (any(&NEGATIVE), any(&POSITIVE));
        // "Not harmful" is harmless: two denials are none.
        let turned = kept.iter().any(|(_, _, denied)| *denied);
        let denied = turned != (subject != Subject::None && any(&DENIALS));
        let stance = match (negative, positive) {
            // "The antithesis of the principle" names one side, "principles and antitheses" both.
            (true, true) if others.contains(&"of") => Some(Stance::Antithesis),
            (true, true) => None,
            (true, false) => Some(Stance::Antithesis),
            (false, _) if denied => Some(Stance::Antithesis),
            (false, true) => Some(Stance::Principle),
            (false, false) => None,
        };
        Self {
            subject,
            stance,
            plural: any(&PLURAL) || (negative && positive),
            wording: any(&WORDING),
            aside: subject == Subject::None && stance.is_none() && any(&ASIDES),
        }
    }

    /// It is a label of ours at all.
    pub(super) fn is_known(&self) -> bool {
        self.subject != Subject::None || self.stance.is_some() || self.plural || self.wording || self.aside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_a_principle_and_a_side() {
        use Stance::*;
        use Subject::*;
        let names = ["helpful", "harmless", "very helpful", "honest", "no jargon"].map(Name::new);
        let cases = [
            ("helpful", One(0), Option::None),
            ("Helpfulness", One(0), Option::None),
            ("Not helpful", One(0), Some(Antithesis)),
            ("Un-helpful", One(0), Some(Antithesis)),
            ("Unhelpfulness", One(0), Some(Antithesis)),
            ("Antithesis of helpful", One(0), Some(Antithesis)),
            ("Helpful (principle)", One(0), Some(Principle)),
            ("Harmful", One(1), Some(Antithesis)),
            ("Not harmful", One(1), Option::None),
            ("Anti-harmless", One(1), Some(Antithesis)),
            ("Antithesis: not harmless", One(1), Some(Antithesis)),
            ("Very helpful", One(2), Option::None),
            ("Dishonesty", One(3), Some(Antithesis)),
            ("No jargon", One(4), Option::None),
            ("Not: no jargon", One(4), Some(Antithesis)),
            ("Helpful and harmless", Many, Option::None),
            ("Antitheses", Subject::None, Some(Antithesis)),
            ("Principles and antitheses", Subject::None, Option::None),
            ("The antithesis of each principle", Subject::None, Some(Antithesis)),
            ("Definition", Subject::None, Some(Principle)),
            ("Helpless", One(0), Some(Antithesis)),
            ("Helping hands", Subject::None, Option::None),
            ("Harm", Subject::None, Option::None),
        ];
        for (label, subject, stance) in cases {
            let meaning = Meaning::of(label, &names);
            assert_eq!((meaning.subject, meaning.stance), (subject, stance), "{label}");
        }
        assert!(Meaning::of("Note", &names).aside && Meaning::of("Variant 2", &names).wording);
        assert!(Meaning::of("Antitheses", &names).plural && !Meaning::of("Antithesis", &names).plural);
        assert!(!Meaning::of("Sure", &names).is_known());
    }
}
