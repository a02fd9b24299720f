//! Mutual information of a model's answers, from scored sets.

use std::path::{Path, PathBuf};

use sami_core::{Estimate, MiAccumulator, MiEstimate, MutualInformation};
use sami_data::{BadLine, DataError, LineReader, MiFigures};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::statistics::estimate;

/// Why scores say nothing.
#[derive(Debug, Error)]
pub enum MiError {
    /// The file cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A line that no scoring wrote.
    #[error("{path}, line {line}: {problem}; write it with `sami score`", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: ScoreProblem,
    },
    /// Nothing to average over.
    #[error("there is no scored query; nothing can be said")]
    Empty,
    /// Two models' scores that do not belong to the same queries in the same order.
    #[error(
        "query {position} is {before:?} before and {after:?} after; score the same pairs in the same order"
    )]
    OtherQuery {
        /// Position, from 1.
        position: usize,
        /// The id before.
        before: String,
        /// The id after.
        after: String,
    },
    /// One model answered more queries than the other.
    #[error("{before} queries were scored before and {after} after; score the same ones")]
    OtherNumber {
        /// Queries before.
        before: usize,
        /// Queries after.
        after: usize,
    },
}

/// What is wrong with a line of a score file.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ScoreProblem {
    /// No text, or no score.
    #[error("{0}")]
    Unreadable(String),
    /// `sum` or `tokens` is no matrix, or they differ in shape.
    #[error("\"sum\" and \"tokens\" must be matrices of one shape")]
    Shape,
    /// A figure above its cap.
    #[error("mi.constitutions is {value}, above ln C = {cap}")]
    AboveCap {
        /// The figure.
        value: f64,
        /// ln C.
        cap: f64,
    },
}

/// One line of a score file, as far as evaluation needs it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ScoredQuery {
    /// The query.
    pub id: String,
    /// Summed log-probabilities, `[constitution][response]`, nats.
    pub sum: Vec<Vec<f64>>,
    /// Tokens in each sum.
    pub tokens: Vec<Vec<usize>>,
    /// Two-sided loss of the means.
    pub loss: f64,
    /// Mutual information from the sums.
    pub mi: MiFigures,
}

impl ScoredQuery {
    pub(crate) fn cap(&self) -> f64 {
        (self.sum.len() as f64).ln()
    }

    /// Tokens per response, under the first constitution: the same response is as long under all of them, joint
    /// tokenisation's merges at the prompt's end apart.
    pub(crate) fn response_tokens(&self) -> f64 {
        let lengths = self.tokens.first().map_or(&[][..], Vec::as_slice);
        lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64
    }

    fn check(&self) -> Result<(), ScoreProblem> {
        let shape = |lengths: Vec<usize>| {
            lengths
                .first()
                .filter(|first| **first > 0 && lengths.iter().all(|n| n == *first))
                .map(|columns| (lengths.len(), *columns))
        };
        let sum = shape(self.sum.iter().map(Vec::len).collect());
        if sum.is_none() || sum != shape(self.tokens.iter().map(Vec::len).collect()) {
            return Err(ScoreProblem::Shape);
        }
        // A hair above is rounding.
        if self.mi.constitutions > self.cap() + 1e-9 {
            return Err(ScoreProblem::AboveCap { value: self.mi.constitutions, cap: self.cap() });
        }
        Ok(())
    }
}

/// Reads a file of scores, one JSON object per line as `sami score` writes it.
///
/// # Errors
///
/// [`MiError::Data`], [`MiError::Line`] with the line, [`MiError::Empty`].
pub fn read_scores(path: &Path) -> Result<Vec<ScoredQuery>, MiError> {
    let mut scores = Vec::new();
    for line in LineReader::open(path)? {
        let line = line?;
        let bad = |problem| MiError::Line { path: path.to_owned(), line: line.number, problem };
        let text = line
            .text
            .as_ref()
            .map_err(|problem: &BadLine| bad(ScoreProblem::Unreadable(problem.to_string())))?;
        let score: ScoredQuery =
            serde_json::from_str(text).map_err(|error| bad(ScoreProblem::Unreadable(error.to_string())))?;
        score.check().map_err(bad)?;
        scores.push(score);
    }
    if scores.is_empty() { Err(MiError::Empty) } else { Ok(scores) }
}

/// One model's point on the curves of mutual information and length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MiPoint {
    /// The three figures in nats with standard errors over queries, their cap ln C, and the number of queries. Only the
    /// figure over constitutions bounds I(Y; C | X) from below.
    pub mi: MiEstimate,
    /// Two-sided loss of the means.
    pub loss: Estimate,
    /// Tokens per response.
    pub response_tokens: Estimate,
}

impl MiPoint {
    /// The point of one model's scores.
    ///
    /// # Errors
    ///
    /// [`MiError::Empty`].
    pub fn new<'a>(
        scores: impl IntoIterator<Item = &'a ScoredQuery, IntoIter: Clone>,
    ) -> Result<Self, MiError> {
        let scores = scores.into_iter();
        let mut mi = MiAccumulator::new();
        for score in scores.clone() {
            let MiFigures { constitutions, responses, two_sided } = score.mi;
            mi.push(&MutualInformation { constitutions, responses, two_sided, cap: score.cap() });
        }
        let mi = mi.finish().ok_or(MiError::Empty)?;
        let loss = estimate(scores.clone().map(|score| score.loss)).ok_or(MiError::Empty)?;
        let response_tokens = estimate(scores.map(ScoredQuery::response_tokens)).ok_or(MiError::Empty)?;
        Ok(Self { mi, loss, response_tokens })
    }
}

/// Change of the mutual information over constitutions from one model to another that answered the same queries, in nats.
/// Queries differ more than models do, so the standard error is that of the differences, query by query.
///
/// # Errors
///
/// [`MiError::OtherNumber`], [`MiError::OtherQuery`] where the scores do not belong together, [`MiError::Empty`].
pub fn paired_difference(before: &[ScoredQuery], after: &[ScoredQuery]) -> Result<Estimate, MiError> {
    if before.len() != after.len() {
        return Err(MiError::OtherNumber { before: before.len(), after: after.len() });
    }
    if let Some(index) = before.iter().zip(after).position(|(a, b)| a.id != b.id) {
        let (before, after) = (before[index].id.clone(), after[index].id.clone());
        return Err(MiError::OtherQuery { position: index + 1, before, after });
    }
    let differences = before.iter().zip(after).map(|(a, b)| b.mi.constitutions - a.mi.constitutions);
    estimate(differences).ok_or(MiError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    fn scored(id: &str, constitutions: f64, tokens: usize) -> ScoredQuery {
        ScoredQuery {
            id: id.to_owned(),
            sum: vec![vec![-1.0, -2.0], vec![-2.0, -1.0]],
            tokens: vec![vec![tokens; 2]; 2],
            loss: 0.5,
            mi: MiFigures { constitutions, responses: -1.0, two_sided: (constitutions - 1.0) / 2.0 },
        }
    }

    #[test]
    fn a_point_has_means_and_standard_errors() {
        // .1, .3, .5: mean .3, s = .2, s/√3 = .1154700538.
        let scores = [scored("a", 0.1, 10), scored("b", 0.3, 20), scored("c", 0.5, 60)];
        let point = MiPoint::new(&scores).unwrap();
        assert_eq!(point.mi.n, 3);
        assert_abs_diff_eq!(point.mi.constitutions.mean, 0.3, epsilon = 1e-15);
        assert_abs_diff_eq!(point.mi.constitutions.standard_error.unwrap(), 0.115_470_053_8, epsilon = 1e-10);
        assert_abs_diff_eq!(point.mi.two_sided.mean, -0.35, epsilon = 1e-15);
        assert_eq!(point.mi.cap, std::f64::consts::LN_2);
        // 10, 20, 60: mean 30, s = √700, s/√3 = 15.2752523165.
        assert_eq!(point.response_tokens.mean, 30.0);
        assert_abs_diff_eq!(point.response_tokens.standard_error.unwrap(), 15.275_252_316_5, epsilon = 1e-9);
        assert_eq!(point.loss, Estimate { mean: 0.5, standard_error: Some(0.0) });
        assert_eq!(MiPoint::new(&scores[..1]).unwrap().loss.standard_error, None);
        assert!(matches!(MiPoint::new(&[]), Err(MiError::Empty)));
    }

    #[test]
    fn pairing_removes_what_queries_have_in_common() {
        let before = [scored("a", 0.1, 1), scored("b", 0.3, 1), scored("c", 0.5, 1)];
        let after = [scored("a", 0.2, 1), scored("b", 0.4, 1), scored("c", 0.6, 1)];
        let difference = paired_difference(&before, &after).unwrap();
        assert_abs_diff_eq!(difference.mean, 0.1, epsilon = 1e-15);
        assert_abs_diff_eq!(difference.standard_error.unwrap(), 0.0, epsilon = 1e-15);
        let swapped = [after[1].clone(), after[0].clone(), after[2].clone()];
        let error = paired_difference(&before, &swapped).unwrap_err().to_string();
        assert_eq!(error, "query 1 is \"a\" before and \"b\" after; score the same pairs in the same order");
        assert!(matches!(
            paired_difference(&before, &after[..2]),
            Err(MiError::OtherNumber { before: 3, after: 2 })
        ));
        assert!(matches!(paired_difference(&[], &[]), Err(MiError::Empty)));
    }

    #[test]
    fn files_are_read_or_refused_with_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.jsonl");
        let good = r#"{"id":"a","mean":[[-1,-2],[-2,-1]],"sum":[[-1,-2],[-2,-1]],"tokens":[[1,1],[1,1]],"loss":0.3,"mi":{"constitutions":0.4,"responses":0.4,"two_sided":0.4}}"#;
        std::fs::write(&path, format!("{good}\n{good}\n")).unwrap();
        assert_eq!(read_scores(&path).unwrap().len(), 2);
        let refused = [
            ("{\"id\": 3}".to_owned(), "invalid type: integer `3`, expected a string"),
            (
                good.replace("\"tokens\":[[1,1],[1,1]]", "\"tokens\":[[1,1],[1]]"),
                "must be matrices of one shape",
            ),
            (good.replace("\"sum\":[[-1,-2],[-2,-1]]", "\"sum\":[]"), "must be matrices of one shape"),
            (
                good.replace("{\"constitutions\":0.4", "{\"constitutions\":0.7"),
                "mi.constitutions is 0.7, above ln C = 0.69",
            ),
        ];
        for (line, expected) in refused {
            std::fs::write(&path, format!("{good}\n{line}\n")).unwrap();
            let error = read_scores(&path).unwrap_err().to_string();
            assert!(error.contains("scores.jsonl, line 2: ") && error.contains(expected), "{error}");
        }
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read_scores(&path), Err(MiError::Empty)));
    }
}
