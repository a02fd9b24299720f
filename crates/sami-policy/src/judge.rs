//! Who decides which response follows a constitution better.

use serde::{Deserialize, Serialize};

/// Two responses to one query, to be compared under one constitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// The query x.
    pub query: &'a str,
    /// The constitution c, rendered.
    pub constitution: &'a str,
    /// Response A, shown first.
    pub response_a: &'a str,
    /// Response B, shown second.
    pub response_b: &'a str,
}

/// A judge's answer. Whatever is not a clear answer stays visible as such: nothing is silently counted as a tie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Response A follows the constitution better.
    A,
    /// Response B does.
    B,
    /// Neither does.
    Tie,
    /// The judge answered, but not with a verdict.
    Unparsable {
        /// What it said.
        answer: String,
    },
    /// The judge did not answer.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Compares responses: a language model, an oracle, a person.
pub trait Judge {
    /// One verdict per comparison, in order. A comparison that fails becomes [`Verdict::Failed`]; the others go on.
    fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Vec<Verdict>;
}
