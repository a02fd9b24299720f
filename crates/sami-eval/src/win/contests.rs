//! Which response meets which.

use std::collections::HashMap;

use thiserror::Error;

use super::answers::Answer;

/// Two responses to one query under one constitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The query's id.
    pub id: String,
    /// The constitution's id.
    pub constitution: String,
    /// The query.
    pub query: String,
    /// The constitution.
    pub constitution_text: String,
    /// The candidate's response.
    pub candidate: String,
    /// The baseline's response.
    pub baseline: String,
}

impl Contest {
    /// Lengths of the candidate's and the baseline's response in characters: a unit that needs no tokenizer, so responses of
    /// models with different vocabularies compare.
    pub fn lengths(&self) -> (usize, usize) {
        (self.candidate.chars().count(), self.baseline.chars().count())
    }
}

/// Contests, and what found no partner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// In the candidate's order.
    pub contests: Vec<Contest>,
    /// Responses of the candidate that the baseline has no counterpart of.
    pub candidate_only: usize,
    /// Responses of the baseline that the candidate has no counterpart of.
    pub baseline_only: usize,
}

/// Why two files of responses cannot be compared.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PairingError {
    /// No query and constitution in common.
    #[error(
        "the two files share no query under the same constitution ({candidate} and {baseline} responses{wanted}); \
         both models must answer the same queries"
    )]
    Nothing {
        /// Responses of the candidate.
        candidate: usize,
        /// Responses of the baseline.
        baseline: usize,
        /// The constitution that was asked for, in words, or nothing.
        wanted: String,
    },
    /// One id, two texts.
    #[error("{what} {id:?} reads differently in the two files; both models must answer the same texts")]
    Differs {
        /// `query` or `the constitution of query`.
        what: &'static str,
        /// The query's id.
        id: String,
    },
    /// One model answered twice.
    #[error("query {id:?} has two responses under constitution {constitution:?} in one file; keep one")]
    Twice {
        /// The query's id.
        id: String,
        /// The constitution's id.
        constitution: String,
    },
}

/// Pairs responses by query and constitution; `only` keeps the contests of one constitution, as the paper does (section 5: one
/// that holds both desired principles).
///
/// # Errors
///
/// [`PairingError`].
pub fn pair_up(
    candidate: &[Answer],
    baseline: &[Answer],
    only: Option<&str>,
) -> Result<Pairing, PairingError> {
    let wanted = |answer: &&Answer| only.is_none_or(|id| id == answer.constitution);
    let mut others: HashMap<(&str, &str), &Answer> = HashMap::new();
    let twice = |answer: &Answer| PairingError::Twice {
        id: answer.id.clone(),
        constitution: answer.constitution.clone(),
    };
    for answer in baseline.iter().filter(wanted) {
        if others.insert((&answer.id, &answer.constitution), answer).is_some() {
            return Err(twice(answer));
        }
    }
    let baseline_count = others.len();
    let mut pairing = Pairing::default();
    let mut seen = std::collections::HashSet::new();
    for answer in candidate.iter().filter(wanted) {
        let key = (answer.id.as_str(), answer.constitution.as_str());
        if !seen.insert(key) {
            return Err(twice(answer));
        }
        let Some(other) = others.remove(&key) else {
            pairing.candidate_only += 1;
            continue;
        };
        let differs = |what| PairingError::Differs { what, id: answer.id.clone() };
        if answer.query != other.query {
            return Err(differs("query"));
        }
        if articles(&answer.constitution_text) != articles(&other.constitution_text) {
            return Err(differs("the constitution of query"));
        }
        pairing.contests.push(Contest {
            id: answer.id.clone(),
            constitution: answer.constitution.clone(),
            query: answer.query.clone(),
            constitution_text: answer.constitution_text.clone(),
            candidate: answer.response.clone(),
            baseline: other.response.clone(),
        });
    }
    pairing.baseline_only = others.len();
    if pairing.contests.is_empty() {
        let wanted = only.map(|id| format!(" under {id:?}")).unwrap_or_default();
        return Err(PairingError::Nothing { candidate: seen.len(), baseline: baseline_count, wanted });
    }
    Ok(pairing)
}

/// A constitution's articles without numbers, sorted: their order is part of a prompt, not of what is asked.
fn articles(text: &str) -> Vec<&str> {
    let unnumbered = |line: &'_ str| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        line.len() - rest.len()
    };
    let mut articles: Vec<&str> = text
        .lines()
        .map(|line| line[unnumbered(line)..].trim_start_matches('.').trim())
        .filter(|line| !line.is_empty())
        .collect();
    articles.sort_unstable();
    articles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str, constitution: &str, text: &str, response: &str) -> Answer {
        Answer {
            id: id.into(),
            query: format!("query {id}"),
            constitution: constitution.into(),
            constitution_text: text.into(),
            response: response.into(),
        }
    }

    #[test]
    fn responses_meet_by_query_and_constitution_whatever_the_order_of_articles() {
        let candidate = [
            answer("a", "brief", "1. Be brief.\n2. Be kind.", "short"),
            answer("a", "long", "1. Be long.", "long"),
            answer("c", "brief", "1. Be brief.", "only mine"),
        ];
        let baseline = [
            answer("b", "brief", "1. Be brief.", "only theirs"),
            answer("a", "long", "1. Be long.", "longer"),
            answer("a", "brief", "1. Be kind.\n2. Be brief.", "ähm"),
        ];
        let pairing = pair_up(&candidate, &baseline, None).unwrap();
        assert_eq!((pairing.contests.len(), pairing.candidate_only, pairing.baseline_only), (2, 1, 1));
        let first = &pairing.contests[0];
        assert_eq!(
            (first.candidate.as_str(), first.baseline.as_str(), first.lengths()),
            ("short", "ähm", (5, 3))
        );
        let brief = pair_up(&candidate, &baseline, Some("brief")).unwrap();
        assert_eq!((brief.contests.len(), brief.candidate_only, brief.baseline_only), (1, 1, 1));
        let error = pair_up(&candidate, &baseline, Some("kind")).unwrap_err().to_string();
        assert!(error.contains("(0 and 0 responses under \"kind\")"), "{error}");
    }

    #[test]
    fn different_texts_under_one_id_are_refused() {
        let one = [answer("a", "brief", "1. Be brief.", "x")];
        let mut other = one.clone();
        other[0].query.push('!');
        let error = pair_up(&one, &other, None).unwrap_err().to_string();
        assert_eq!(
            error,
            "query \"a\" reads differently in the two files; both models must answer the same texts"
        );
        let mut other = one.clone();
        other[0].constitution_text = "1. Be short.".into();
        let error = pair_up(&one, &other, None).unwrap_err();
        assert_eq!(error, PairingError::Differs { what: "the constitution of query", id: "a".into() });
        let twice = [one[0].clone(), one[0].clone()];
        assert!(matches!(pair_up(&one, &twice, None), Err(PairingError::Twice { .. })));
        assert!(matches!(pair_up(&twice, &one, None), Err(PairingError::Twice { .. })));
    }
}
