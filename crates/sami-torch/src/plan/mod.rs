//! The memory plan: what a piece of work will take, before anything is loaded, and what would fit instead.

mod estimate;
mod free;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use self::estimate::Estimate;
pub use self::free::{FreeMemory, MemoryLimit, free_memory};
use crate::checkpoint::{CheckpointReader, read_config};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::lora::{AdapterFiles, LoraConfig};
use crate::options::{Device, Dtype, EngineOptions, OptimizerConfig, OptimizerKind, Precision};

/// Packed tokens at once where memory does not matter: more make no operation faster.
const LARGEST_BUDGET_CPU: usize = 4096;
const LARGEST_BUDGET_CUDA: usize = 16_384;
/// Fewer make every operation slower.
const SMALLEST_BUDGET: usize = 256;
/// Share of what is free that a budget chosen by itself may take.
const HEADROOM: f64 = 0.85;
/// Tokens of a row where the caller knows no better: the paper's prompts with two responses stay below.
const USUAL_LENGTH: usize = 1024;

/// What the model is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Contrast matrices.
    Score,
    /// Contrast matrices and their gradients, without an update.
    Gradient,
    /// Contrast matrices, gradients and updates.
    Train,
    /// Generation.
    Sample,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Score => "scoring",
            Self::Gradient => "differentiating",
            Self::Train => "training",
            Self::Sample => "sampling",
        })
    }
}

/// One use of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// What it is for.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// A change of options and the peak with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryChoice {
    /// What to change, in words.
    pub change: &'static str,
    /// Bytes at once.
    pub peak: u64,
}

/// What a piece of work takes at once, estimated from shapes. Peaks of real runs lie within some 15 %.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryPlan {
    /// The work.
    pub work: Work,
    /// Where.
    pub device: Device,
    /// Number of parameters.
    pub parameters: usize,
    /// Tokens that go through the layers at once.
    pub token_budget: usize,
    /// Tokens of a row (a prompt with its responses) or of a sequence (a prompt with its continuation).
    pub length: usize,
    /// What the memory is for.
    pub parts: Vec<MemoryPart>,
    /// Bytes at once.
    pub peak: u64,
    /// What is free; `None` where nobody can tell.
    pub free: Option<FreeMemory>,
    /// Changes that would make it fit, the least intrusive first; empty where it fits, or where nothing does.
    pub choices: Vec<MemoryChoice>,
}

impl MemoryPlan {
    /// Plans `work` in rows (or sequences) of `length` tokens, by default 1,024 or as long as the model allows; `free` as
    /// [`free_memory`] tells it.
    pub fn new(
        config: &ModelConfig,
        options: &EngineOptions,
        work: Work,
        length: Option<usize>,
        free: Option<FreeMemory>,
    ) -> Self {
        let limit = config.longest_sequence();
        let length = length.unwrap_or(USUAL_LENGTH.min(limit)).max(1);
        let token_budget = budget(config, options, work, length, free.as_ref());
        let estimate = |options: &EngineOptions, tokens: usize| {
            Estimate::new(config, options, work, tokens.max(length), length)
        };
        let chosen = estimate(options, token_budget);
        let peak = chosen.peak() as u64;
        let mut choices = Vec::new();
        if let Some(free) = free.as_ref().filter(|free| peak > free.bytes) {
            for (change, options) in alternatives(options, work) {
                let tokens = options.token_budget.unwrap_or(SMALLEST_BUDGET);
                let peak = estimate(&options, tokens).peak() as u64;
                if peak <= free.bytes {
                    choices.push(MemoryChoice { change, peak });
                }
            }
        }
        let parts = parts(&chosen, options);
        let parameters = config.parameters();
        let device = options.device;
        Self { work, device, parameters, token_budget, length, parts, peak, free, choices }
    }

    /// Whether it fits; true where nobody can tell what is free.
    pub fn fits(&self) -> bool {
        self.free.as_ref().is_none_or(|free| self.peak <= free.bytes)
    }

    /// The plan, if it fits, or if `options` say not to look.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] with the choices that would fit.
    pub fn check(self, options: &EngineOptions) -> Result<Self> {
        if self.fits() || !options.check_memory {
            Ok(self)
        } else {
            Err(Error::Memory { plan: Box::new(self) })
        }
    }

    /// One sentence: what it takes, what there is, what would fit.
    pub(crate) fn refusal(&self) -> String {
        let Some(free) = &self.free else { return String::new() };
        let mut text = format!(
            "{} this model takes about {} ({}), but {} are {}",
            self.work,
            Gib(self.peak),
            self.largest(),
            Gib(free.bytes),
            free.limit
        );
        match self.choices.as_slice() {
            [] => text.push_str(
                "; nothing that can be chosen makes it fit: use a smaller model or another machine",
            ),
            choices => {
                let listed: Vec<String> = choices
                    .iter()
                    .map(|choice| format!("{} ({})", choice.change, Gib(choice.peak)))
                    .collect();
                text.push_str(&format!("; what would fit: {}", listed.join(", or ")));
            }
        }
        text
    }

    fn largest(&self) -> String {
        match self.parts.iter().max_by_key(|part| part.bytes) {
            Some(part) => format!("{} of it for {}", Gib(part.bytes), part.name),
            None => String::new(),
        }
    }
}

/// Plans `work` on the checkpoint or adapter in `dir` with what is free now; reads no weights.
pub fn plan_memory(
    dir: &Path,
    options: &EngineOptions,
    work: Work,
    length: Option<usize>,
) -> Result<MemoryPlan> {
    options.check()?;
    let free = free_memory(options.device);
    let Some(adapter) = AdapterFiles::open(dir)? else {
        return Ok(MemoryPlan::new(&read_config(dir)?, options, work, length, free));
    };
    let base = adapter.base()?;
    let reader = CheckpointReader::open(&base, &read_config(&base)?)?;
    let lora = Some(adapter.as_large(reader.config())?);
    let options = EngineOptions { lora, ..options.clone() };
    Ok(MemoryPlan::new(reader.config(), &options, work, length, free))
}

/// The token budget that is asked for, else the largest power of two with which the work fits.
///
/// Powers of two and a ceiling, so that a little more or less free memory gives the same split, and with it the same bits.
fn budget(
    config: &ModelConfig,
    options: &EngineOptions,
    work: Work,
    length: usize,
    free: Option<&FreeMemory>,
) -> usize {
    if let Some(budget) = options.token_budget {
        return budget;
    }
    let mut tokens = match options.device {
        Device::Cpu => LARGEST_BUDGET_CPU,
        Device::Cuda(_) => LARGEST_BUDGET_CUDA,
    };
    let Some(free) = free else { return tokens };
    let fits = |tokens: usize| {
        let peak = Estimate::new(config, options, work, tokens.max(length), length).peak();
        peak <= HEADROOM * free.bytes as f64
    };
    while tokens > SMALLEST_BUDGET && !fits(tokens) {
        tokens /= 2;
    }
    tokens
}

/// The token budgets of a model that is open, settled once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budgets {
    score: usize,
    train: usize,
    sample: usize,
}

impl Budgets {
    /// `free`: before the weights were loaded.
    pub(crate) fn new(config: &ModelConfig, options: &EngineOptions, free: Option<FreeMemory>) -> Self {
        let of = |work| MemoryPlan::new(config, options, work, None, free.clone()).token_budget;
        Self { score: of(Work::Score), train: of(Work::Train), sample: of(Work::Sample) }
    }

    pub(crate) fn of(self, work: Work) -> usize {
        match work {
            Work::Score => self.score,
            Work::Gradient | Work::Train => self.train,
            Work::Sample => self.sample,
        }
    }
}

/// What could be chosen instead, the least intrusive first.
fn alternatives(options: &EngineOptions, work: Work) -> Vec<(&'static str, EngineOptions)> {
    let mut found = Vec::new();
    let small = EngineOptions {
        token_budget: None,
        generation_batch: 8.min(options.generation_batch),
        ..options.clone()
    };
    match work {
        Work::Score => found.push(("a smaller token budget", small.clone())),
        Work::Sample => found.push(("8 sequences at a time", small.clone())),
        Work::Gradient | Work::Train if options.token_budget.is_some() => {
            found.push(("a smaller token budget", small.clone()))
        }
        Work::Gradient | Work::Train => {}
    }
    let half = EngineOptions { dtype: Dtype::Bf16, ..small.clone() };
    if work != Work::Train {
        if options.dtype == Dtype::F32 {
            found.push(("weights in bf16", half));
        }
        return found;
    }
    let small = EngineOptions { recompute: true, ..small };
    if !options.recompute {
        found.push(("recomputing activations", small.clone()));
    }
    let rms = |options: &EngineOptions| {
        let kind = OptimizerKind::RmsProp;
        let optimizer = OptimizerConfig {
            max_grad_norm: options.optimizer.max_grad_norm,
            ..OptimizerConfig::new(kind, options.optimizer.lr)
        };
        EngineOptions { optimizer, ..options.clone() }
    };
    let half = EngineOptions { dtype: Dtype::Bf16, ..small.clone() };
    let pure = EngineOptions { precision: Precision::Bf16Pure, save_dtype: None, ..half.clone() };
    if options.dtype == Dtype::F32 {
        found.push(("weights in bf16", half.clone()));
    }
    if options.optimizer.kind == OptimizerKind::AdamW {
        found.push(("the optimizer rmsprop", rms(&small)));
        found.push(("weights in bf16 and the optimizer rmsprop", rms(&half)));
    }
    if options.lora.is_none() {
        let lora = Some(LoraConfig::default());
        found.push((
            "LoRA adapters instead of all weights",
            EngineOptions { lora: lora.clone(), ..small.clone() },
        ));
        if options.dtype == Dtype::F32 {
            let options = EngineOptions { lora, ..half.clone() };
            found.push(("LoRA adapters on weights in bf16", options));
        }
    }
    if options.precision == Precision::Exact {
        found.push(("weights and updates in pure bf16, which loses most of small updates", pure.clone()));
    }
    found
}

fn parts(estimate: &Estimate, options: &EngineOptions) -> Vec<MemoryPart> {
    let kept = if options.recompute { "inputs of all layers" } else { "activations of all layers" };
    let all = [
        ("weights", estimate.weights),
        ("exact remainders of the weights", estimate.remainder),
        ("the frozen reference", estimate.reference),
        ("gradients", estimate.gradients),
        ("optimizer state", estimate.optimizer),
        (kept, estimate.kept),
        ("activations within a layer", estimate.layer),
        ("a chunk of logits and the head's gradient", estimate.head),
        ("keys and values", estimate.cache),
        ("LibTorch and the program", estimate.runtime),
    ];
    let used = all.into_iter().filter(|(_, bytes)| *bytes > 0.0);
    used.map(|(name, bytes)| MemoryPart { name, bytes: bytes as u64 }).collect()
}

/// Bytes for readers.
struct Gib(u64);

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.0 as f64 / f64::from(1 << 30);
        if gib < 10.0 { write!(f, "{gib:.2} GiB") } else { write!(f, "{gib:.1} GiB") }
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (work, tokens, length) = (self.work, self.token_budget, self.length);
        writeln!(f, "memory for {work}, {tokens} tokens at once, up to {length} each, on {}", self.device)?;
        for part in &self.parts {
            writeln!(f, "  {:<44}{:>12}", part.name, Gib(part.bytes).to_string())?;
        }
        write!(f, "  {:<44}{:>12}", "at once", Gib(self.peak).to_string())?;
        match &self.free {
            Some(free) => write!(f, "  of {} {}", Gib(free.bytes), free.limit)?,
            None => write!(f, "  (what is free is not known)")?,
        }
        if !self.fits() {
            write!(f, "\n  {}", self.refusal())?;
        }
        Ok(())
    }
}
