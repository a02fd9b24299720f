//! The seams of SAMI: traits only, no model.
//!
//! SAMI needs three things of a language model: text for a prompt ([`Sampler`]), log-probabilities of given
//! responses under given prompts ([`ContrastPolicy`]) and updates from a gradient in those log-probabilities
//! ([`TrainablePolicy`]). Evaluation needs a fourth: somebody who says which of two responses follows a
//! constitution better ([`Judge`]). A model that was taught a chat format answers conversations too ([`ChatSampler`]). Whoever has a model in candle, in burn or behind a server embeds SAMI by
//! implementing these; `sami-torch` is the implementation on LibTorch.
//!
//! # Why a crate of its own
//!
//! The driver of Algorithm 1 must not know a tensor library, and an implementer must not need the driver. What they
//! share is here and nothing else: plain text and token ids go in, `ndarray` matrices in nats come out. The objective
//! stays in [`sami_core`]: a policy is never told which loss it is trained on, only ∂loss/∂log-probabilities.
//!
//! # Shapes
//!
//! A [`ContrastSet`] holds C prompts (one per constitution) and R responses. [`SetLogps`] is its C × R matrix:
//! row = constitution, column = response, entries Σ_t log π(y_t | y_<t, x, c) in nats, with the number of counted
//! tokens beside each. R = C in the paper; R = m·C for m responses per constitution.

mod chat;
mod contrast;
pub mod fake;
mod judge;
mod sampler;
mod verdict;

pub use chat::{ChatMessage, ChatRequest, ChatSampler, Role};
pub use contrast::{
    ContrastPolicy, ContrastResponse, ContrastSet, ContrastSetError, GradientOf, PolicyProvider, SetGradient,
    SetLogps, Start, TrainablePolicy, UpdateReport,
};
pub use judge::{Comparison, Judge, Verdict};
pub use sampler::{
    FinishReason, Refusal, RefusalCause, Sample, SampleRequest, Sampler, SamplingParams,
    SamplingParamsBuilder, SamplingParamsError, StreamKey,
};
