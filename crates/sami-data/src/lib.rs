//! Queries, responses, contrast sets and run directories on disk.
//!
//! | in | out |
//! |---|---|
//! | HH-RLHF, TL;DR or plain JSONL files, gzip or not, and the same rows in Parquet (feature `parquet`) | [`Query`]s: [`read_queries`], or one at a time by [`QueryReader`]; two halves by [`split_two`] |
//! | sampled text | a response and whether it was edited: [`ResponseFilter::response`]; typed reasons to leave a set out: [`ResponseFilter::reject`] |
//! | `pairs.jsonl`, or the paper's JSON | [`PairRecord`]s: [`read_pairs`], or one at a time by [`PairReader`] |
//! | a run's directory | its files as types: [`RunDir`] |
//!
//! Every reader streams: its memory is bounded by the longest line (and, for queries, about 70 bytes per distinct one). Files
//! that are read in another order than theirs are indexed, not held: [`QueryIndex`], [`PairIndex`]. Every
//! error names the file and the line. Files that must be whole or absent are written by [`atomic_write`]; files that grow
//! are written by [`JsonlAppender`], which survives being killed in the middle of a line.

mod append;
mod atomic;
mod error;
mod finite;
mod lines;
#[cfg(not(feature = "parquet"))]
mod no_parquet;
mod pair_index;
mod pairs;
mod paper_pairs;
#[cfg(feature = "parquet")]
mod parquet_pages;
#[cfg(feature = "parquet")]
mod parquet_rows;
mod queries;
mod query_index;
mod query_report;
mod responses;
mod run_dir;
mod split;
pub mod text;
mod tldr;

#[cfg(not(feature = "parquet"))]
use no_parquet::ParquetRows;
#[cfg(feature = "parquet")]
use parquet_rows::ParquetRows;

pub use append::JsonlAppender;
pub use atomic::{atomic_write, write_json, write_json_lines};
pub use error::{BadLine, DataError};
pub use finite::{NotFinite, check_finite};
pub use lines::{Line, LineReader, MAX_LINE_BYTES, sha256};
pub use pair_index::PairIndex;
pub use pairs::{Finish, PairConstitution, PairProblem, PairReader, PairRecord, PairResponse, read_pairs};
pub use paper_pairs::write_paper_pairs;
pub use queries::{OnBadLine, Queries, Query, QueryFormat, QueryReader, read_queries};
pub use query_index::QueryIndex;
pub use query_report::{FileReport, QueryReport};
pub use responses::{Candidate, Processed, Rejection, RejectionCounts, ResponseFilter, Sampled};
pub use run_dir::{
    FinishedStage, IterationDir, MiFigures, RunDir, RunLock, RunStage, STATE_FORMAT, State, StepMetrics,
};
pub use split::{Splits, split_two};
pub use tldr::{TldrRecord, read_tldr};
