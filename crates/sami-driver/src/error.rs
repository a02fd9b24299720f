//! What can go wrong in a run.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use sami_data::{DataError, NotFinite};
use thiserror::Error;

use crate::events::Stage;
use crate::guards::GuardReport;
use crate::recipe::RecipeError;

/// Any error of a policy, which only its implementer knows.
pub type PolicyError = Box<dyn StdError + Send + Sync>;

/// What a policy was asked to do when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Opening a model.
    Open,
    /// Looking whether the model can take queries and contrast sets.
    Check,
    /// Sampling responses.
    Sample,
    /// Scoring contrast sets.
    Score,
    /// Scoring contrast sets and adding up their gradient.
    Gradient,
    /// An optimizer step.
    Update,
    /// Saving a checkpoint.
    Save,
    /// Saving weights and optimizer state.
    SaveState,
    /// Loading weights and optimizer state.
    LoadState,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "opening the model",
            Self::Check => "checking queries and contrast sets",
            Self::Sample => "sampling responses",
            Self::Score => "scoring contrast sets",
            Self::Gradient => "computing the gradient",
            Self::Update => "updating the weights",
            Self::Save => "saving the checkpoint",
            Self::SaveState => "saving the optimizer state",
            Self::LoadState => "loading the optimizer state",
        })
    }
}

impl Doing {
    pub(crate) fn failed(self, source: impl StdError + Send + Sync + 'static) -> DriverError {
        DriverError::Policy { doing: self, source: Box::new(source) }
    }
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The input is wrong: the recipe, the data, a directory.
    Input,
    /// The input was fine, and something failed.
    Failure,
}

/// Why a stage or a run ended early.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The queries, pairs or the run directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The principles or a template cannot be used.
    #[error(transparent)]
    Constitution(#[from] sami_constitution::Error),
    /// The policy failed.
    #[error("{doing} failed")]
    Policy {
        /// What it was doing.
        doing: Doing,
        /// What it says.
        source: PolicyError,
    },
    /// The objective refused a query's matrix.
    #[error("query {id}: the contrast matrix has no loss")]
    Objective {
        /// The query.
        id: String,
        /// What is wrong with the matrix.
        source: PolicyError,
    },
    /// Sampling parameters that contradict the task's stop strings.
    #[error(transparent)]
    Sampling(#[from] sami_policy::SamplingParamsError),
    /// A pair record that is no contrast set.
    #[error(transparent)]
    ContrastSet(#[from] sami_policy::ContrastSetError),
    /// A figure of an optimizer step that is not finite. Nothing of the step was written.
    #[error(
        "iteration {iteration}, step {step}: {source}; training has diverged, so lower the learning \
         rate or clip the gradient; the state of the last whole step is kept"
    )]
    Diverged {
        /// η.
        iteration: usize,
        /// From 1.
        step: usize,
        /// The figure.
        source: NotFinite,
    },
    /// A file or directory.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run's copy of its recipe cannot be written as TOML.
    #[error("{path}: {source}")]
    WriteRecipe {
        /// The file.
        path: PathBuf,
        /// What the TOML writer says.
        source: toml::ser::Error,
    },
    /// A line that another program wrote or changed.
    #[error("{path}, line {line}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file has fewer lines than were written to it.
    #[error(
        "{path} has {have} whole lines, but {expected} were written; restore the file, or start anew in another directory"
    )]
    LinesLost {
        /// The file.
        path: PathBuf,
        /// Lines found.
        have: usize,
        /// Lines needed.
        expected: usize,
    },
    /// A rejected record was given where a contrast set is needed.
    #[error("query {id} was rejected ({reasons}) and has no contrast set; leave it out")]
    RejectedPair {
        /// The query.
        id: String,
        /// Why.
        reasons: String,
    },
    /// No set was given to score.
    #[error("there is no contrast set to score; the pairs file is empty, or all its pairs were rejected")]
    NothingToScore,
    /// A pairs file that another data file, seed or split made.
    #[error(
        "{path}, line {line}: query {found} stands where {expected} belongs; other data or another seed made this file, \
             choose another"
    )]
    ForeignPair {
        /// The pairs file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The id that stands there.
        found: String,
        /// The id that belongs there.
        expected: String,
    },
    /// A sampler that does not answer every request.
    #[error("the sampler gave {got} samples for {asked} requests")]
    SampleCount {
        /// Requests.
        asked: usize,
        /// Samples.
        got: usize,
    },
    /// No pair to work on.
    #[error("{path} holds no pair that was kept; {rejected} were rejected")]
    NoPairs {
        /// The file.
        path: PathBuf,
        /// Rejected ones.
        rejected: usize,
    },
    /// The filters rejected all of a model's answers to the held-out queries.
    #[error(
        "the filters rejected all {queries} answers of π_{model} to the held-out queries, so there is nothing to measure; {path} has \
         them with the reasons. Loosen the task's [responses], raise sampling.max_new_tokens or sampling.temperature, lower \
         training.learning_rate, or do without (evaluation.queries = 0); choose another directory for the changed recipe"
    )]
    AllRejected {
        /// The answers.
        path: PathBuf,
        /// η.
        model: usize,
        /// How many queries.
        queries: usize,
    },
    /// The data cannot supply what the recipe asks for; found before any work.
    #[error(
        "iteration {iteration} needs {needed} queries, and split {split} has {available} left for it; add data, or lower \
         training.batch_size, training.batches, training.iterations or evaluation.queries"
    )]
    TooFewQueries {
        /// η.
        iteration: usize,
        /// Queries it trains on.
        needed: usize,
        /// 1 or 2.
        split: usize,
        /// What the split can give.
        available: usize,
    },
    /// So many sets were rejected that the queries ran out.
    #[error(
        "the queries ran out: of {sampled} sampled sets {kept} were kept, and {wanted} are needed; rejected were {reasons}. \
         Add data, or loosen the task's [responses]"
    )]
    QueriesExhausted {
        /// Sampled sets.
        sampled: usize,
        /// Kept ones.
        kept: usize,
        /// Needed ones.
        wanted: usize,
        /// The reasons with their counts.
        reasons: String,
    },
    /// A query or set that the model cannot take, where every one must be taken.
    #[error("query {id} is refused, and strict allows none to be left out: {reason}")]
    Refused {
        /// The query.
        id: String,
        /// Why.
        reason: String,
    },
    /// Nothing is left to work with.
    #[error(
        "all {refused} queries are refused, so nothing is left to work with; most often like {id}: {reason}"
    )]
    AllRefused {
        /// How many.
        refused: usize,
        /// One with the most frequent reason.
        id: String,
        /// Its reason.
        reason: String,
    },
    /// The queries that the model can take are fewer than are needed; found before anything is sampled.
    #[error(
        "{needed} more queries are needed, and the model can take {usable} of those that are left; it refuses {refused}, most often \
         like {id}: {reason}. Add data, or lower sampling.max_new_tokens"
    )]
    TooFewUsable {
        /// Queries that are still needed.
        needed: usize,
        /// Queries that the model can take.
        usable: usize,
        /// Queries that it cannot take.
        refused: usize,
        /// One of those with the most frequent reason.
        id: String,
        /// Its reason.
        reason: String,
    },
    /// The run directory belongs to another recipe.
    #[error(
        "{path} was made by another recipe: {fields} differ; choose another directory, or restore the recipe"
    )]
    OtherRecipe {
        /// The run's copy of its recipe.
        path: PathBuf,
        /// The fields that differ.
        fields: String,
    },
    /// Training over several GPUs does not exist.
    #[error(
        "model.gpus is {gpus}, and training over several GPUs is not there yet; `sami inspect --plan {base}` says what the model \
         takes, and --set model.gpus=1 tries one GPU, for example with --set training.lora.rank=16"
    )]
    SeveralGpus {
        /// What the recipe asks for.
        gpus: usize,
        /// The base model's directory.
        base: PathBuf,
    },
    /// The run directory was made by another version.
    #[error(
        "{path} was made by sami {found}, and this is {expected}: the numbers could differ. Go on with that version, or choose another directory"
    )]
    OtherVersion {
        /// The run's copy of its recipe.
        path: PathBuf,
        /// Its version.
        found: String,
        /// This one.
        expected: &'static str,
    },
    /// The directory of a training with other settings.
    #[error(
        "{path} was made with other settings: {fields} differ; choose another directory, or restore them"
    )]
    OtherSettings {
        /// What describes that training.
        path: PathBuf,
        /// The settings that differ.
        fields: String,
    },
    /// A file is not what it was when the run began.
    #[error(
        "{file} has changed since the run of {path} began (SHA-256 {before}… then, {after}… now); restore it, or choose another \
         --out"
    )]
    ChangedFile {
        /// The run's copy of its recipe.
        path: PathBuf,
        /// The file.
        file: String,
        /// The beginning of its digest then.
        before: String,
        /// The beginning of its digest now.
        after: String,
    },
    /// The very first iteration collapsed, so there is no model to end with.
    #[error(
        "{report}. No earlier iteration is left to end with; lower training.learning_rate, raise training.beta, or let it go on \
         with guards.action = \"warn\""
    )]
    Collapsed {
        /// What the guards found.
        report: Box<GuardReport>,
    },
    /// A directory that is no run.
    #[error("{path} holds no run: it has no recipe.toml; give the directory of a run")]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// A directory with files in it that no run made.
    #[error("{path} is not empty and holds no run; choose another directory")]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody asked the run to end.
    #[error("ended on request after {done} of {total} in stage {stage}; the same command goes on from there")]
    Cancelled {
        /// The stage.
        stage: Stage,
        /// Units finished.
        done: usize,
        /// Units in all.
        total: usize,
    },
    /// The caller's hook failed.
    #[error("the hook after iteration {iteration} failed")]
    Hook {
        /// η.
        iteration: usize,
        /// What it says.
        source: PolicyError,
    },
}

impl DriverError {
    /// Whether the input is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Data(DataError::NotFinite { .. }) => Blame::Failure,
            Self::Recipe(_)
            | Self::Data(_)
            | Self::Constitution(_)
            | Self::ContrastSet(_)
            | Self::Sampling(_)
            | Self::Taken { .. }
            | Self::Json { .. }
            | Self::LinesLost { .. }
            | Self::RejectedPair { .. }
            | Self::NoPairs { .. }
            | Self::NothingToScore
            | Self::AllRejected { .. }
            | Self::ForeignPair { .. }
            | Self::TooFewQueries { .. }
            | Self::QueriesExhausted { .. }
            | Self::Refused { .. }
            | Self::AllRefused { .. }
            | Self::TooFewUsable { .. }
            | Self::OtherRecipe { .. }
            | Self::OtherVersion { .. }
            | Self::SeveralGpus { .. }
            | Self::OtherSettings { .. }
            | Self::NoRun { .. }
            | Self::ChangedFile { .. }
            | Self::Policy { doing: Doing::Open, .. } => Blame::Input,
            Self::Policy { .. }
            | Self::Objective { .. }
            | Self::WriteRecipe { .. }
            | Self::Diverged { .. }
            | Self::SampleCount { .. }
            | Self::Io { .. }
            | Self::Collapsed { .. }
            | Self::Cancelled { .. }
            | Self::Hook { .. } => Blame::Failure,
        }
    }
}
