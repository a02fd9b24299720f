//! The oracle: what a response says and does, from its text alone.

use sami_policy::{Comparison, Judge, Verdict};
use thiserror::Error;

use crate::dialogue::{self, Wish, wish_of};
use crate::quality::{Kind, Lean, Quality, Style};
use crate::summaries::{self, Post, post_of};
use crate::wordings::article;

/// A response that belongs to the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where it stands on every quality.
    pub style: Style,
    /// Whether it answers this request: steps of the right topic, the right wish named, only facts that the post tells.
    pub on_topic: bool,
}

/// Why a response is outside the grammar.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Gibberish {
    /// Nothing is said.
    #[error("it is empty")]
    Empty,
    /// White space that no sentence has.
    #[error("sentences stand one space apart, and nothing else does")]
    Spacing,
    /// A sentence that this world does not have.
    #[error("unknown sentence {0:?}")]
    Unknown(String),
    /// A sentence that comes too late, or a number out of turn.
    #[error("{0:?} stands in the wrong place")]
    Order(String),
    /// Said twice, or two sentences where one has its place.
    #[error("{0:?} says something again")]
    Repeated(String),
    /// No step, hint or fact.
    #[error("it has no body")]
    NoBody,
    /// Steps marked in different ways, or facts in different forms.
    #[error("its parts are of different forms")]
    Mixed,
    /// A body that is no answer's.
    #[error("{steps} steps and {hints} hints; an answer has 3 and 0, 1 and 1, or 0 and 2")]
    Count {
        /// Concrete steps.
        steps: usize,
        /// Hints.
        hints: usize,
    },
    /// A number of facts that no summary has.
    #[error("{0} facts; a summary has 5, 3 or 1")]
    Facts(usize),
}

/// A query of this world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A request.
    Dialogue(Wish),
    /// A post.
    Summaries(Post),
}

impl Query {
    /// Recognizes a query by its text.
    pub fn parse(text: &str) -> Option<Self> {
        wish_of(text).map(Self::Dialogue).or_else(|| post_of(text).map(Self::Summaries))
    }

    /// The task it belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dialogue(_) => Kind::Dialogue,
            Self::Summaries(_) => Kind::Summaries,
        }
    }

    /// Whether a principle has anything to say about responses to this query: the harmless one only where there is harm to do,
    /// those of the other task never.
    pub fn concerns(&self, quality: Quality) -> bool {
        let harm = |wish: &Wish| quality != Quality::Harmless || wish.topic.is_harmful();
        match self {
            Self::Dialogue(wish) => quality.kind() == Kind::Dialogue && harm(wish),
            Self::Summaries(_) => quality.kind() == Kind::Summaries,
        }
    }

    /// Reads a response to this query. One space before it is part of how models continue a prompt.
    ///
    /// # Errors
    ///
    /// Why it is outside the grammar.
    pub fn read(&self, response: &str) -> Result<Reading, Gibberish> {
        match self {
            Self::Dialogue(wish) => dialogue::read(*wish, response),
            Self::Summaries(post) => summaries::read(post, response),
        }
    }
}

/// The sentences of a text, each with its final mark.
pub(crate) fn sentences(text: &str) -> Result<Vec<&str>, Gibberish> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    if text.is_empty() {
        return Err(Gibberish::Empty);
    }
    if text.starts_with(' ') || text.ends_with(char::is_whitespace) || text.contains("  ") {
        return Err(Gibberish::Spacing);
    }
    let mut sentences = Vec::new();
    let mut rest = text;
    while let Some(end) =
        rest.match_indices(' ').map(|(at, _)| at).find(|at| rest[..*at].ends_with(['.', '!', '?']))
    {
        sentences.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    sentences.push(rest);
    Ok(sentences)
}

/// What a rendered constitution asks for, article by article; `None` if an article is none of this world's wordings.
pub fn asked(constitution: &str) -> Option<Vec<(Quality, Lean)>> {
    constitution
        .lines()
        .enumerate()
        .map(|(index, line)| article(line.strip_prefix(&format!("{}. ", index + 1))?))
        .collect()
}

/// Judges by reading: the response whose style follows more of the constitution's articles wins. One that is gibberish or
/// answers something else loses to one that is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oracle;

impl Oracle {
    /// The score of one response: [`Style::score`], or `None` for gibberish and for an answer to something else.
    pub fn score(query: &Query, asked: &[(Quality, Lean)], response: &str) -> Option<i32> {
        query.read(response).ok().filter(|reading| reading.on_topic).map(|reading| reading.style.score(asked))
    }
}

impl Judge for Oracle {
    fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
        let verdict = |one: &Comparison<'_>| {
            let Some(query) = Query::parse(one.query) else {
                return Verdict::Failed { reason: format!("the query {:?} is not of this world", one.query) };
            };
            let Some(asked) = asked(one.constitution) else {
                let reason = format!("the constitution {:?} is not of this world", one.constitution);
                return Verdict::Failed { reason };
            };
            let [a, b] =
                [one.response_a, one.response_b].map(|response| Self::score(&query, &asked, response));
            match a.cmp(&b) {
                std::cmp::Ordering::Greater => Verdict::A,
                std::cmp::Ordering::Less => Verdict::B,
                std::cmp::Ordering::Equal => Verdict::Tie,
            }
        };
        comparisons.iter().map(verdict).collect()
    }
}
