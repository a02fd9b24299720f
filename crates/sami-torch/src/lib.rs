//! The LibTorch causal language model of SAMI.
//!
//! [`TorchPolicy`] opens a Hugging Face directory (Mistral, Mixtral, Llama, Qwen2 and Qwen3 shapes), samples responses, scores
//! contrast sets and trains on them. It implements the seams of [`sami_policy`]; [`TorchProvider`] opens such policies for
//! the driver. This is the only crate of the workspace that names LibTorch's bindings.
//!
//! # How it computes
//!
//! - A row of a contrast set (one prompt, R responses) is one packed sequence: the prompt once, then each response attending to
//!   the prompt and to itself. C²·(P + R) tokens become C·P + C²·R. Attention runs on segments of like length, padded to blocks.
//! - Prompts that begin alike go through the layers once for what they share, while generating too.
//! - The language-model head runs on response positions only, in chunks, its gradient in closed form; so is that of the KL to a frozen
//!   reference, exact over the vocabulary.
//! - The backward pass goes layer by layer: a layer's input is kept, its activations are computed again (or kept, by option).
//! - On a processor each thread takes its share of the rows through whole layers, rather than all threads one operation at a time.
//!   Mixtures of experts compute the chosen experts only, and keep the choice of the first pass.
//! - Sets too large for one pass are scored first and back-propagated in pieces; the numbers stay the same.
//! - With bf16 weights the exact f32 weight is kept as bf16 plus a 16-bit remainder, so small updates are not lost. A processor without
//!   bf16 units widens them while they are used.
//! - With [`LoraConfig`] the weights stay frozen, and are the KL's reference at no cost; adapters are PEFT's.
//! - [`TorchPolicy::lm_step`] takes plain text through the same layers: pretraining, fine-tuning.
//!
//! Log-probabilities are in nats. Matrices are `[constitution][response]`.
//!
//! ```no_run
//! use sami_policy::{ContrastPolicy, ContrastResponse, ContrastSet};
//! use sami_torch::{EngineOptions, TorchPolicy};
//!
//! let mut policy = TorchPolicy::open("checkpoint".as_ref(), &EngineOptions::default())?;
//! let response = |text: &str, constitution| ContrastResponse { text: text.into(), token_ids: None, constitution };
//! let set = ContrastSet::new(
//!     "q1",
//!     vec!["Be brief. Hello! Assistant:".into(), "Be verbose. Hello! Assistant:".into()],
//!     vec![response(" Hi.", 0), response(" A very good day to you.", 1)],
//! )?;
//! println!("{}", policy.score(&[set])?[0].sum_logps);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chat;
mod checkpoint;
mod config;
mod contrast;
mod crew;
mod device;
mod error;
mod generate;
mod gradients;
mod group;
mod head;
mod inspect;
mod json;
mod language;
mod lora;
mod model;
mod optimizer;
mod options;
mod packing;
mod pass;
mod plan;
mod policy;
mod prompt;
mod random;
mod remarks;
mod sampling;
mod sys;
mod tokenizer;

pub use chat::{ChatError, ChatTemplate};
pub use checkpoint::WeightsError;
pub use config::{ConfigError, Family, MixtureConfig, ModelConfig, RopeScaling};
pub use device::{Environment, environment, set_threads};
pub use error::Error;
pub use inspect::{AdapterSummary, CheckpointSummary, inspect};
pub use language::{LmExample, LmLoss};
pub use lora::{AdapterError, Adapters, LoraConfig, Projection};
pub use options::{Device, Dtype, EngineOptions, OptimizerConfig, OptimizerKind, Precision, UnknownName};
pub use plan::{
    FreeMemory, MemoryChoice, MemoryLimit, MemoryPart, MemoryPlan, Work, free_memory, plan_memory,
};
pub use policy::{TorchPolicy, TorchProvider};
pub use prompt::PromptFormat;
pub use random::{RandomCheckpoint, random_checkpoint};
pub use tokenizer::{StopToken, Tokenizer};
