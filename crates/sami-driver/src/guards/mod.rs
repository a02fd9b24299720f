//! Guards against collapse: signs that need no judge, held against the base's own answers.
//!
//! Mutual information stays high while text falls apart: a model that answers each constitution with its own kind of
//! gibberish tells them apart perfectly. So the answers of every model are looked at: in their texts (length, repetition,
//! entropy, leaks of the constitution), and through the base (how likely it finds them, and how much less than the model does).

mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use text::TextFigures;

use crate::recipe::GuardSection;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// KL to the base on the model's own responses.
    Kl,
    /// How much less likely the base finds the responses than its own.
    Surprise,
    /// Repetition within responses.
    Repetition,
    /// Entropy of words.
    Entropy,
    /// Responses much longer than the base's.
    Longer,
    /// Responses much shorter than the base's.
    Shorter,
    /// Responses that speak of the constitution or copy it.
    Leak,
    /// Responses that the task's filters reject.
    Rejected,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kl => "KL to the base in nats per token",
            Self::Surprise => "loss of likelihood under the base in nats per token",
            Self::Repetition => "share of repeated trigrams beyond the base's",
            Self::Entropy => "loss of word entropy in nats",
            Self::Longer => "length as a multiple of the base's",
            Self::Shorter => "base's length as a multiple of this one",
            Self::Leak => "share of responses that leak the constitution beyond the base's",
            Self::Rejected => "share of queries whose responses the filters reject beyond the base's",
        })
    }
}

/// Everything that guards look at in one model's responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardFigures {
    /// η of the model that gave the responses; 0 is the base.
    pub model: usize,
    /// Their texts.
    pub text: TextFigures,
    /// Mean log-probability of a token under the base, in nats: mean over each response's tokens, then over responses.
    pub base_logps: f64,
    /// Mean over responses of (ln π(y) − ln π_base(y)) / tokens: the estimate of KL(π ‖ base) per token from π's own samples.
    pub kl: f64,
    /// Share of the queries whose responses the task's filters rejected. All other figures are of those that were kept.
    pub rejected: f64,
}

/// A limit that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Which.
    pub guard: Guard,
    /// What was found.
    pub value: f64,
    /// What is allowed.
    pub limit: f64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:.3}, and at most {} is allowed", self.guard, self.value, self.limit)
    }
}

/// What guards say of a model's responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardReport {
    /// The responses of the model in question.
    pub figures: GuardFigures,
    /// The base's, to the same kind of queries.
    pub base: GuardFigures,
    /// The limits that were passed.
    pub findings: Vec<Finding>,
}

impl GuardReport {
    /// Holds a model's figures against the base's.
    pub fn new(limits: &GuardSection, base: GuardFigures, figures: GuardFigures) -> Self {
        let ratio = |a: f64, b: f64| if a == b { 1.0 } else { a / b };
        let (text, its) = (&figures.text, &base.text);
        let rejected = (Guard::Rejected, figures.rejected - base.rejected, limits.rejected);
        let of_kept = [
            (Guard::Kl, figures.kl, limits.kl),
            (Guard::Surprise, base.base_logps - figures.base_logps, limits.surprise),
            (Guard::Repetition, text.repetition - its.repetition, limits.repetition),
            (Guard::Entropy, its.entropy - text.entropy, limits.entropy),
            (Guard::Longer, ratio(text.words, its.words), limits.length),
            (Guard::Shorter, ratio(its.words, text.words), limits.length),
            (Guard::Leak, text.leak - its.leak, limits.leak),
        ];
        // Where nothing was kept, there is nothing else to see.
        let seen = usize::from(text.responses > 0 && its.responses > 0) * of_kept.len();
        let found = of_kept.into_iter().take(seen).chain([rejected]);
        let passed = found.filter(|(_, value, limit)| *limit > 0.0 && value > limit);
        let findings = passed.map(|(guard, value, limit)| Finding { guard, value, limit }).collect();
        Self { figures, base, findings }
    }
}

impl fmt::Display for GuardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let findings: Vec<_> = self.findings.iter().map(Finding::to_string).collect();
        write!(f, "the responses of π_{} have collapsed: {}", self.figures.model, findings.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> GuardFigures {
        let text = TextFigures { responses: 10, words: 20.0, repetition: 0.1, entropy: 4.0, leak: 0.0 };
        GuardFigures { model: 1, text, base_logps: -1.0, kl: 0.01, rejected: 0.25 }
    }

    #[test]
    fn each_limit_is_passed_alone() {
        let limits = GuardSection::default();
        let found = |change: &dyn Fn(&mut GuardFigures)| {
            let mut changed = figures();
            change(&mut changed);
            let report = GuardReport::new(&limits, figures(), changed);
            report.findings.iter().map(|finding| finding.guard).collect::<Vec<_>>()
        };
        assert_eq!(found(&|_| ()), []);
        assert_eq!(found(&|f| f.kl = limits.kl + 0.1), [Guard::Kl]);
        assert_eq!(found(&|f| f.base_logps = -1.1 - limits.surprise), [Guard::Surprise]);
        assert_eq!(found(&|f| f.text.repetition += limits.repetition + 0.01), [Guard::Repetition]);
        assert_eq!(found(&|f| f.text.entropy -= limits.entropy + 0.01), [Guard::Entropy]);
        assert_eq!(found(&|f| f.text.words *= limits.length + 0.1), [Guard::Longer]);
        assert_eq!(found(&|f| f.text.words /= limits.length + 0.1), [Guard::Shorter]);
        assert_eq!(found(&|f| f.text.words = 0.0), [Guard::Shorter]);
        assert_eq!(found(&|f| f.text.leak = limits.leak + 0.01), [Guard::Leak]);
        assert_eq!(found(&|f| f.rejected = 0.25 + limits.rejected), []);
        assert_eq!(found(&|f| f.rejected = 0.26 + limits.rejected), [Guard::Rejected]);
        // Nothing was kept: the other figures are those of no text.
        let none = GuardFigures { rejected: 1.0, model: 1, ..GuardFigures::default() };
        assert_eq!(found(&|f| *f = none), [Guard::Rejected]);
    }

    #[test]
    fn the_default_lets_the_embedded_worlds_models_pass() {
        // The most that sound models' training responses came to, greedy ones of `dialogue.toml` among them, and a fallen one's.
        let of = |kl| GuardReport::new(&GuardSection::default(), figures(), GuardFigures { kl, ..figures() });
        assert_eq!(of(0.101).findings, []);
        assert_eq!(of(0.281).findings.len(), 1);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limits = GuardSection { kl: 0.0, length: 0.0, ..GuardSection::default() };
        let mut changed = figures();
        changed.kl = 9.0;
        changed.text.words = 900.0;
        assert_eq!(GuardReport::new(&limits, figures(), changed).findings, []);
    }
}
