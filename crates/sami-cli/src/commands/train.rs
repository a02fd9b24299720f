//! `sami train`: stage 3.

use std::path::{Path, PathBuf};

use sami_data::{LineReader, sha256};
use sami_driver::recipe::{LrSchedule, Schedule};
use sami_driver::{Batches, Order, PairSets, Screening, SetSource, TakenSets, TrainDir, TrainJob};
use sami_policy::TrainablePolicy;
use sami_torch::{
    Dtype, EngineOptions, OptimizerConfig, OptimizerKind, Precision, PromptFormat, TorchProvider, Work,
    plan_memory,
};
use serde_json::{Map, Value, json};

use crate::args::{ModelArgs, at_least_one};
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;
use crate::pairs::prompt_format;

/// Packed tokens that go through the layers at once, unless something else is asked for: fixed, so that an interrupted training
/// ends with the same bytes.
const TOKEN_BUDGET: usize = 4096;

/// Stage 3 alone: train a checkpoint on pairs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami train --model mistral-7b --pairs pairs.jsonl --out trained --steps 2 --batch-size 128 --lr 5e-7 --dtype bf16\n\n\
    The directory gets the checkpoint and metrics.jsonl. Interrupted, the same command goes on after the last step that it kept."
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
    #[arg(long, value_name = "X", default_value = "5e-7", allow_negative_numbers = true)]
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
    /// How the learning rate changes: constant or linear.
    #[arg(long, default_value = "constant", value_parser = schedule)]
    pub(crate) schedule: Schedule,
    /// Steps in which the learning rate grows to its full value.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warmup_steps: usize,
    /// Coefficient of the KL to the given model (to its base, if it is an adapter), in nats per token; keeps
    /// its weights in memory.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = not_negative, allow_negative_numbers = true)]
    pub(crate) beta: f64,
    /// Report that KL although it is no part of the loss; keeps the given model's weights in memory.
    #[arg(long)]
    pub(crate) measure_kl: bool,
    /// Keep weights and optimizer state after every so many steps; 0 keeps none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) save_state_every: usize,
    /// End with an error where the model cannot take a pair, instead of leaving it out and going on.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Keep every layer's activations instead of computing them again in the backward pass: faster, and more memory.
    #[arg(long)]
    pub(crate) no_recompute: bool,
}

fn schedule(name: &str) -> Result<Schedule, String> {
    serde_json::from_value(json!(name)).map_err(|_| format!("\"{name}\" is not one of constant, linear"))
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Ok(_) => Err("it must be 0 or a finite number above 0".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Args {
    /// The engine for training.
    fn engine(&self, prompt_format: PromptFormat) -> EngineOptions {
        let defaults = OptimizerConfig::new(self.optimizer, self.lr);
        EngineOptions {
            optimizer: OptimizerConfig { max_grad_norm: self.max_grad_norm, ..defaults },
            precision: if self.bf16_pure { Precision::Bf16Pure } else { Precision::Exact },
            save_dtype: self.save_dtype,
            recompute: !self.no_recompute,
            keep_reference: self.beta > 0.0 || self.measure_kl,
            prompt_format,
            token_budget: Some(self.model.token_budget.unwrap_or(TOKEN_BUDGET)),
            ..self.model.engine()
        }
    }
}

/// What the numbers of this training depend on.
fn settings(args: &Args, model: &Path, engine: &EngineOptions) -> Result<Map<String, Value>, Failure> {
    let settings = json!({
        "model": absolute(model)?, "pairs": absolute(&args.pairs)?, "pairs_sha256": sha256(&args.pairs)?,
        "engine": engine, "steps": args.steps, "batch_size": args.batch_size, "micro_batch": args.micro_batch,
        "schedule": args.schedule, "warmup_steps": args.warmup_steps, "beta": args.beta, "seed": args.seed,
        "shuffle": !args.no_shuffle,
    });
    Ok(settings.as_object().cloned().unwrap_or_default())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::Io { path: path.to_owned(), source })
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut sets = PairSets::open(&args.pairs)?;
    let order = if args.no_shuffle { Order::Sequential } else { Order::Shuffled { seed: args.seed } };
    let no_pair = || Failure::Argument {
        argument: "--pairs",
        reason: format!("{} holds no pair to train on", args.pairs.display()),
    };
    if sets.count() == 0 {
        return Err(no_pair());
    }
    if args.warmup_steps > args.steps {
        let reason = format!("{}, but there are {} steps", args.warmup_steps, args.steps);
        return Err(Failure::Argument { argument: "--warmup-steps", reason });
    }
    let model = hub::model(&args.model.model)?;
    let engine = args.engine(prompt_format(&args.pairs)?);
    let settings = settings(args, &model, &engine)?;
    // Refused before the directory is made.
    TorchProvider::new(&model, engine.clone())?;
    let mut dir = TrainDir::open(&args.out, settings)?;
    let refused = args.out.join("refused.jsonl");
    if !dir.is_finished() {
        plan_memory(&model, &engine, Work::Train, None)?.check(&engine)?;
        let mut policy = args.model.open(&engine)?;
        let screening = Screening::new(&policy, &mut sets, args.strict)?;
        screening.write(&refused)?;
        let mut sets = TakenSets::new(&mut sets, &screening);
        let batches = Batches::new(sets.count(), args.batch_size, order).ok_or_else(no_pair)?;
        let job = TrainJob {
            iteration: 1,
            objective: &Default::default(),
            schedule: LrSchedule { shape: args.schedule, warmup_steps: args.warmup_steps },
            beta: args.beta,
            steps: args.steps,
            batches,
            micro_batch: args.micro_batch,
            metrics: dir.metrics(),
            state: dir.state(),
            save_state_every: args.save_state_every,
        };
        sami_driver::train(&mut policy, &mut sets, &job, &mut context.progress())?;
        policy.save(&args.out)?;
        dir.finish()?;
    }
    let steps = dir.steps()?;
    let left_out = if refused.is_file() { LineReader::open(&refused)?.count() } else { 0 };
    let mut text = format!("trained {} steps; checkpoint {}", steps.len(), args.out.display());
    if left_out > 0 {
        text.push_str(&format!("; {left_out} pairs were left out, {} says why", refused.display()));
    }
    context.result(&json!({"checkpoint": args.out, "steps": steps, "refused": left_out}), &text)
}
