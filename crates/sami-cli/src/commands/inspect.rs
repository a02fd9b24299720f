//! `sami inspect`: what a checkpoint is, and what it needs.

use std::path::PathBuf;

use sami_torch::{
    Device, Dtype, EngineOptions, MemoryPlan, OptimizerConfig, OptimizerKind, Precision, Work, plan_memory,
};
use serde::Serialize;

use crate::args::at_least_one;
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;

/// What a checkpoint is: architecture, size, tokenizer. Checks every tensor's name, shape and dtype.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami inspect mistral-7b\n  sami inspect mistral-7b --plan --dtype bf16 --length 600\n\n\
    The plan is made from config.json alone, so it can come before the download of the weights."
)]
pub(crate) struct Args {
    /// Hugging Face checkpoint directory.
    pub(crate) model: PathBuf,
    /// What scoring, sampling and training would take in memory, and whether it fits here.
    #[arg(long)]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) options: PlanArgs,
}

/// What the plan is for.
#[derive(Debug, clap::Args)]
#[group(requires = "plan")]
pub(crate) struct PlanArgs {
    /// Tokens of a prompt with its responses, or with its continuation. Default: 1024.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    length: Option<usize>,
    /// Packed tokens that go through the model at once. Default: by the memory that is free.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    token_budget: Option<usize>,
    /// Numbers of weights and activations: f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// adamw or rmsprop.
    #[arg(long, default_value = "adamw")]
    optimizer: OptimizerKind,
    /// Weights, gradients and optimizer state in bf16.
    #[arg(long)]
    bf16_pure: bool,
    /// Keep every layer's activations.
    #[arg(long)]
    no_recompute: bool,
    /// Keep the base beside the trained weights, for the KL to it.
    #[arg(long)]
    keep_reference: bool,
}

impl PlanArgs {
    fn engine(&self) -> EngineOptions {
        let defaults = EngineOptions::default();
        EngineOptions {
            device: self.device,
            dtype: self.dtype,
            optimizer: OptimizerConfig::new(self.optimizer, defaults.optimizer.lr),
            precision: if self.bf16_pure { Precision::Bf16Pure } else { Precision::Exact },
            token_budget: self.token_budget,
            recompute: !self.no_recompute,
            keep_reference: self.keep_reference,
            ..defaults
        }
    }
}

#[derive(Serialize)]
struct Planned {
    plan: MemoryPlan,
    fits: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let model = hub::model(&args.model)?;
    if !args.plan {
        let summary = sami_torch::inspect(&model)?;
        return context.result(&summary, &summary);
    }
    let mut plans = Vec::new();
    for work in [Work::Score, Work::Sample, Work::Train] {
        let plan = plan_memory(&model, &args.options.engine(), work, args.options.length)?;
        plans.push(Planned { fits: plan.fits(), plan });
    }
    let text: Vec<String> = plans.iter().map(|planned| planned.plan.to_string()).collect();
    context.result(&plans, &text.join("\n\n"))
}
