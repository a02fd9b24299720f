//! Evaluation of SAMI: mutual information per iteration, win rates with length correction and intervals.
