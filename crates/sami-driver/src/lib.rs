//! Algorithm 1 of SAMI: iterations, stages, resume, metrics.
//!
//! A [`Recipe`](recipe::Recipe) says what to do, a [`sami_policy::PolicyProvider`] supplies the model, and a [`Driver`]
//! does it in a run directory. Its stages are functions of their own: [`generate`], [`train()`] and [`score()`]; whoever
//! wants one stage calls one. No policy is named here: the tests run on [`sami_policy::fake`].
//!
//! # What holds
//!
//! - **Interrupted anywhere, the same call goes on** and ends with the same bytes (where the policy computes the same
//!   numbers for the same batches). Pairs are written in fixed chunks and metrics line by line, and what was written in part
//!   is cut off; weights and optimizer state are kept after every so many steps; a checkpoint appears whole or not at all;
//!   `state.json` is written last.
//! - **Draws do not depend on batches.** Every response has its own random stream, keyed by (seed, iteration, query,
//!   constitution).
//! - **A query is one unit of the loss.** Each set's gradient is divided by the number of sets in its batch; the size of
//!   micro-batches changes nothing beyond rounding.
//! - **No model samples a query that it was trained on.** The two splits alternate, and each iteration restarts from the
//!   base; where it continues instead, every iteration takes fresh queries.
//! - **Collapse ends a run.** Guards that need no judge look at every model's answers ([`GuardReport`]).
//! - **Shortage is told before work starts.** Rejected sets are recorded with their reasons and replaced by further
//!   queries of the split.

mod batches;
mod card;
mod error;
mod events;
mod files;
mod finish;
mod generate;
mod guards;
mod plan;
pub mod recipe;
mod run;
mod score;
mod screening;
mod setup;
mod sources;
mod status;
mod streams;
mod train;
mod train_dir;
mod watch;

pub use batches::{Batches, Order};
pub use error::{Blame, Doing, DriverError, PolicyError};
pub use events::{Event, Observer, Stage};
pub use generate::{GenerateJob, GenerateReport, Wanted, generate, written_pairs};
pub use guards::{Finding, Guard, GuardFigures, GuardReport, TextFigures};
pub use plan::QueryPlan;
pub use run::{Driver, Finished, Hook, RunReport};
pub use score::{ScoreFile, ScoreSummary, SetScore, score};
pub use screening::{Refused, Screening, TakenSets};
pub use sources::{PairSets, QuerySource, SetSource};
pub use status::{IterationStatus, RunStatus};
pub use train::{MetricsLine, TrainJob, contrast_set, read_sets, train};
pub use train_dir::{TrainDir, refuse_filled};
