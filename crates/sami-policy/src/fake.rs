//! A policy without a network: a table of logits, for tests of whatever is built on the seams.
