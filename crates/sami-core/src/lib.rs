//! The SAMI objective (arXiv 2404.14313): from a matrix of log-probabilities to a loss, its closed-form gradient and
//! an estimate of the mutual information between constitutions and responses.
//!
//! `logps[[c, r]]` is log π(y_r | x, c) in nats: row = constitution, column = response.

mod accumulator;
mod batch;
mod contrast;
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
