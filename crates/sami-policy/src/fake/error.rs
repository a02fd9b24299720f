//! What the fake refuses.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::words::VOCABULARY;

/// What can go wrong with a [`super::FakePolicy`].
#[derive(Debug, Error)]
pub enum FakeError {
    /// The objective refused a matrix.
    #[error(transparent)]
    Objective(#[from] sami_core::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that [`super::FakePolicy`] did not write.
    #[error(
        "{path}: not a fake policy's file ({bytes} bytes); expected {expected} bytes that begin with \"samifake\""
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The length of a whole one.
        expected: usize,
    },
    /// A loss with a KL term, which needs a frozen reference.
    #[error("the gradient has a KL term, but this policy keeps no reference; train it with beta = 0")]
    NoReference,
    /// The gradient closure answered with a matrix of another shape.
    #[error("contrast set {id}: the gradient is {got:?}, but the matrix is {expected:?}")]
    GradientShape {
        /// The set's id.
        id: String,
        /// Shape of the answer.
        got: (usize, usize),
        /// Shape of the matrix (C, R).
        expected: (usize, usize),
    },
    /// A token id outside the fake's vocabulary.
    #[error(
        "contrast set {id}: response {response} has token id {token}; the fake's vocabulary has {VOCABULARY}"
    )]
    UnknownToken {
        /// The set's id.
        id: String,
        /// The column.
        response: usize,
        /// The id.
        token: u32,
    },
}
