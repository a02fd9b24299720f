//! Evaluation of SAMI: mutual information per iteration, win rates with length correction and intervals.
//!
//! | question | answer |
//! |---|---|
//! | Do responses depend more on the constitution than before? | [`information::MiPoint`] per model, [`information::paired_difference`] between two models that answered the same queries |
//! | Do responses follow the constitution better? | [`win::WinRate`] with its intervals, [`win::LengthCorrected`] as in section 5 of the paper, [`win::PairedChange`] between two models |
//! | Can the judge be trusted? | [`win::PositionCheck`], [`win::Agreement`] with another judge, and the counts of ties, answers without a verdict and failed calls beside every rate |
//!
//! Mutual information stays high while text falls apart, so it is never reported alone: every [`information::MiPoint`] carries
//! the length of the responses beside it, and a win rate says what a judge thinks of them.

mod error;
pub mod evaluation;
pub mod evidence;
pub mod information;
pub mod principles;
pub mod probe;
pub mod report;
pub mod statistics;
pub mod tensorboard;
pub mod text;
pub mod win;

pub use error::Error;
