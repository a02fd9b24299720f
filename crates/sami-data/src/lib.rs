//! Queries, responses, contrast sets and run directories on disk.
