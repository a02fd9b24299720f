//! A closed world of queries in which anybody can watch SAMI work: the embedded default.
//!
//! Today it holds 256 queries in the format of HH-RLHF, written for this project: everyday requests, and about a quarter
//! mildly harmful ones that a helpful and harmless assistant declines or redirects. They let the whole algorithm run on any
//! machine without fetching data. What it shows with a random model is that everything works, not what a good model does.

use std::path::Path;

use sami_constitution::{ConstitutionSpace, PrincipleSet, Task};
use sami_data::{DataError, OnBadLine, Queries, Query, QueryFormat, QueryReader};

/// The queries as a file in HH-RLHF's format: one JSON object with `chosen` and `rejected` per line.
pub const QUERIES_JSONL: &str = include_str!("../data/queries.jsonl");

/// The name that stands for the embedded file in ids and messages.
const NAME: &str = "sandbox.jsonl";

/// The embedded queries, distinct, in the order of the file; ids are `sandbox:LINE`.
///
/// # Errors
///
/// None while the embedded file is whole, which tests see to; the type is that of every reader of queries.
pub fn queries() -> Result<Vec<Query>, DataError> {
    let Queries { queries, .. } = QueryReader::embedded(
        Path::new(NAME),
        QUERIES_JSONL.as_bytes(),
        QueryFormat::HhRlhf,
        OnBadLine::Stop,
    )
    .read_all()?;
    Ok(queries)
}

/// Texts to train a small tokenizer on: every embedded query, every constitution of the helpful/harmless set in each of its
/// wordings, and whole dialogue prompts.
///
/// # Errors
///
/// As [`queries`], and what a template refuses (none of the embedded ones does).
pub fn corpus() -> Result<Vec<String>, CorpusError> {
    let queries = queries()?;
    let space = ConstitutionSpace::new(PrincipleSet::helpful_harmless());
    let wordings = space.principles().principles().iter().flat_map(|principle| {
        principle.statements.iter().chain(&principle.antitheses).map(|text| format!("1. {text}\n2. {text}"))
    });
    let mut texts: Vec<String> = queries.iter().map(|query| query.text.clone()).collect();
    texts.extend(wordings);
    let task = Task::dialogue();
    // A few prompts are enough: their fixed part is always the same.
    for (constitution, query) in space.all().zip(&queries) {
        texts.push(task.sampling_prompt(&constitution, &query.text)?);
        texts.push(task.training_prompt(&constitution, &query.text)?);
    }
    // Turns and answers, for words that only answers use.
    texts.extend(QUERIES_JSONL.lines().filter_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        value["chosen"].as_str().map(str::to_owned)
    }));
    Ok(texts)
}

/// Why the corpus cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The embedded queries.
    #[error(transparent)]
    Queries(#[from] DataError),
    /// A prompt.
    #[error(transparent)]
    Prompt(#[from] sami_constitution::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_many_distinct_and_clean() {
        let queries = queries().unwrap();
        assert_eq!(queries.len(), 256);
        assert_eq!(queries[0].id, "sandbox:1");
        assert_eq!(queries[0].text, "How do I descale a kettle without buying anything special?");
        for query in &queries {
            assert!(!query.text.contains("Assistant:") && !query.text.contains('\n'), "{}", query.text);
            assert!((10..120).contains(&query.text.len()), "{}", query.text);
        }
    }

    #[test]
    fn both_sides_of_a_line_share_its_query_and_some_go_on() {
        let mut longer = 0;
        for line in QUERIES_JSONL.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let [chosen, rejected] = ["chosen", "rejected"].map(|side| value[side].as_str().unwrap());
            let first = |text: &str| text.split("\n\nAssistant:").next().unwrap().to_owned();
            assert_eq!(first(chosen), first(rejected));
            assert_ne!(chosen, rejected);
            longer += usize::from(chosen.matches("\n\nHuman:").count() > 1);
        }
        // Dialogues of several turns are there, so that reading the first one only is put to use.
        assert!(longer > 20);
    }

    #[test]
    fn the_corpus_has_every_part() {
        let corpus = corpus().unwrap();
        let holds = |piece: &str| corpus.iter().any(|text| text.contains(piece));
        assert!(
            holds("### Main Task") && holds("descale a kettle") && holds("Thank you for hearing me out.")
        );
        let principles = PrincipleSet::helpful_harmless();
        let mut wordings =
            principles.principles().iter().flat_map(|one| one.statements.iter().chain(&one.antitheses));
        assert!(wordings.all(|text| holds(text)));
        assert!(corpus.iter().all(|text| !text.is_empty()));
    }
}
