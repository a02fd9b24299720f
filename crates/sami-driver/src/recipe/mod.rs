//! One experiment as one readable TOML file.
//!
//! [`Recipe`] is what the file says: every field public, every default the paper's. [`Recipe::check`] turns it into a
//! [`ValidRecipe`], the only kind that a [`crate::Driver`] runs. [`load`] reads a file, and names the line of whatever
//! is wrong in it.

mod check;
mod file;

use std::path::PathBuf;

use sami_core::ObjectiveBuilder;
use sami_data::{OnBadLine, QueryFormat};
use serde::{Deserialize, Serialize};

pub use check::{Problem, RecipeProblem, ValidRecipe};
pub use file::{Provenance, RecipeError, differing_fields, load, parse};

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
    /// Where a run came from; written into a run's own copy, ignored when read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// `[model]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Directory of π_BASE in Hugging Face layout. Relative paths start at the recipe's own directory.
    pub base: PathBuf,
    /// Numbers of the forward pass. Default bf16 (the paper's Table 1).
    pub dtype: Dtype,
    /// `cpu`, or `cuda:N`. Default `cpu`.
    pub device: Device,
}

/// Numbers that a model computes in, or is saved in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    #[default]
    Bf16,
}

/// Where a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

impl TryFrom<String> for Device {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (name.as_str(), number) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => Err(format!("device is {name:?}; it must be \"cpu\" or \"cuda:N\", for example \"cuda:0\"")),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => "cpu".to_owned(),
            Device::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

/// `[data]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// Files of queries, `.jsonl` or `.jsonl.gz`, read in this order. Relative paths start at the recipe's directory.
    pub files: Vec<PathBuf>,
    /// What a line is. Default `hh-rlhf`.
    pub format: QueryFormat,
    /// What to do with a line that cannot be read. Default `stop`.
    pub on_bad_line: OnBadLine,
}

/// `[constitutions]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstitutionSection {
    /// TOML file of principles and antitheses. Default: the embedded helpful/harmless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principles: Option<PathBuf>,
    /// N_c: distinct constitutions per query. Default 2 (Table 1).
    pub n_constitutions: usize,
}

impl Default for ConstitutionSection {
    fn default() -> Self {
        Self { principles: None, n_constitutions: 2 }
    }
}

/// `[sampling]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSection {
    /// At most this many tokens per response. Default 350 (A.1.1).
    pub max_new_tokens: usize,
    /// Divides the logits; 0 is greedy. Default 0 (A.1.1).
    pub temperature: f64,
    /// Nucleus. Default 1: all tokens.
    pub top_p: f64,
    /// The k likeliest tokens only. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Strings that end a response. Default: those of the task's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// Queries that are sampled together and written together: an interrupted run loses at most this many. Default 32.
    pub chunk: usize,
}

impl Default for SamplingSection {
    fn default() -> Self {
        Self { max_new_tokens: 350, temperature: 0.0, top_p: 1.0, top_k: None, stop: None, chunk: 32 }
    }
}

/// `[task]`: the prompts, and what is asked of responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSection {
    /// One of the embedded tasks. Default `dialogue` (A.10).
    pub name: TaskName,
    /// A task's own TOML file, instead of an embedded one. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Count a sampled end-of-sequence token as part of the response. Default false: the paper's code masks it.
    pub score_eos: bool,
}

/// An embedded task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Dialogue, as in HH-RLHF.
    #[default]
    Dialogue,
    /// Summaries, as in TL;DR.
    Tldr,
}

/// `[training]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSection {
    /// N: iterations of Algorithm 1. Default 3 (Table 1).
    pub iterations: usize,
    /// Queries per optimizer step. Default 128 (Table 1).
    pub batch_size: usize,
    /// N_b: batches, and so optimizer steps, of the first iteration. Default 2 (Table 1).
    pub batches: usize,
    /// Batches that each later iteration adds. Default: N_b (Table 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches_increment: Option<usize>,
    /// Which weights each iteration starts from. Default `base` (Algorithm 1).
    pub start: StartFrom,
    /// Default 5e-7 (Table 1).
    pub learning_rate: f64,
    /// Default `adamw` (Table 1).
    pub optimizer: OptimizerName,
    /// Default: PyTorch's, 0.01 for AdamW and 0 for RMSprop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// AdamW's two decay rates. Default: PyTorch's (0.9, 0.999).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// RMSprop's decay rate. Default: PyTorch's 0.99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Added to the denominator. Default: PyTorch's 1e-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Clips the global norm of the gradient. Default: no clipping (the paper's code).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_grad_norm: Option<f64>,
    /// How an update is added to bf16 weights. Default `exact`; the paper's code does `bf16-pure`.
    pub updates: Updates,
    /// Numbers of the saved checkpoints. Default f32: bf16 files lose most of an update at small learning rates.
    pub save_dtype: Dtype,
    /// Queries that are in the model at once; changes memory and speed, and the result by rounding only. Default:
    /// the whole batch is handed to the model, which divides it as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Weights and optimizer state are kept after every so many steps, so that an interrupted run loses no more than
    /// these; 0 keeps none, and an interrupted iteration trains again from its start. Default 1.
    pub save_state_every: usize,
}

impl Default for TrainingSection {
    fn default() -> Self {
        Self {
            iterations: 3,
            batch_size: 128,
            batches: 2,
            batches_increment: None,
            start: StartFrom::Base,
            learning_rate: 5e-7,
            optimizer: OptimizerName::AdamW,
            weight_decay: None,
            betas: None,
            alpha: None,
            eps: None,
            max_grad_norm: None,
            updates: Updates::Exact,
            save_dtype: Dtype::F32,
            micro_batch: None,
            save_state_every: 1,
        }
    }
}

impl TrainingSection {
    /// B of iteration η (from 1): N_b + (η − 1) · increment optimizer steps.
    pub fn steps(&self, iteration: usize) -> usize {
        let increment = self.batches_increment.unwrap_or(self.batches);
        increment.saturating_mul(iteration.saturating_sub(1)).saturating_add(self.batches)
    }

    /// Queries that iteration η (from 1) trains on: one batch per step.
    pub fn queries(&self, iteration: usize) -> usize {
        self.steps(iteration).saturating_mul(self.batch_size)
    }
}

/// Which weights an iteration starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartFrom {
    /// π_BASE, as in Algorithm 1.
    #[default]
    Base,
    /// π_{η−1}. Then every iteration needs queries that no earlier one used.
    Previous,
}

/// An optimizer by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay.
    #[default]
    AdamW,
    /// RMSprop (the paper's choice for mixtral-8x7b).
    RmsProp,
}

/// How an update is added to bf16 weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Updates {
    /// Nothing is rounded away.
    #[default]
    Exact,
    /// The sum is rounded to bf16; at a learning rate of 5e-7 about 99% of an update is lost. For parity only.
    Bf16Pure,
}

/// `[evaluation]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSection {
    /// The first so many queries are kept out of training; the base model and every iteration's model answer them,
    /// and the mutual information of their answers is written to `RUN/eval`. Default 0: no evaluation. The paper
    /// uses 250.
    pub queries: usize,
}
