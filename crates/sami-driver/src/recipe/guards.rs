//! What a recipe says about collapse.

use serde::{Deserialize, Serialize};

/// `[guards]`: mutual information cannot see that text falls apart, so every iteration's answers are held against the base's.
/// Each limit can be left out of the check by setting it to 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSection {
    /// What happens when a limit is passed: `stop`, `warn` or `off`. Default `stop`.
    pub action: GuardAction,
    /// At most so many contrast sets are looked at each time. Default 64.
    pub queries: usize,
    /// Largest mean of (ln π − ln π_base) / tokens over the model's own responses, in nats per token: the KL to the base where they are
    /// drawn at temperature 1, and more where they are greedy. Default 0.12: on the embedded world sound models come to 0.10 at
    /// most, drawn or greedy, and fallen ones to 0.09 and 0.28 (docs/sandbox.md).
    pub kl: f64,
    /// By how much the base may find responses less likely than its own, in nats per token. Default 1.0.
    pub surprise: f64,
    /// Largest share of a response's word trigrams that stood in it before, beyond what the base's responses have.
    /// Default 0.2.
    pub repetition: f64,
    /// Largest fall of the entropy of words below that of the base's responses, in nats. Default 1.5.
    pub entropy: f64,
    /// Mean length in words, against the base's, at most so many times longer or shorter. Default 3.
    pub length: f64,
    /// Largest share of responses that speak of principles or constitutions, or copy six words in a row from theirs, beyond
    /// the base's share. Default 0.1.
    pub leak: f64,
    /// Largest share of queries whose responses the task's filters reject, beyond the base's share. Default 0.5.
    pub rejected: f64,
}

impl Default for GuardSection {
    fn default() -> Self {
        Self {
            action: GuardAction::Stop,
            queries: 64,
            kl: 0.12,
            surprise: 1.0,
            repetition: 0.2,
            entropy: 1.5,
            length: 3.0,
            leak: 0.1,
            rejected: 0.5,
        }
    }
}

/// What happens when a limit is passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardAction {
    /// The run ends, and the model before is its result.
    #[default]
    Stop,
    /// The run goes on and says so.
    Warn,
    /// Nothing is looked at.
    Off,
}
