//! Algorithm 1 of SAMI: iterations, stages, resume, metrics.
