//! What a recipe says about model, data, sampling, task and evaluation.

use std::path::PathBuf;

use sami_constitution::Task;
use sami_data::{FieldPath, OnBadLine, QueryFormat, QueryShape, ShapeProblem};
use serde::{Deserialize, Serialize};

/// `[model]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Directory of π_BASE in Hugging Face layout. Relative paths start at the recipe's own directory.
    pub base: PathBuf,
    /// Numbers of the forward pass. Default bf16 (the paper's Table 1).
    pub dtype: Dtype,
    /// `cpu`, or `cuda:N`. Default `cpu`.
    pub device: Device,
    /// GPUs that the experiment was made for, weights sharded over them. Default 1. Above 1 a run is refused until training can
    /// be sharded.
    pub gpus: usize,
    /// At most so many packed tokens go through the layers at once while scoring and training. Changes memory and speed, and
    /// the result by rounding only. Default: what memory is free when the run begins allows; the run keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<usize>,
    /// Sequences that are generated side by side. Default: the engine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_batch: Option<usize>,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            base: PathBuf::new(),
            dtype: Dtype::Bf16,
            device: Device::Cpu,
            gpus: 1,
            token_budget: None,
            generation_batch: None,
        }
    }
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
    /// Files of queries, compressed or not, read in this order. Relative paths start at the recipe's directory.
    pub files: Vec<PathBuf>,
    /// What a record is. Default `auto`: told by its fields.
    pub format: QueryFormat,
    /// The field that holds the query, for example `body.messages`. Default: what the format says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_field: Option<FieldPath>,
    /// What to do with a line that cannot be read. Default `stop`.
    pub on_bad_line: OnBadLine,
    /// A query that the model cannot take (it is too long, for instance) ends the run, instead of being
    /// left out and counted. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl DataSection {
    /// What the records are, and where their queries stand.
    ///
    /// # Errors
    ///
    /// [`ShapeProblem`] for a field beside a format that has its own.
    pub fn shape(&self) -> Result<QueryShape, ShapeProblem> {
        QueryShape::new(self.format, self.query_field.clone())
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
    /// The base is an instruct model: it reads the task's `instruct` prompt as a user's turn in its own chat format, in
    /// sampling, scoring and training alike. Default false: prompts are text to continue.
    pub instruct: bool,
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

impl TaskSection {
    /// The task that the section names, with the prompts that the base reads.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is no task; and a task without `instruct` where the section asks for it.
    pub fn load(&self) -> Result<Task, sami_constitution::Error> {
        let task = match (&self.file, self.name) {
            (Some(file), _) => Task::load(file)?,
            (None, TaskName::Dialogue) => Task::dialogue(),
            (None, TaskName::Tldr) => Task::tldr(),
        };
        if self.instruct { task.instructed() } else { Ok(task) }
    }
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
