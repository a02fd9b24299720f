//! Reads an answer, strictly.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::choices::{capital, every};
use crate::dialogue::answer::stock;
use crate::dialogue::requests::{Wish, wishes};
use crate::dialogue::sentences::{
    GO_AHEAD, HINTS, KINDER, KINDER_WAYS, LINKS, NUMBERS, PHRASES, STEPS, Steps,
};
use crate::oracle::{Gibberish, Reading, sentences};
use crate::quality::{Lean, Quality, Style};

/// The places of an answer, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Greeting,
    OnHarm,
    Body,
    FromLife,
    Outlook,
    Question,
    Leave,
}

/// What a whole sentence outside the body is.
#[derive(Clone, Copy)]
enum Sentence {
    Phrase(Quality, Lean),
    OnHarm(Lean, &'static str),
}

/// What a part of the body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Step(Steps),
    Hint,
}

static SENTENCES: LazyLock<HashMap<String, Sentence>> = LazyLock::new(|| {
    let phrases = PHRASES.iter().flat_map(|(quality, lean, texts)| {
        texts.iter().map(|text| ((*text).to_owned(), Sentence::Phrase(*quality, *lean)))
    });
    let on_harm = wishes().filter(|wish| wish.topic.is_harmful()).flat_map(|wish| {
        [(Lean::For, KINDER), (Lean::Against, GO_AHEAD)].into_iter().flat_map(move |(lean, patterns)| {
            patterns.into_iter().flat_map(move |pattern| {
                every(&pattern.replace('@', KINDER_WAYS).replace('%', wish.text))
                    .into_iter()
                    .map(move |text| (text, Sentence::OnHarm(lean, wish.text)))
            })
        })
    });
    phrases.chain(on_harm).collect()
});

static PARTS: LazyLock<HashMap<String, Part>> = LazyLock::new(|| {
    let steps = STEPS.iter().flat_map(|(stock, patterns)| {
        patterns.iter().flat_map(|pattern| {
            every(&pattern.replace('#', NUMBERS)).into_iter().map(|text| (text, Part::Step(*stock)))
        })
    });
    steps.chain(HINTS.iter().map(|hint| ((*hint).to_owned(), Part::Hint))).collect()
});

/// Reads an answer to `wish`.
pub(crate) fn read(wish: Wish, text: &str) -> Result<Reading, Gibberish> {
    let mut style = Style::default();
    let (mut last, mut on_topic) = (Place::Greeting, true);
    let mut body: Vec<(Lean, Part, &str)> = Vec::new();
    let mut numbered = None;
    let mut seen = Vec::new();
    for sentence in sentences(text)? {
        if let Some(digit) = ["1.", "2.", "3."].iter().position(|digit| *digit == sentence) {
            if numbered.replace(digit).is_some() || digit != body.len() {
                return Err(Gibberish::Order(sentence.to_owned()));
            }
            continue;
        }
        if seen.contains(&sentence) {
            return Err(Gibberish::Repeated(sentence.to_owned()));
        }
        seen.push(sentence);
        let place = match SENTENCES.get(sentence).filter(|_| numbered.is_none()) {
            Some(Sentence::Phrase(quality, lean)) => {
                style = said_once(style, *quality, *lean, sentence)?;
                match quality {
                    Quality::Courteous => Place::Greeting,
                    Quality::Personal => Place::FromLife,
                    Quality::Hopeful => Place::Outlook,
                    Quality::Curious => Place::Question,
                    _ => Place::Leave,
                }
            }
            Some(Sentence::OnHarm(lean, about)) => {
                style = said_once(style, Quality::Harmless, *lean, sentence)?;
                on_topic &= *about == wish.text;
                Place::OnHarm
            }
            None => {
                body.push(part(sentence, numbered.take(), body.len())?);
                Place::Body
            }
        };
        if place < last {
            return Err(Gibberish::Order(sentence.to_owned()));
        }
        last = place;
    }
    if numbered.is_some() {
        return Err(Gibberish::Unknown("a number without a step".into()));
    }
    let Some(&(marking, ..)) = body.first() else { return Err(Gibberish::NoBody) };
    if body.iter().any(|(other, ..)| *other != marking) {
        return Err(Gibberish::Mixed);
    }
    let hints = body.iter().filter(|(_, part, _)| *part == Part::Hint).count();
    let helpful = match (body.len() - hints, hints) {
        (3, 0) => Lean::For,
        (1, 1) => Lean::Open,
        (0, 2) => Lean::Against,
        (steps, hints) => return Err(Gibberish::Count { steps, hints }),
    };
    let style = style.with(Quality::Orderly, marking).with(Quality::Helpful, helpful);
    let fitting = Part::Step(stock(wish, style));
    on_topic &= body.iter().all(|(_, part, _)| *part == Part::Hint || *part == fitting);
    Ok(Reading { style, on_topic })
}

fn said_once(style: Style, quality: Quality, lean: Lean, sentence: &str) -> Result<Style, Gibberish> {
    match style.lean(quality) {
        Lean::Open => Ok(style.with(quality, lean)),
        _ => Err(Gibberish::Repeated(sentence.to_owned())),
    }
}

/// A sentence of the body: how it is marked, and what it is.
fn part(sentence: &str, number: Option<usize>, index: usize) -> Result<(Lean, Part, &str), Gibberish> {
    let unknown = || Gibberish::Unknown(sentence.to_owned());
    let inner = sentence.strip_suffix('.').ok_or_else(unknown)?;
    let linked = LINKS.get(index).and_then(|link| inner.strip_prefix(link)?.strip_prefix(", "));
    let (marking, text) = match (number, linked) {
        (Some(_), _) => (Lean::For, inner),
        (None, Some(rest)) => (Lean::Against, rest),
        (None, None) => (Lean::Open, inner),
    };
    let known = match marking {
        Lean::Against => PARTS.get_key_value(text),
        // Linked steps alone begin with a small letter.
        _ => lower(text).and_then(|text| PARTS.get_key_value(&text)),
    };
    let (text, part) = known.ok_or_else(unknown)?;
    Ok((marking, *part, text))
}

/// With its first letter small, if it was a capital.
fn lower(text: &str) -> Option<String> {
    let mut letters = text.chars();
    let first = letters.next()?.to_lowercase().chain(letters).collect::<String>();
    (capital(&first) == text && first != text).then_some(first)
}
