//! What the objective refuses, and why.

use thiserror::Error;

/// What is wrong with an input. Rows are constitutions and columns responses, counted from 0.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix without rows or without columns.
    #[error("the contrast matrix is {rows} × {cols}; it needs at least one constitution and one response")]
    Empty {
        /// Number of constitutions.
        rows: usize,
        /// Number of responses.
        cols: usize,
    },
    /// A matrix that is not C × C, without targets that say whose the responses are.
    #[error(
        "the contrast matrix is {rows} × {cols}; without targets it must be square, one response per \
         constitution (give each response's constitution as its target for C × mC)"
    )]
    NotSquare {
        /// Number of constitutions.
        rows: usize,
        /// Number of responses.
        cols: usize,
    },
    /// As many targets as responses are needed.
    #[error("{targets} targets for {responses} responses; give one target per response")]
    TargetCount {
        /// Number of targets given.
        targets: usize,
        /// Number of columns.
        responses: usize,
    },
    /// A target that is no row.
    #[error("response {response} has target {target}, but there are {constitutions} constitutions (0 to {})", constitutions.saturating_sub(1))]
    TargetRange {
        /// The column.
        response: usize,
        /// What it names.
        target: usize,
        /// Number of rows.
        constitutions: usize,
    },
    /// A log-probability that is not a number.
    #[error(
        "the log-probability at row {row} (constitution), column {col} (response) is NaN; the model's forward pass went wrong there"
    )]
    NotANumber {
        /// The constitution.
        row: usize,
        /// The response.
        col: usize,
    },
    /// A log-probability of +∞.
    #[error(
        "the log-probability at row {row} (constitution), column {col} (response) is +∞; log-probabilities are at most 0"
    )]
    PositiveInfinity {
        /// The constitution.
        row: usize,
        /// The response.
        col: usize,
    },
    /// A response that is impossible under the constitution it was sampled with.
    #[error(
        "the log-probability at row {row} (constitution), column {col} (response) is −∞, but that is the \
         constitution the response was sampled under; only other constitutions may rule a response out"
    )]
    ImpossibleTarget {
        /// The constitution.
        row: usize,
        /// The response.
        col: usize,
    },
    /// One matrix of a batch is at fault.
    #[error("query {index} of the batch: {source}")]
    InBatch {
        /// Its position, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Nothing to average over.
    #[error("the batch holds no query; there is nothing to average")]
    EmptyBatch,
    /// Two arrays that belong together differ in shape.
    #[error("{what} has shape {got:?}, expected {expected:?}")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
    },
    /// A weight of a term that is negative or not finite.
    #[error("the weight of the term {term} is {value}; it must be a finite number, 0 or above")]
    Weight {
        /// `over_responses` or `over_constitutions`.
        term: &'static str,
        /// The value given.
        value: f64,
    },
    /// The weights contradict the side.
    #[error(
        "side {side} needs {needs}, got over_responses = {over_responses}, over_constitutions = {over_constitutions}"
    )]
    SideWeights {
        /// The side chosen.
        side: &'static str,
        /// What it needs.
        needs: &'static str,
        /// Weight of the row term.
        over_responses: f64,
        /// Weight of the column term.
        over_constitutions: f64,
    },
    /// An exponent of the length-weighted reduction that is not finite.
    #[error("the length exponent is {0}; it must be finite (0 is the sum, 1 the mean)")]
    Exponent(f64),
    /// A response of which no token is counted.
    #[error("response {response} has no counted token; drop it, there is nothing to score")]
    EmptyResponse {
        /// The row of the per-token array.
        response: usize,
    },
    /// A counted token without a usable log-probability.
    #[error("{what} of response {response} at token {token} is {value}; {needs}")]
    Token {
        /// `per_token_logps` or `reference_logps`.
        what: &'static str,
        /// The row of the per-token array.
        response: usize,
        /// The position in it.
        token: usize,
        /// The value found.
        value: f64,
        /// What a counted token needs.
        needs: &'static str,
    },
    /// One constitution's per-token log-probabilities are at fault.
    #[error("constitution {row}: {source}")]
    InConstitution {
        /// The constitution.
        row: usize,
        /// What is wrong.
        source: Box<Error>,
    },
}

impl Error {
    /// The same error, with the position of its matrix in a batch.
    pub(crate) fn in_batch(self, index: usize) -> Self {
        Self::InBatch { index, source: Box::new(self) }
    }

    /// The same error, with the constitution it belongs to.
    pub(crate) fn in_constitution(self, row: usize) -> Self {
        Self::InConstitution { row, source: Box::new(self) }
    }
}
