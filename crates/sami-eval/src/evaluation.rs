//! All that a model's answers to held-out queries say, from the pairs and their scores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sami_core::Estimate;
use sami_data::{DataError, PairRecord, RejectionCounts, read_pairs};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::information::{MiError, MiPoint, ScoredQuery, read_scores};
use crate::principles::principles;
use crate::statistics::estimate;
use crate::text::TextFigures;

/// Why an evaluation cannot be read.
#[derive(Debug, Error)]
pub enum EvaluationError {
    /// The pairs cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The scores cannot be read.
    #[error(transparent)]
    Scores(#[from] MiError),
    /// Scores of other pairs.
    #[error(
        "{scores}, line {line}: the score is of query {found:?}, and the pair is of {expected:?}; score {pairs} again",
        scores = scores.display(), pairs = pairs.display()
    )]
    Foreign {
        /// The score file.
        scores: PathBuf,
        /// The pairs file.
        pairs: PathBuf,
        /// From 1.
        line: usize,
        /// The score's query; nothing where scores are missing.
        found: String,
        /// The pair's query; nothing where pairs are missing.
        expected: String,
    },
}

/// How much responses say about one principle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrincipleInformation {
    /// Its name.
    pub name: String,
    /// Estimate of I(Y; S | X) in nats, S the principle's side; at most ln 2.
    pub mi: Estimate,
    /// Queries whose constitutions differ on it.
    pub queries: usize,
}

/// One model on held-out queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Over all queries.
    pub all: MiPoint,
    /// By the file that queries come from (`harmless-base`, `helpful-base`), when there are several.
    pub by_file: BTreeMap<String, MiPoint>,
    /// By principle.
    pub principles: Vec<PrincipleInformation>,
    /// Leaks, repetition, sameness.
    pub text: Option<TextFigures>,
    /// Queries that were asked.
    pub asked: usize,
    /// Why sets are left out of the information (and of nothing else).
    pub rejected: RejectionCounts,
    /// Constitutions per query, where it is the same for all.
    pub constitutions: Option<usize>,
}

/// The file that a query's id names: `harmless-base-test` of `harmless-base-test:17`.
pub fn file_of(id: &str) -> &str {
    id.rsplit_once(':').map_or("", |(file, _)| file)
}

impl Evaluation {
    /// Reads pairs as `sami generate` and the driver write them, and the scores of the kept ones in the same order.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`].
    pub fn read(pairs: &Path, scores: &Path) -> Result<Self, EvaluationError> {
        let records = read_pairs(pairs)?;
        let scored = read_scores(scores)?;
        let kept: Vec<&PairRecord> = records.iter().filter(|record| record.is_kept()).collect();
        for line in 0..kept.len().max(scored.len()) {
            let expected = kept.get(line).map(|record| record.id.as_str()).unwrap_or_default();
            let found = scored.get(line).map(|score| score.id.as_str()).unwrap_or_default();
            if found != expected {
                let (scores, pairs) = (scores.to_owned(), pairs.to_owned());
                let (found, expected) = (found.to_owned(), expected.to_owned());
                return Err(EvaluationError::Foreign { scores, pairs, line: line + 1, found, expected });
            }
        }
        Ok(Self::new(&records, &kept, &scored)?)
    }

    fn new(records: &[PairRecord], kept: &[&PairRecord], scored: &[ScoredQuery]) -> Result<Self, MiError> {
        let mut files: BTreeMap<&str, Vec<&ScoredQuery>> = BTreeMap::new();
        let mut by_principle: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (record, score) in kept.iter().zip(scored) {
            files.entry(file_of(&record.id)).or_default().push(score);
            let targets: Vec<usize> = record.responses.iter().map(|response| response.constitution).collect();
            for principle in principles(record.constitutions.iter().map(|one| one.id.as_str())) {
                if let Some(figure) = principle.information(&score.sum, &targets) {
                    by_principle.entry(principle.name).or_default().push(figure);
                }
            }
        }
        let mut by_file = BTreeMap::new();
        if files.len() > 1 {
            for (file, scores) in files {
                by_file.insert(file.to_owned(), MiPoint::new(scores)?);
            }
        }
        let principles = by_principle.into_iter().filter_map(|(name, figures)| {
            let queries = figures.len();
            Some(PrincipleInformation { name, mi: estimate(figures)?, queries })
        });
        let mut rejected = RejectionCounts::default();
        records.iter().for_each(|record| rejected.add(&record.rejected));
        let mut sizes: Vec<usize> = scored.iter().map(|score| score.sum.len()).collect();
        sizes.dedup();
        Ok(Self {
            all: MiPoint::new(scored)?,
            by_file,
            principles: principles.collect(),
            text: TextFigures::new(records),
            asked: records.len(),
            rejected,
            constitutions: (sizes.len() == 1).then(|| sizes[0]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use std::f64::consts::LN_2;

    fn pair(id: &str, rejected: &str) -> String {
        format!(
            r#"{{"id":"{id}","query":"Why?","constitutions":[{{"id":"brief","text":"1. Be brief."}},{{"id":"not-brief","text":"1. Be long."}}],"prompts":["p","q"],"responses":[{{"constitution":0,"text":" a"}},{{"constitution":1,"text":" b"}}]{rejected}}}"#
        )
    }

    fn score(id: &str, diagonal: f64) -> String {
        let mi = LN_2 + (1.0 / (1.0 + (-diagonal).exp())).ln();
        format!(
            r#"{{"id":"{id}","sum":[[{diagonal},0],[0,{diagonal}]],"tokens":[[1,3],[1,3]],"loss":0.3,"mi":{{"constitutions":{mi},"responses":{mi},"two_sided":{mi}}}}}"#
        )
    }

    fn read(pairs: &[String], scores: &[String]) -> Result<Evaluation, EvaluationError> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, lines: &[String]| {
            let path = dir.path().join(name);
            std::fs::write(&path, lines.join("\n")).unwrap();
            path
        };
        Evaluation::read(&path("pairs.jsonl", pairs), &path("scores.jsonl", scores))
    }

    #[test]
    fn files_are_told_apart_and_rejected_sets_are_counted() {
        let pairs = [
            pair("helpful:1", ""),
            pair("helpful:2", ",\"rejected\":[\"unfinished\"]"),
            pair("harmless:1", ""),
        ];
        let found = read(&pairs, &[score("helpful:1", 2.0), score("harmless:1", 0.0)]).unwrap();
        assert_eq!((found.asked, found.all.mi.n, found.constitutions), (3, 2, Some(2)));
        assert_eq!(found.rejected.get(&"unfinished".to_owned().into()), 1);
        let expected = LN_2 + (1.0 / (1.0 + (-2.0_f64).exp())).ln();
        assert_abs_diff_eq!(found.by_file["helpful"].mi.constitutions.mean, expected, epsilon = 1e-12);
        assert_abs_diff_eq!(found.by_file["harmless"].mi.constitutions.mean, 0.0, epsilon = 1e-12);
        // With one principle its information is all there is.
        assert_eq!(found.principles.len(), 1);
        assert_abs_diff_eq!(found.principles[0].mi.mean, expected / 2.0, epsilon = 1e-12);
        assert_eq!(found.all.response_tokens.mean, 2.0);
        assert_eq!(found.text.unwrap().responses, 6);
    }

    #[test]
    fn scores_of_other_pairs_are_refused() {
        let pairs = [pair("q:1", ""), pair("q:2", "")];
        let error = read(&pairs, &[score("q:1", 1.0), score("q:3", 1.0)]).unwrap_err().to_string();
        assert!(
            error.contains("scores.jsonl, line 2: the score is of query \"q:3\", and the pair is of \"q:2\""),
            "{error}"
        );
        let error = read(&pairs, &[score("q:1", 1.0)]).unwrap_err().to_string();
        assert!(
            error.contains("line 2: the score is of query \"\", and the pair is of \"q:2\"; score"),
            "{error}"
        );
    }
}
