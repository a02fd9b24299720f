//! The objective of SAMI (Self-Supervised Alignment with Mutual Information, arXiv 2404.14313): from a matrix of
//! log-probabilities to a loss, its closed-form gradient, and an estimate of the mutual information between constitutions
//! and responses. No framework, no text, no files: whoever has log-probabilities, from candle, burn, LibTorch or a server,
//! has the whole objective.
//!
//! ```
//! use sami_core::{Objective, ndarray::array};
//!
//! // logps[[c, r]] = log π(y_r | x, c): row = constitution, column = response; y_r was sampled under constitution r.
//! let logps = array![[-1.2f32, -1.9], [-2.0, -1.1]];
//! let step = Objective::default().loss_and_grad(logps.view())?;
//! assert!(step.loss < 2f32.ln());                // below chance: they are told apart already
//! assert!(step.grad[[0, 0]] < 0.0);              // a step against the gradient raises the own entry
//! # Ok::<(), sami_core::Error>(())
//! ```
//!
//! Back-propagating Σ G ⊙ L with G = `step.grad` held constant trains the model that L came from. The guide *SAMI in your
//! own training loop* (`docs/objective.md` in the repository) goes from token log-probabilities to that and back.
//!
//! # The loss
//!
//! [`definition`] has it in a hundred lines, as the paper writes it.
//!
//! For C constitutions and R responses, response r sampled under constitution t(r) (r itself where C = R), with weights α
//! and β (½ and ½ by default) of the two terms:
//!
//! ```text
//! rows  = 1/R Σ_r −log softmax over responses of L[t(r), ·]   at r          which response is this constitution's?
//! cols  = 1/R Σ_r −log softmax over constitutions of L[·, r]  at t(r)       which constitution is this response's?
//! loss  = α rows + β cols
//! G     = ∂loss/∂L = 1/R (α R_c softmax_row(L) + β softmax_col(L) − (α + β) [t(r) = c])
//! ```
//!
//! R_c is the number of responses of constitution c. This is Eq. 3 of the paper, whose trainer has α = β = ½ and L the
//! mean over a response's tokens. Both terms are at least 0; on a constant matrix the square loss is ln C. [`Objective`]
//! says which terms, their weights, and the [`Reduction`] that made L; it takes one matrix, a batch [B, C, C], or
//! matrices of any shapes, and can write into buffers of the caller ([`Workspace`]). The loss of several queries is the
//! mean of theirs: a query is one unit.
//!
//! # Mutual information: what each figure is
//!
//! [`mutual_information`] is about *sums* over tokens, the log-probability of whole responses, and in nats
//! ([`MutualInformation::to_bits`] converts). [`MiAccumulator`] gives means and standard errors over queries. Each figure is
//! at most `cap` = ln C, whatever the true information; no estimate above ln C is in nats, and from C constitutions.
//!
//! - `constitutions` = ln C − cols bounds I(Y; C | X) from below in expectation, for any critic L, right or wrong, and for
//!   constitutions drawn as a subset without replacement. It is **unbiased** when the C constitutions are the whole
//!   population, and L is the log-probability that the responses were really drawn with: temperature 1, no top-p or top-k, no
//!   filter, no edit of the text, the end of the response scored, and the same prompt for sampling and scoring. Every
//!   departure makes it a lower bound (of the information in what was scored). During training, L from the model in training
//!   on pairs of its predecessor bounds the predecessor's information.
//! - `responses` = ln R − rows needs constitutions drawn independently, with replacement, to bound anything. With distinct ones it
//!   may exceed the truth: two constitutions with P(y) = (.9, .1) and (.1, .9) have .368 nats of information, and a figure
//!   of .460. In practice it errs the other way: with sums, the responses' own entropy swamps it (−2.4 nats where the truth
//!   was .1).
//! - `two_sided` is the mean of the two, as in the paper's loss; it inherits the row figure's faults.
//!
//! High information does not mean good text: it stays high while text collapses. Show a quality figure and the KL to the
//! base beside it.
//!
//! # KL to a reference
//!
//! [`kl_penalty`] estimates it from sampled tokens and gives gradient weights; [`KlEstimator`] says what each of k1, k2 and k3 is
//! as a figure and as a loss.
//!
//! # What may stand in a matrix
//!
//! −∞ off the own entries (a response that another constitution rules out); any finite number. NaN, +∞, and −∞ where a response
//! meets its own constitution are errors that name row and column. Nothing panics. A loss beyond the type's range is +∞.
//!
//! # Precision
//!
//! `f64` agrees with the definition to about 1e-13 at mean log-probabilities. `f32` results are those of `f64` on the same
//! inputs within these bounds, with ε = 2⁻²³ and w = α + β:
//!
//! - loss: ε (8 w + loss);
//! - each entry of G: 24 ε times the larger of its own size and w / R.
//!
//! Sums over queries and logarithms of large matrices are made in `f64`. The exponential of `f32` is that of `rten-vecmath`
//! (at most 1 ulp from the standard library's), on AVX-512, AVX2, NEON or WebAssembly SIMD where the processor has it; `f64`
//! uses the standard library's. Results are the same bits for every number of threads, for a query alone or in a batch, and
//! in whatever company; they differ by rounding between instruction sets.
//!
//! # Features
//!
//! - `rayon` (default): batches, and matrices from 2¹⁷ entries on, over all cores.
//! - `serde`: settings (checked when read), results and accumulators in files.

#![forbid(unsafe_code)]

mod accumulator;
mod batch;
mod contrast;
pub mod definition;
mod diagnostics;
mod element;
mod error;
mod information;
mod kernel;
mod kl;
mod objective;
mod par;
mod reduction;

pub use accumulator::{Estimate, MiAccumulator, MiEstimate};
pub use batch::{BatchLoss, BatchLossAndGrad, RaggedLossAndGrad};
pub use contrast::{Contrast, Workspace};
pub use diagnostics::{Diagnostics, diagnostics, diagnostics_with_targets};
pub use element::Element;
pub use error::Error;
pub use information::{
    MutualInformation, MutualInformationBits, mutual_information, mutual_information_with_targets,
};
pub use kl::{KlEstimator, KlPenalty, kl_penalty};
pub use ndarray;
pub use objective::{LossAndGrad, Objective, ObjectiveBuilder, Side, TermWeights};
pub use reduction::Reduction;

/// The code in the guide and the README is tested.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/objective.md")]
#[doc = include_str!("../README.md")]
struct Guide;
