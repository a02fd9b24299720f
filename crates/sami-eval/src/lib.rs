//! Evaluation of SAMI: mutual information per iteration, win rates with length correction and intervals.
//!
//! | question | answer |
//! |---|---|
//! | Do responses depend more on the constitution than before? | [`MiPoint`] per model, [`paired_difference`] between two models that answered the same queries |
//! | Do responses follow the constitution better? | [`Tally::win_rate`] with its Wilson interval, [`length_corrected`] as in section 5 of the paper |
//!
//! Mutual information stays high while text falls apart, so it is never reported alone: every [`MiPoint`] carries the
//! length of the responses beside it, and a win rate says what a judge thinks of them. Nothing is hidden in a rate: ties,
//! answers without a verdict and failed calls are counted separately.

mod information;
mod win_rate;

pub use information::{MiError, MiPoint, ScoreProblem, ScoredQuery, paired_difference, read_scores};
pub use win_rate::{
    Judged, LengthCorrected, Outcome, Position, Tally, Ties, WinRate, WinRateError, Z_95, length_corrected,
};
