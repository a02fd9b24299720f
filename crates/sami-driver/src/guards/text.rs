//! What can be seen in texts alone.

use std::collections::BTreeMap;

use sami_data::PairRecord;
use sami_data::text::{self, Leak};
use serde::{Deserialize, Serialize};

/// What some responses look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFigures {
    /// Responses that were looked at.
    pub responses: usize,
    /// Mean number of words.
    pub words: f64,
    /// Share of a response's word trigrams that stood in it before; mean over the responses that have any.
    pub repetition: f64,
    /// Entropy of all their words, in nats.
    pub entropy: f64,
    /// Share of responses that leak their constitution ([`Leak`]).
    pub leak: f64,
}

impl TextFigures {
    /// The figures of some records' responses.
    pub fn of(records: &[PairRecord]) -> Self {
        let (mut responses, mut words, mut leaks) = (0, 0, 0);
        let (mut repetition, mut long) = (0.0, 0);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for record in records {
            for response in &record.responses {
                let own = text::words(&response.text);
                responses += 1;
                words += own.len();
                if let Some(share) = text::repetition(&own) {
                    repetition += share;
                    long += 1;
                }
                let constitution = record.constitutions.get(response.constitution);
                let constitution = constitution.map_or("", |one| one.text.as_str());
                leaks += usize::from(Leak::of(&response.text, constitution, &record.query).any());
                own.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
            }
        }
        let mean = |sum: f64, n: usize| if n == 0 { 0.0 } else { sum / n as f64 };
        Self {
            responses,
            words: mean(words as f64, responses),
            repetition: mean(repetition, long),
            entropy: entropy(counts.values().copied(), words),
            leak: mean(leaks as f64, responses),
        }
    }
}

/// −Σ p ln p over counts that add up to `total`.
fn entropy(counts: impl Iterator<Item = usize>, total: usize) -> f64 {
    let total = total as f64;
    counts.map(|count| count as f64 / total).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use sami_data::{PairConstitution, PairResponse};

    fn record(query: &str, constitution: &str, responses: &[&str]) -> PairRecord {
        PairRecord {
            id: "q".into(),
            query: query.into(),
            constitutions: vec![PairConstitution { id: "a".into(), text: constitution.into() }],
            prompts: vec!["p".into()],
            responses: responses
                .iter()
                .map(|text| PairResponse {
                    constitution: 0,
                    text: (*text).into(),
                    token_ids: None,
                    finish: None,
                })
                .collect(),
            rejected: Vec::new(),
            refusal: None,
        }
    }

    #[test]
    fn figures_have_their_known_values() {
        let figures = TextFigures::of(&[record("Why?", "", &["a b a b a b", "Sing a song, please!"])]);
        assert_eq!(figures.responses, 2);
        assert_eq!(figures.words, 5.0);
        // Trigrams: aba bab aba bab, two of four are repetitions; the other response has none.
        assert_relative_eq!(figures.repetition, 0.25);
        // a: 4, b: 3, and sing, song, please once, of 10.
        let expected = -(0.4 * 0.4_f64.ln() + 0.3 * 0.3_f64.ln() + 3.0 * 0.1 * 0.1_f64.ln());
        assert_relative_eq!(figures.entropy, expected, epsilon = 1e-12);
        assert_eq!(figures.leak, 0.0);
        assert_eq!(TextFigures::of(&[]), TextFigures::default());
    }

    #[test]
    fn a_leak_is_a_name_or_a_copy() {
        let constitution = "1. Answer with warmth, and never hide what you know.";
        let leak =
            |query: &str, response: &str| TextFigures::of(&[record(query, constitution, &[response])]).leak;
        assert_eq!(leak("Hi", "As my constitution says, hello."), 1.0);
        assert_eq!(leak("Hi", "My principles are my own"), 1.0);
        assert_eq!(leak("Which principles?", "These principles."), 0.0);
        assert_eq!(leak("Hi", "I answer with warmth and never hide it"), 1.0);
        assert_eq!(leak("Hi", "I answer with warmth and never lie"), 0.0);
    }
}
