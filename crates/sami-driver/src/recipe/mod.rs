//! One experiment as one readable TOML file.
//!
//! [`Recipe`] is what the file says: every field public, every default the paper's. [`Recipe::check`] turns it into a
//! [`ValidRecipe`], the only kind that a [`crate::Driver`] runs. [`load`] reads a file, and names the line of whatever
//! is wrong in it.

mod check;
mod constitutions;
mod file;
mod guards;
mod names;
mod overrides;
mod provenance;
mod sections;
mod training;

use sami_core::ObjectiveBuilder;
use serde::{Deserialize, Serialize};

pub use check::{Problem, RecipeProblem, ValidRecipe};
pub use constitutions::{ConstitutionSection, Contrasts};
pub use file::{RecipeError, RenderError, differing_fields, load, load_with, parse, render};
pub use guards::{GuardAction, GuardSection};
pub use overrides::Override;
pub use provenance::{FileDigest, Origin, Provenance};
pub use sections::{
    DataSection, Device, Dtype, EvaluationSection, ModelSection, SamplingSection, TaskName, TaskSection,
};
pub use training::{
    LoraSection, LoraTarget, LrSchedule, OptimizerName, Schedule, StartFrom, TrainingSection, Updates,
};

/// A recipe as it stands in its file. Unknown keys are refused, absent ones have the defaults that each field names;
/// `[model] base` and `[data] files` have none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Names the experiment in reports. Default: empty.
    pub name: String,
    /// All randomness comes from it: splits, constitutions, responses, shuffles. Default 0.
    pub seed: u64,
    /// The base model, and in which numbers it computes.
    pub model: ModelSection,
    /// The queries.
    pub data: DataSection,
    /// The constitutions, and how many of them each query meets.
    pub constitutions: ConstitutionSection,
    /// The prompts, and what is asked of responses.
    pub task: TaskSection,
    /// How responses are sampled.
    pub sampling: SamplingSection,
    /// The loss: `side` (default `two_sided`, Equation 2), `reduction` (default `mean`, the paper's code) and `weights` of
    /// its two terms (default equal).
    pub objective: ObjectiveBuilder,
    /// Algorithm 1 and its optimizer.
    pub training: TrainingSection,
    /// What is measured before the first and after every iteration.
    pub evaluation: EvaluationSection,
    /// When a run ends early because its text collapses.
    pub guards: GuardSection,
    /// Where a run came from; written into a run's own copy, ignored when read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}
