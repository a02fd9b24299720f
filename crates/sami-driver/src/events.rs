//! What a run tells whoever displays it.

use std::fmt;
use std::path::Path;

use sami_data::{PairRecord, StepMetrics};

use crate::{GenerateReport, GuardReport, ScoreSummary};

/// A stage of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Sampling responses; counted in pairs that were kept.
    Generate,
    /// Optimizer steps.
    Train,
    /// Scoring contrast sets; counted in queries.
    Score,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generate => "generate",
            Self::Train => "train",
            Self::Score => "score",
        })
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An iteration begins; 0 is the evaluation of the base model.
    IterationBegun {
        /// η.
        iteration: usize,
        /// N.
        iterations: usize,
    },
    /// A stage begins, or goes on where it was interrupted.
    StageBegun {
        /// Which.
        stage: Stage,
        /// Units that an earlier process finished.
        done: usize,
        /// Units in all.
        total: usize,
    },
    /// Units of a stage are finished and safe on disk.
    Progress {
        /// Which.
        stage: Stage,
        /// Units finished.
        done: usize,
        /// Units in all.
        total: usize,
    },
    /// A query's responses were sampled, and kept or rejected.
    Sampled(&'a PairRecord),
    /// Sampling is finished.
    Generated(&'a GenerateReport),
    /// An optimizer step.
    Step(&'a StepMetrics),
    /// The held-out queries were answered and scored.
    Evaluated {
        /// The model that answered: π_η, 0 for the base.
        iteration: usize,
        /// Loss and mutual information of its answers.
        summary: &'a ScoreSummary,
    },
    /// A model's responses were held against the base's, and limits were passed.
    Collapsed(&'a GuardReport),
    /// An iteration's checkpoint is on disk.
    IterationFinished {
        /// η.
        iteration: usize,
        /// N.
        iterations: usize,
        /// π_η.
        checkpoint: &'a Path,
    },
}

/// Watches a run, and may end it.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);

    /// Asked after every generation chunk and optimizer step. `true` ends the run there, with everything up to that
    /// point on disk; the same command goes on.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {
    fn event(&mut self, _: Event<'_>) {}
}
