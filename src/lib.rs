//! SAMI in Rust: teach a pretrained language model to follow written principles, without preference labels.
//!
//! This crate puts the parts together under one name; each is a crate that can be used alone.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the objective: two-sided InfoNCE loss with closed-form gradient, mutual information, diagnostics |
//! | [`constitution`] | principles and antitheses, constitutions sampled from them, prompt templates |
//! | [`data`] | queries, response filters, pairs on disk, the run directory |
//! | [`policy`] | the traits that a model of yours implements: `Sampler`, `ContrastPolicy`, `TrainablePolicy`, `Judge` |
//! | [`torch`] | those traits on LibTorch, for Hugging Face checkpoints (feature `torch`, on by default) |
//! | [`remote`] | a sampler behind an OpenAI-compatible server |
//! | [`driver`] | Algorithm 1: iterations, stages, resume, metrics |
//! | [`eval`] | win rates with intervals and length correction, mutual information by iteration |
//! | [`sandbox`] | the embedded default |
//!
//! # Run an experiment
//!
//! ```no_run
//! use sami::driver::{Driver, recipe};
//! use sami::torch::TorchProvider;
//!
//! let recipe = recipe::load("recipe.toml".as_ref())?;
//! let provider = TorchProvider::new(&recipe.model.base, sami::engine_options(&recipe))?;
//! let driver = Driver::new(recipe, "run".as_ref(), provider)?;
//! let report = driver.run(&mut (), &mut |finished| {
//!     println!("iteration {} is in {}", finished.iteration, finished.checkpoint.display());
//!     Ok(())
//! })?;
//! println!("{}", report.final_model.display());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Only the objective
//!
//! Whoever has a trainer needs [`core`] alone: see `sami_core`, which depends on no LibTorch.

pub use sami_constitution as constitution;
pub use sami_core as core;
pub use sami_data as data;
pub use sami_driver as driver;
pub use sami_eval as eval;
pub use sami_policy as policy;
pub use sami_remote as remote;
pub use sami_sandbox as sandbox;
#[cfg(feature = "torch")]
mod engine;
#[cfg(feature = "torch")]
pub use engine::engine_options;
#[cfg(feature = "torch")]
pub use sami_torch as torch;

/// The code in the README is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
