//! `sami export`: a checkpoint for other programs.

use std::path::PathBuf;

use sami_driver::refuse_filled;
use sami_policy::TrainablePolicy;
use sami_torch::{Dtype, EngineOptions, TorchPolicy};
use serde_json::json;

use crate::args::gibibytes;
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;

/// Write a checkpoint anew: adapters merged into the weights, cast to another dtype, divided into other files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sami export runs/hh-rlhf/final --out mistral-7b-sami --dtype bf16\n  \
    sami export adapter --out merged --max-shard 5\n\n\
    A directory of low-rank adapters (PEFT) is merged into the base that its adapter_config.json names.\n\
    bf16 halves the size, and rounds away most of what a small learning rate has changed.")]
pub(crate) struct Args {
    /// Checkpoint or adapter directory.
    model: PathBuf,
    /// The directory to write; it must not be there, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Dtype of the written weights: f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Largest size of a file, in GiB. Default: as the checkpoint is divided.
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    max_shard: Option<usize>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    refuse_filled(&args.out)?;
    let options = EngineOptions { save_dtype: Some(args.dtype), ..EngineOptions::default() };
    let mut policy = TorchPolicy::open(&hub::model(&args.model)?, &options)?;
    let merged = policy.adapters().is_some();
    policy = policy.merge_adapters()?;
    if let Some(bytes) = args.max_shard {
        policy = policy.reshard(bytes);
    }
    policy.save(&args.out)?;
    let adapters = if merged { ", adapters merged" } else { "" };
    let text = format!("{} in {}{adapters}", args.dtype, args.out.display());
    context.result(&json!({"checkpoint": args.out, "dtype": args.dtype, "merged": merged}), &text)
}
