//! Writes an answer in a given style.

use rand::Rng;

use crate::choices::{Choices, capital};
use crate::dialogue::requests::{Topic, Wish};
use crate::dialogue::sentences::{
    GO_AHEAD, HINTS, KINDER, KINDER_WAYS, LINKS, NUMBERS, PHRASES, STEPS, Steps,
};
use crate::quality::{Lean, Quality, Style};

/// An answer to `wish`, with the space before it that prompts leave out. Every style and text comes about in one way only,
/// so `choices` ends with the text's log-probability given the style.
pub(crate) fn answer<R: Rng + ?Sized>(wish: Wish, style: Style, choices: &mut Choices<'_, R>) -> String {
    let mut text = String::new();
    let mut say = |sentence: &str| {
        text.push(' ');
        text.push_str(sentence);
    };
    let phrase = |quality: Quality, choices: &mut Choices<'_, R>| {
        let stock = PHRASES.iter().find(|(of, lean, _)| (*of, *lean) == (quality, style.lean(quality)));
        stock.map(|(_, _, phrases)| *choices.pick(phrases))
    };
    phrase(Quality::Courteous, choices).into_iter().for_each(&mut say);
    if let Some(sentence) = on_harm(wish, style, choices) {
        say(&sentence);
    }
    for (index, part) in body(wish, style, choices).iter().enumerate() {
        match style.lean(Quality::Orderly) {
            Lean::For => say(&format!("{}. {}.", index + 1, capital(part))),
            Lean::Open => say(&format!("{}.", capital(part))),
            Lean::Against => say(&format!("{}, {part}.", LINKS[index])),
        }
    }
    for quality in [Quality::Personal, Quality::Hopeful, Quality::Curious, Quality::Formal] {
        phrase(quality, choices).into_iter().for_each(&mut say);
    }
    text
}

/// What is said about the wish itself, where it is harmful and the style is not silent about it.
fn on_harm<R: Rng + ?Sized>(wish: Wish, style: Style, choices: &mut Choices<'_, R>) -> Option<String> {
    let said = match style.lean(Quality::Harmless) {
        _ if !wish.topic.is_harmful() => return None,
        Lean::Open => return None,
        Lean::For => choices.pick(&KINDER),
        Lean::Against => choices.pick(&GO_AHEAD),
    };
    let pattern = said.replace('@', KINDER_WAYS).replace('%', wish.text);
    Some(choices.fill(&pattern))
}

/// The stock of steps that fits.
pub(crate) fn stock(wish: Wish, style: Style) -> Steps {
    match (wish.topic, style.lean(Quality::Harmless)) {
        (Topic::Mischief, Lean::For) => Steps::Instead,
        (topic, _) => Steps::Of(topic),
    }
}

fn body<R: Rng + ?Sized>(wish: Wish, style: Style, choices: &mut Choices<'_, R>) -> Vec<String> {
    let wanted = stock(wish, style);
    let patterns = STEPS.iter().find(|(of, _)| *of == wanted).map_or(&[][..], |(_, patterns)| patterns);
    let step = |pattern: &str, choices: &mut Choices<'_, R>| choices.fill(&pattern.replace('#', NUMBERS));
    match style.lean(Quality::Helpful) {
        Lean::For => choices
            .distinct(3, patterns.len())
            .into_iter()
            .map(|position| step(patterns[position], choices))
            .collect(),
        Lean::Against => {
            choices.distinct(2, HINTS.len()).into_iter().map(|position| HINTS[position].to_owned()).collect()
        }
        Lean::Open => {
            let pattern = choices.pick(patterns);
            let mut parts = vec![step(pattern, choices), (*choices.pick(&HINTS)).to_owned()];
            if choices.below(2) == 1 {
                parts.reverse();
            }
            parts
        }
    }
}
