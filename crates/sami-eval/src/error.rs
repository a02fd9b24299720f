//! Whatever can go wrong in an evaluation, for callers who only pass it on.

use sami_data::DataError;
use thiserror::Error;

use crate::evaluation::EvaluationError;
use crate::information::MiError;
use crate::report::ReportError;
use crate::win::{AnswersError, JudgingError, PairingError, RateError, VerdictsError};

/// Any error of this crate.
#[derive(Debug, Error)]
pub enum Error {
    /// Scores that say nothing.
    #[error(transparent)]
    Information(#[from] MiError),
    /// Pairs and scores that cannot be read together.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Responses that cannot be read.
    #[error(transparent)]
    Answers(#[from] AnswersError),
    /// Responses that do not belong together.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// Verdicts that cannot be read.
    #[error(transparent)]
    Verdicts(#[from] VerdictsError),
    /// Judging that ended early.
    #[error(transparent)]
    Judging(#[from] JudgingError),
    /// No rate.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// No report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A file.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl Error {
    /// Whether other input would help. A judge that miscounts, an interruption and a full disk are nobody's input.
    pub fn blames_input(&self) -> bool {
        match self {
            Self::Judging(_) | Self::Report(ReportError::Raster(_) | ReportError::Page(_)) => false,
            Self::Report(ReportError::Io { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
            Self::Data(DataError::Io { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
            _ => true,
        }
    }
}
