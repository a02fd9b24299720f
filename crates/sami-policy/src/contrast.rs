//! Contrast sets, and what a policy does with them.

use std::path::Path;

use ndarray::Array2;
use sami_core::Reduction;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Refusal;

/// A response y inside a [`ContrastSet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContrastResponse {
    /// The text that follows the prompt, as it was sampled or edited (leading space included).
    pub text: String,
    /// The sampled token ids, present only while the text is exactly what the policy sampled: then they are scored
    /// after the prompt's own tokens. Without them prompt + text is tokenised jointly.
    pub token_ids: Option<Vec<u32>>,
    /// The row (constitution) that this response was sampled under: its target in the contrast.
    pub constitution: usize,
}

/// One query's contrast: C prompts, one per constitution, and R responses.
///
/// Valid by construction: at least one prompt and one response, no empty prompt or response, and every response's
/// constitution is one of the prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContrastSet {
    id: String,
    prompts: Vec<String>,
    responses: Vec<ContrastResponse>,
}

/// What is wrong with a contrast set.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ContrastSetError {
    /// No prompt, or no response.
    #[error("contrast set {id}: {prompts} prompts and {responses} responses; both must be at least 1")]
    Empty {
        /// The set's id.
        id: String,
        /// Number of prompts given.
        prompts: usize,
        /// Number of responses given.
        responses: usize,
    },
    /// A prompt without text.
    #[error("contrast set {id}: prompt {index} is empty")]
    EmptyPrompt {
        /// The set's id.
        id: String,
        /// The row.
        index: usize,
    },
    /// A response without text or without tokens.
    #[error("contrast set {id}: response {index} is empty; drop the set, there is nothing to score")]
    EmptyResponse {
        /// The set's id.
        id: String,
        /// The column.
        index: usize,
    },
    /// A response that belongs to no prompt of the set.
    #[error(
        "contrast set {id}: response {index} belongs to constitution {constitution}, but there are {prompts}"
    )]
    UnknownConstitution {
        /// The set's id.
        id: String,
        /// The column.
        index: usize,
        /// The row it names.
        constitution: usize,
        /// How many rows there are.
        prompts: usize,
    },
}

impl ContrastSet {
    /// Checks and builds a set. `id` names the query in messages and result files.
    pub fn new(
        id: impl Into<String>,
        prompts: Vec<String>,
        responses: Vec<ContrastResponse>,
    ) -> Result<Self, ContrastSetError> {
        let id = id.into();
        if prompts.is_empty() || responses.is_empty() {
            return Err(ContrastSetError::Empty { id, prompts: prompts.len(), responses: responses.len() });
        }
        if let Some(index) = prompts.iter().position(String::is_empty) {
            return Err(ContrastSetError::EmptyPrompt { id, index });
        }
        for (index, response) in responses.iter().enumerate() {
            if response.text.is_empty() && response.token_ids.is_none()
                || response.token_ids.as_ref().is_some_and(Vec::is_empty)
            {
                return Err(ContrastSetError::EmptyResponse { id, index });
            }
            if response.constitution >= prompts.len() {
                let (constitution, prompts) = (response.constitution, prompts.len());
                return Err(ContrastSetError::UnknownConstitution { id, index, constitution, prompts });
            }
        }
        Ok(Self { id, prompts, responses })
    }

    /// The query's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The C training prompts: template(constitution c, query).
    pub fn prompts(&self) -> &[String] {
        &self.prompts
    }

    /// The R responses.
    pub fn responses(&self) -> &[ContrastResponse] {
        &self.responses
    }

    /// Each response's own constitution: the targets of the contrast over constitutions.
    pub fn targets(&self) -> Vec<usize> {
        self.responses.iter().map(|response| response.constitution).collect()
    }
}

/// The log-probabilities of one [`ContrastSet`], C × R.
#[derive(Clone, Debug, PartialEq)]
pub struct SetLogps {
    /// Σ_t log π(y_t | y_<t, x, c) over the response's tokens, in nats: row = constitution, column = response.
    pub sum_logps: Array2<f64>,
    /// Number of tokens in each sum. Joint tokenisation may merge differently after different prompts, so it is kept
    /// for every entry.
    pub tokens: Array2<usize>,
    /// KL(π ‖ reference), exact over the vocabulary, in nats per token: mean over the tokens of each response under its own
    /// constitution, then over responses. Only [`ContrastPolicy::contrast_step`] fills it in, and only where the policy keeps
    /// a frozen reference.
    pub kl: Option<f64>,
}

impl SetLogps {
    /// The matrix L[c, r] that the objective sees: each sum times [`Reduction::weight`] of its token count.
    pub fn reduce(&self, reduction: Reduction) -> Array2<f64> {
        let mut logps = self.sum_logps.clone();
        logps.zip_mut_with(&self.tokens, |sum, &tokens| *sum *= reduction.weight(tokens));
        logps
    }

    /// Chain rule of [`SetLogps::reduce`]: from ∂loss/∂L to ∂loss/∂sum_logps.
    pub fn gradient_in_sums(&self, reduction: Reduction, mut grad: Array2<f64>) -> Array2<f64> {
        grad.zip_mut_with(&self.tokens, |g, &tokens| *g *= reduction.weight(tokens));
        grad
    }
}

/// What a set contributes to the loss, differentiated: the gradient that a policy back-propagates.
#[derive(Clone, Debug, PartialEq)]
pub struct SetGradient {
    /// ∂loss/∂sum_logps, C × R.
    pub sum_logps: Array2<f64>,
    /// ∂loss/∂kl: the coefficient β over the number of queries in the batch; 0 for no KL term.
    pub kl: f64,
}

impl From<Array2<f64>> for SetGradient {
    /// A loss without a KL term.
    fn from(sum_logps: Array2<f64>) -> Self {
        Self { sum_logps, kl: 0.0 }
    }
}

/// Answers for set `index` of the slice given to [`ContrastPolicy::contrast_step`] and its log-probabilities.
pub type GradientOf<'a> = dyn FnMut(usize, &SetLogps) -> Result<SetGradient, sami_core::Error> + 'a;

/// A model that scores contrast sets and can be trained on them.
pub trait ContrastPolicy {
    /// What can go wrong in the implementation. A failing gradient closure is handed through it.
    type Error: std::error::Error + Send + Sync + From<sami_core::Error> + 'static;

    /// The log-probabilities of every set, in order, without touching gradients.
    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, Self::Error>;

    /// Why this set cannot be scored or trained on, where it cannot: a prompt with a response is too long,
    /// or holds a token that the model does not know. Computes nothing with the model. By default every
    /// set can.
    ///
    /// # Errors
    ///
    /// What concerns all sets.
    fn refusal(&self, _set: &ContrastSet) -> Result<Option<Refusal>, Self::Error> {
        Ok(None)
    }

    /// Scores every set and adds the gradient of Σ G ⊙ sum_logps + κ·kl, with (G, κ) = `gradient(index, logps)` held constant,
    /// to what has been accumulated since the last update. Returns the log-probabilities, in order.
    ///
    /// Whether activations are kept between the two or computed again, and how sets are grouped, is the
    /// implementer's business and changes nothing beyond rounding. `gradient` is called exactly once per set.
    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, Self::Error>;
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Global L2 norm of the gradient, before any clipping.
    pub grad_norm: f64,
    /// Global L2 norm of the update that the optimizer asked for.
    pub update_norm: f64,
    /// How much of it the weights of the forward pass really took: ⟨moved, asked⟩ / ‖asked‖². 1 when nothing is lost to
    /// rounding; a few hundredths for pure bf16 at a learning rate of 5e-7. With exact updates on bf16 weights it swings
    /// around 1 from step to step, for a weight moves by whole bf16 steps.
    pub update_kept: f64,
    /// Share of the forward weights that changed at all.
    pub fraction_changed: f64,
}

/// A [`ContrastPolicy`] with an optimizer, and a way onto disk.
pub trait TrainablePolicy: ContrastPolicy {
    /// One optimizer step with the accumulated gradient, which is then zero again, at `lr_factor` times the configured learning
    /// rate: what a schedule says of this step, 1 without one.
    fn optimizer_step(&mut self, lr_factor: f64) -> Result<UpdateReport, Self::Error>;

    /// Writes the trained model to `dir` so that [`PolicyProvider`] (and, for `sami-torch`, Hugging Face tools) can open
    /// it. `dir` appears whole or not at all.
    fn save(&self, dir: &Path) -> Result<(), Self::Error>;

    /// Writes what [`TrainablePolicy::load_state`] needs to go on as if nothing had happened: weights at full
    /// precision and optimizer state. `dir` appears whole or not at all.
    fn save_state(&self, dir: &Path) -> Result<(), Self::Error>;

    /// Goes on from [`TrainablePolicy::save_state`].
    fn load_state(&mut self, dir: &Path) -> Result<(), Self::Error>;
}

/// Which weights to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// The pretrained base, π_BASE.
    Base,
    /// A checkpoint that [`TrainablePolicy::save`] wrote.
    Checkpoint(&'a Path),
}

/// Opens policies for the driver, which needs at most one at a time in memory.
pub trait PolicyProvider {
    /// Samples responses.
    type Sampler: crate::Sampler;
    /// Scores and trains.
    type Policy: TrainablePolicy;

    /// A sampler on the given weights.
    fn sampler(&self, start: Start<'_>) -> Result<Self::Sampler, <Self::Sampler as crate::Sampler>::Error>;

    /// A fresh trainable policy on the given weights, with a fresh optimizer.
    fn policy(&self, start: Start<'_>) -> Result<Self::Policy, <Self::Policy as ContrastPolicy>::Error>;
}
