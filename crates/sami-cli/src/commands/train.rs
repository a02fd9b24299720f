//! `sami train`: stage 3.

use std::path::PathBuf;

use sami_driver::{Batches, Order, TrainJob, read_sets};
use sami_policy::TrainablePolicy;
use sami_torch::{Dtype, EngineOptions, OptimizerConfig, OptimizerKind, Precision, Work, plan_memory};
use serde_json::json;

use crate::args::{ModelArgs, at_least_one};
use crate::context::Context;
use crate::failure::Failure;

/// Stage 3 alone: train a checkpoint on pairs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami train --model mistral-7b --pairs pairs.jsonl --out trained --steps 2 --batch-size 128 --lr 5e-7 --dtype bf16"
)]
pub(crate) struct Args {
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

impl Args {
    /// The engine for training.
    fn engine(&self) -> EngineOptions {
        let defaults = OptimizerConfig::new(self.optimizer, self.lr);
        EngineOptions {
            optimizer: OptimizerConfig { max_grad_norm: self.max_grad_norm, ..defaults },
            precision: if self.bf16_pure { Precision::Bf16Pure } else { Precision::Exact },
            save_dtype: self.save_dtype,
            recompute: !self.no_recompute,
            ..self.model.engine()
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let sets = read_sets(&args.pairs)?;
    let engine = args.engine();
    plan_memory(&args.model.model, &engine, Work::Train, None)?.check(&engine)?;
    let mut policy = args.model.open(&engine)?;
    std::fs::create_dir_all(&args.out).map_err(|source| Failure::Io { path: args.out.clone(), source })?;
    let order = if args.no_shuffle { Order::Sequential } else { Order::Shuffled { seed: args.seed } };
    let batches = Batches::new(sets.len(), args.batch_size, order).ok_or_else(|| Failure::Argument {
        argument: "--pairs",
        reason: format!("{} holds no pair to train on", args.pairs.display()),
    })?;
    let job = TrainJob {
        iteration: 1,
        objective: &Default::default(),
        steps: args.steps,
        batches,
        micro_batch: args.micro_batch,
        metrics: args.out.join("metrics.jsonl"),
        state: args.out.join("state"),
        save_state_every: 0,
    };
    let steps = sami_driver::train(&mut policy, &sets, &job, &mut context.progress())?;
    policy.save(&args.out)?;
    let text = format!("trained {} steps; checkpoint {}", steps.len(), args.out.display());
    context.result(&json!({"checkpoint": args.out, "steps": steps}), &text)
}
