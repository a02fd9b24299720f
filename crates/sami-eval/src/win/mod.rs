//! Win rates, from responses to rates with intervals.
//!
//! [`read_answers`] → [`pair_up`] → [`JudgeJob::run`] → [`group`] → [`WinRate`], [`LengthCorrected`], [`PairedChange`],
//! [`Agreement`]. Each step's result is a plain value or a readable file, so one can start anywhere.

mod agreement;
mod answers;
mod comparison;
mod contests;
mod judging;
mod model_judge;
mod paired;
mod rates;
mod verdicts;

pub use agreement::Agreement;
pub use answers::{Answer, AnswersError, STATED, read_answers};
pub use comparison::Comparison;
pub use contests::{Contest, Pairing, PairingError, pair_up};
pub use judging::{JudgeJob, JudgingError, Order};
pub use model_judge::ModelJudge;
pub use paired::PairedChange;
pub use rates::{LengthCorrected, PositionCheck, RateError, Stratum, Ties, WinRate};
pub use verdicts::{
    JudgedContest, Outcome, Position, Tally, VerdictLine, VerdictProblem, VerdictsError, group, read_verdicts,
};
