//! Arguments, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sami_torch::{Device, Dtype, OptimizerKind};

/// Teaches a pretrained language model to follow written principles, without preference labels (SAMI, arXiv 2404.14313).
#[derive(Debug, Parser)]
#[command(name = "sami", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 success, 1 failure, 2 wrong arguments or bad input.\n\
    Results go to standard output, progress and messages to standard error.")]
pub(crate) struct Cli {
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more; twice for debugging. SAMI_LOG overrides it, by crate (SAMI_LOG=sami_torch=debug).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything that a recipe says; go on where an earlier run of it stopped.
    #[command(after_help = "Example:\n  sami run recipes/paper/hh-rlhf-mistral-7b.toml --out runs/hh-rlhf")]
    Run(RunArgs),
    /// Stage 2 alone: sample responses to queries under constitutions, filter them, write pairs.
    #[command(
        after_help = "Example:\n  sami generate --model mistral-7b --data harmless-base.jsonl.gz --queries 256 --out pairs.jsonl"
    )]
    Generate(GenerateArgs),
    /// Stage 3 alone: train a checkpoint on pairs.
    #[command(
        after_help = "Example:\n  sami train --model mistral-7b --pairs pairs.jsonl --out trained --steps 2 --batch-size 128 --lr 5e-7 --dtype bf16"
    )]
    Train(TrainArgs),
    /// Contrast matrices of pairs, one JSON line per query, and the mutual information in them.
    #[command(
        after_help = "Example:\n  sami score --model mistral-7b --pairs pairs.jsonl --out scores.jsonl\n\n\
        Each line: {\"id\", \"mean\", \"sum\", \"tokens\", \"loss\", \"mi\"}; matrices are [constitution][response] in nats."
    )]
    Score(ScoreArgs),
    /// Continue raw prompts.
    #[command(
        after_help = "Example:\n  sami sample --model mistral-7b --prompts prompts.jsonl --out samples.jsonl --temperature 0\n\n\
        A line of --prompts is {\"prompt\": \"…\"} or a JSON string; a line of --out is {\"prompt\", \"text\", \"tokens\"}."
    )]
    Sample(SampleArgs),
    /// What a checkpoint is: architecture, size, tokenizer. Checks every tensor's name, shape and dtype.
    #[command(after_help = "Example:\n  sami inspect mistral-7b")]
    Inspect(InspectArgs),
    /// What this machine offers: LibTorch, threads, CUDA devices.
    #[command(after_help = "Example:\n  sami doctor --json")]
    Doctor,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The recipe, a TOML file.
    pub(crate) recipe: PathBuf,
    /// The run directory; made if it is not there.
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
}

/// What every command with a model takes.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Hugging Face checkpoint directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Numbers of weights and activations: f32 or bf16.
    #[arg(long, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Threads inside one operation; default: LibTorch's choice.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// At most this many packed tokens go through the model at once.
    #[arg(long, value_name = "TOKENS", default_value_t = 4096, value_parser = at_least_one)]
    pub(crate) token_budget: usize,
}

/// How responses are sampled.
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

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Queries: HH-RLHF or plain JSONL, also gzipped. May be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// What a line of --data is: hh-rlhf, jsonl or tldr.
    #[arg(long, default_value = "hh-rlhf")]
    pub(crate) format: String,
    /// The pairs file; whole chunks that it holds already are kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Contrast sets to end with; rejected ones are replaced by further queries. Default: one set per query, kept or not.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) queries: Option<usize>,
    /// TOML file of principles and antitheses; default: the built-in helpful/harmless ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) principles: Option<PathBuf>,
    /// TOML file of a task's prompts and filters; default: dialogue.
    #[arg(long, value_name = "FILE")]
    pub(crate) task: Option<PathBuf>,
    /// Distinct constitutions per query.
    #[arg(long, value_name = "C", default_value_t = 2, value_parser = at_least_one)]
    pub(crate) n_constitutions: usize,
    /// At most this many tokens per response.
    #[arg(long, value_name = "N", default_value_t = 350)]
    pub(crate) max_new_tokens: usize,
    /// Queries that are sampled and written together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) chunk: usize,
    /// Count a sampled end-of-sequence token as part of its response.
    #[arg(long)]
    pub(crate) score_eos: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Pairs: our JSONL, or the paper's JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,
    /// Checkpoint directory to write, with metrics.jsonl in it.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Optimizer steps; they cycle through the pairs, and a batch may wrap around.
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    pub(crate) steps: usize,
    /// Queries per step.
    #[arg(long, value_name = "B", default_value_t = 128, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    /// Learning rate.
    #[arg(long, value_name = "X", default_value_t = 5e-7, allow_negative_numbers = true)]
    pub(crate) lr: f64,
    /// adamw or rmsprop, with torch's defaults.
    #[arg(long, default_value = "adamw")]
    pub(crate) optimizer: OptimizerKind,
    /// Clip the gradient's global L2 norm to this; default: no clipping.
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub(crate) max_grad_norm: Option<f64>,
    /// Weights, gradients and optimizer state in bf16, as the paper's code does. Most of a small update is rounded
    /// away; needs --dtype bf16.
    #[arg(long)]
    pub(crate) bf16_pure: bool,
    /// Dtype of the written weights: f32 or bf16. Default: f32, or bf16 with --bf16-pure.
    #[arg(long, value_name = "DTYPE")]
    pub(crate) save_dtype: Option<Dtype>,
    /// Seed of the order of pairs.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Take the pairs as they stand.
    #[arg(long)]
    pub(crate) no_shuffle: bool,
    /// Queries handed to the model at once; changes memory and speed alone. Default: the whole batch, divided by
    /// --token-budget.
    #[arg(long, value_name = "M", value_parser = at_least_one)]
    pub(crate) micro_batch: Option<usize>,
    /// Keep every layer's activations instead of computing them again in the backward pass: faster, and more memory.
    #[arg(long)]
    pub(crate) no_recompute: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Pairs: our JSONL, or the paper's JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,
    /// One JSON line per query.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Prompts, one JSON value per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,
    /// One JSON line per prompt.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// At most this many new tokens per prompt.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// End a text where this string appears. May be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Hugging Face checkpoint directory.
    pub(crate) model: PathBuf,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Example:\n  sami "), "{help}");
        }
    }
}
