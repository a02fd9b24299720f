//! From sampled text to responses, and reasons to leave a set out.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use sami_constitution::{ResponseRules, Trim};
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::pairs::{Finish, PairResponse};

/// Why a set is left out of training. In files it is its name, for example `"identical"`; a name that is not ours is
/// kept as [`Rejection::Other`], so that filters of your own can count with the rest.
///
/// It borrows as `str`: maps keyed by it can be asked by name, and lists of it joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Rejection {
    /// `empty`: a response without text.
    Empty,
    /// `evasive-opening`: a response begins as [`ResponseRules::reject_openings`] say (A.10: "I'm sorry").
    EvasiveOpening,
    /// `format-leftover`: a response holds a piece of the prompt's format.
    FormatLeftover,
    /// `unfinished`: a response does not end as [`ResponseRules::require_endings`] ask.
    Unfinished,
    /// `truncated`: a response reached the limit of tokens.
    Truncated,
    /// `identical`: two responses of the set are equal.
    Identical,
    /// `prompt-refused`: the model cannot take a prompt of the set (too long, a token beyond its
    /// vocabulary).
    PromptRefused,
    /// `server-refused`: the server did not answer a prompt of the set (its content filter, its limit).
    ServerRefused,
    /// `answer-unusable`: an answer came, but it cannot be used.
    AnswerUnusable,
    /// `set-refused`: the policy cannot score the set's prompts with its responses.
    SetRefused,
    /// Any other reason, by its name.
    Other(String),
}

impl Rejection {
    const NAMED: [Self; 10] = [
        Self::Empty,
        Self::EvasiveOpening,
        Self::FormatLeftover,
        Self::Unfinished,
        Self::Truncated,
        Self::Identical,
        Self::PromptRefused,
        Self::ServerRefused,
        Self::AnswerUnusable,
        Self::SetRefused,
    ];

    /// Its name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Empty => "empty",
            Self::EvasiveOpening => "evasive-opening",
            Self::FormatLeftover => "format-leftover",
            Self::Unfinished => "unfinished",
            Self::Truncated => "truncated",
            Self::Identical => "identical",
            Self::PromptRefused => "prompt-refused",
            Self::ServerRefused => "server-refused",
            Self::AnswerUnusable => "answer-unusable",
            Self::SetRefused => "set-refused",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for Rejection {
    fn from(name: String) -> Self {
        Self::NAMED.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Self::Other(name))
    }
}

impl From<Rejection> for String {
    fn from(reason: Rejection) -> Self {
        reason.as_str().to_owned()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Borrow<str> for Rejection {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

// Compared by name throughout, as Borrow<str> demands.
impl PartialEq for Rejection {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Rejection {}

impl PartialOrd for Rejection {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rejection {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Rejection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// How often each reason came up, a set counting once for each of its reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RejectionCounts(BTreeMap<Rejection, usize>);

impl RejectionCounts {
    /// Counts one set's reasons.
    pub fn add(&mut self, reasons: &[Rejection]) {
        for reason in reasons {
            *self.0.entry(reason.clone()).or_default() += 1;
        }
    }

    /// How often a reason came up.
    pub fn get(&self, reason: &Rejection) -> usize {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// Reasons with their counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Rejection, usize)> {
        self.0.iter().map(|(reason, count)| (reason, *count))
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for RejectionCounts {
    /// `empty 2, identical 5`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (reason, count)) in self.0.iter().enumerate() {
            write!(f, "{}{reason} {count}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A response as it is after [`ResponseFilter::process`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// The response.
    pub text: String,
    /// Whether it differs from what was sampled. The sampled token ids then do not spell it any more: drop them.
    pub edited: bool,
    /// Whether a stop string was found and cut off here.
    pub stopped: bool,
}

/// What a model gave, before the task's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The text.
    pub text: String,
    /// The tokens that spell it, where known, with the end-of-sequence token last where that ended it.
    pub token_ids: Option<Vec<u32>>,
    /// Why it ended.
    pub finish: Finish,
}

/// A response that is to be judged by [`ResponseFilter::reject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The processed text.
    pub text: &'a str,
    /// Why it ended, where known.
    pub finish: Option<Finish>,
}

impl<'a> From<&'a PairResponse> for Candidate<'a> {
    fn from(response: &'a PairResponse) -> Self {
        Self { text: &response.text, finish: response.finish }
    }
}

/// Acts on a task's [`ResponseRules`].
#[derive(Clone, Debug)]
pub struct ResponseFilter {
    rules: ResponseRules,
    /// Lower case, with straight apostrophes.
    openings: Vec<String>,
}

impl ResponseFilter {
    /// A filter for rules that mean something.
    ///
    /// # Errors
    ///
    /// [`DataError::Rules`] for an empty string among them.
    pub fn new(rules: ResponseRules) -> Result<Self, DataError> {
        rules.check()?;
        let openings = rules.reject_openings.iter().map(|opening| fold(opening.trim_start())).collect();
        Ok(Self { rules, openings })
    }

    /// The rules.
    pub fn rules(&self) -> &ResponseRules {
        &self.rules
    }

    /// The response in a sampled text: cut where the first stop string begins, white space cut off, the task's prefix put
    /// before it.
    pub fn process(&self, sampled: &str) -> Processed {
        let stop = self.rules.stop.iter().filter_map(|stop| sampled.find(stop.as_str())).min();
        let kept = &sampled[..stop.unwrap_or(sampled.len())];
        let kept = match self.rules.trim {
            Trim::End => kept.trim_end(),
            // With a prefix before it, white space at the beginning is inside the response.
            Trim::Both if self.rules.prefix.is_empty() => kept.trim(),
            Trim::Both => kept.trim_end(),
            Trim::Never => kept,
        };
        let text =
            if kept.trim().is_empty() { String::new() } else { format!("{}{kept}", self.rules.prefix) };
        Processed { edited: text != sampled, stopped: stop.is_some(), text }
    }

    /// The response to constitution number `constitution` in what was sampled for it, with the ids of the tokens that count:
    /// those that were sampled, while the text is exactly what they spell. The end-of-sequence token counts if `score_eos`.
    pub fn response(&self, constitution: usize, sampled: Sampled, score_eos: bool) -> PairResponse {
        let Processed { text, edited, stopped } = self.process(&sampled.text);
        let mut token_ids = sampled.token_ids.filter(|_| !edited);
        if let (Finish::Eos, false, Some(ids)) = (sampled.finish, score_eos, &mut token_ids) {
            ids.pop();
        }
        PairResponse {
            constitution,
            text,
            token_ids: token_ids.filter(|ids| !ids.is_empty()),
            finish: Some(if stopped { Finish::Stop } else { sampled.finish }),
        }
    }

    /// Why a set with these responses is left out: each reason once, by name; none if it is kept.
    pub fn reject(&self, responses: &[Candidate<'_>]) -> Vec<Rejection> {
        let mut reasons = Vec::new();
        for response in responses {
            reasons.extend(self.reject_one(response));
        }
        let repeated = |index: usize, text: &str| {
            responses.iter().take(index).any(|before| before.text.trim() == text.trim())
        };
        if self.rules.reject_equal
            && responses.iter().enumerate().any(|(index, one)| repeated(index, one.text))
        {
            reasons.push(Rejection::Identical);
        }
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    fn reject_one(&self, response: &Candidate<'_>) -> Vec<Rejection> {
        let text = response.text.trim();
        if text.is_empty() {
            return vec![Rejection::Empty];
        }
        let folded = fold(text);
        let rules = &self.rules;
        let holds = |list: &[String]| list.iter().any(|piece| text.contains(piece.as_str()));
        let ends = |list: &[String]| list.iter().any(|end| text.ends_with(end.as_str()));
        [
            (self.openings.iter().any(|opening| folded.starts_with(opening)), Rejection::EvasiveOpening),
            (holds(&rules.reject_containing), Rejection::FormatLeftover),
            (!rules.require_endings.is_empty() && !ends(&rules.require_endings), Rejection::Unfinished),
            (rules.reject_truncated && response.finish == Some(Finish::Length), Rejection::Truncated),
        ]
        .into_iter()
        .filter_map(|(is_so, reason)| is_so.then_some(reason))
        .collect()
    }
}

/// Lower case, and one kind of apostrophe.
fn fold(text: &str) -> String {
    text.to_lowercase().replace(['\u{2019}', '\u{2bc}'], "'")
}
