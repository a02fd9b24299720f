//! Arguments that several commands share.

use std::path::{Path, PathBuf};

use clap::Args;
use sami_constitution::{PrincipleSet, Task};
use sami_data::{DataError, FieldPath, OnBadLine, QueryFormat, QueryShape};
use sami_torch::{Device, Dtype, PromptFormat};

use crate::failure::Failure;

// What every command with a model takes.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Hugging Face checkpoint directory, or `org/name[@REVISION]` of a model on the hub.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Numbers of weights and activations: f32 or bf16.
    #[arg(long, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// At most this many packed tokens go through the model at once. Default: by the memory that is free; 4096 in training.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub(crate) token_budget: Option<usize>,
    /// Go on although memory is expected not to suffice.
    #[arg(long)]
    pub(crate) no_memory_check: bool,
}

// How responses are sampled.
#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Divides the logits; 0 is greedy.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Nucleus: the smallest set of tokens with at least this probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// The k likeliest tokens only.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Seed of all draws; each prompt has its own stream.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

// Queries, and what is asked of a model about them.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// Queries: JSON lines, JSON or Parquet, also compressed by gzip or zstd; or
    /// hub:org/name/path/of/file. May be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// What to do with a line that gives no query: stop, or skip it and say how many were.
    #[arg(long, value_name = "WHAT", default_value = "stop", value_parser = on_bad_line)]
    pub(crate) on_bad_line: OnBadLine,
    /// TOML file of principles and antitheses; default: the built-in helpful/harmless ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) principles: Option<PathBuf>,
    /// Prompts and filters: dialogue, tldr, or a task's TOML file.
    #[arg(long, value_name = "TASK", default_value = "dialogue")]
    pub(crate) task: String,
    /// The model is an instruct model: it reads the task's instruct prompt as a user's turn in its own chat format.
    #[arg(long)]
    pub(crate) instruct: bool,
}

// What the records of a file of queries are.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// What a record of the file is: auto (told by its fields), hh-rlhf, jsonl, text (each line),
    /// tldr or tldr-comparisons.
    #[arg(long, default_value = "auto", value_parser = query_format)]
    format: QueryFormat,
    /// The field with the query, for example body.messages. Of a list of turns the first user turn
    /// is taken.
    #[arg(long, value_name = "FIELD")]
    query_field: Option<FieldPath>,
}

impl FormatArgs {
    /// Where the query of a record stands.
    pub(crate) fn shape(&self) -> Result<QueryShape, Failure> {
        Ok(QueryShape::new(self.format, self.query_field.clone()).map_err(DataError::from)?)
    }
}

impl TaskArgs {
    /// The principles.
    pub(crate) fn principles(&self) -> Result<PrincipleSet, Failure> {
        Ok(match &self.principles {
            Some(file) => PrincipleSet::load(file)?,
            None => PrincipleSet::helpful_harmless(),
        })
    }

    /// The task, with the prompts that the model reads.
    pub(crate) fn task(&self) -> Result<Task, Failure> {
        let task = task(&self.task)?;
        Ok(if self.instruct { task.instructed()? } else { task })
    }

    /// What those prompts are.
    pub(crate) fn prompt_format(&self) -> PromptFormat {
        if self.instruct { PromptFormat::UserTurn } else { PromptFormat::Raw }
    }
}

/// A built-in task by its name, or a task's file.
pub(crate) fn task(named: &str) -> Result<Task, Failure> {
    Ok(match named {
        "dialogue" => Task::dialogue(),
        "tldr" => Task::tldr(),
        file => Task::load(Path::new(file))?,
    })
}

/// What a record of a file of queries is.
fn query_format(text: &str) -> Result<QueryFormat, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn on_bad_line(text: &str) -> Result<OnBadLine, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Refuses, before any work, an output that cannot become a file, or that would take the place of an input.
pub(crate) fn check_out<'a>(
    out: &Path,
    inputs: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::Argument { argument: "--out", reason });
    if out.is_dir() {
        return refuse(format!("{} is a directory; name a file", out.display()));
    }
    let Ok(file) = out.canonicalize() else { return Ok(()) };
    match inputs.into_iter().find(|input| input.canonicalize().is_ok_and(|input| input == file)) {
        Some(input) => refuse(format!("{} is also an input and would be lost", input.display())),
        None => Ok(()),
    }
}

/// A count.
pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// A size in GiB, as bytes.
pub(crate) fn gibibytes(text: &str) -> Result<usize, String> {
    match text.parse::<f64>() {
        Ok(size) if size.is_finite() && size > 0.0 => Ok((size * f64::from(1 << 30)) as usize),
        Ok(_) => Err("it must be a finite number above 0".into()),
        Err(error) => Err(error.to_string()),
    }
}
