//! Reads a summary, strictly.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::oracle::{Gibberish, Reading, sentences};
use crate::quality::{Lean, Quality, Style};
use crate::summaries::facts::Fact;
use crate::summaries::post::Post;

/// Every sentence of a summary: its fact, the fact's value and its form.
static SENTENCES: LazyLock<HashMap<String, (Fact, String, Lean)>> = LazyLock::new(|| {
    let all =
        Fact::ALL.into_iter().flat_map(|fact| fact.values().into_iter().map(move |value| (fact, value)));
    all.flat_map(|(fact, value)| {
        Lean::ALL.map(|form| (fact.forms().summary(form).replace('%', &value), (fact, value.clone(), form)))
    })
    .collect()
});

/// Reads a summary of `post`. It is on topic if it tells no fact that the post does not.
pub(crate) fn read(post: &Post, text: &str) -> Result<Reading, Gibberish> {
    let mut told: Vec<(Fact, Lean)> = Vec::new();
    let mut on_topic = true;
    for sentence in sentences(text)? {
        let (fact, value, form) =
            SENTENCES.get(sentence).ok_or_else(|| Gibberish::Unknown(sentence.to_owned()))?;
        match told.last() {
            Some((last, _)) if last == fact => return Err(Gibberish::Repeated(sentence.to_owned())),
            Some((last, _)) if last > fact => return Err(Gibberish::Order(sentence.to_owned())),
            _ => told.push((*fact, *form)),
        }
        on_topic &= post.value(*fact) == value;
    }
    let Some(&(_, form)) = told.first() else { return Err(Gibberish::NoBody) };
    if told.iter().any(|(_, other)| *other != form) {
        return Err(Gibberish::Mixed);
    }
    let comprehensive = match told.len() {
        5 => Lean::For,
        3 => Lean::Open,
        1 => Lean::Against,
        facts => return Err(Gibberish::Facts(facts)),
    };
    let style = Style::default().with(Quality::Concise, form).with(Quality::Comprehensive, comprehensive);
    Ok(Reading { style, on_topic })
}
