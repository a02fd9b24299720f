//! What a recipe says about Algorithm 1 and its optimizer.

use serde::{Deserialize, Serialize};

use super::sections::Dtype;

/// `[training]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSection {
    /// N: iterations of Algorithm 1. Default 3 (Table 1).
    pub iterations: usize,
    /// Queries per optimizer step. Default 128 (Table 1).
    pub batch_size: usize,
    /// N_b: batches, and so optimizer steps, of the first iteration. Default 2 (Table 1).
    pub batches: usize,
    /// Batches that each later iteration adds. Default: N_b (Table 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches_increment: Option<usize>,
    /// Which weights each iteration starts from. Default `base` (Algorithm 1).
    pub start: StartFrom,
    /// Default 5e-7 (Table 1).
    pub learning_rate: f64,
    /// How the learning rate changes within an iteration. Default `constant` (the paper's code).
    pub schedule: Schedule,
    /// Steps at the beginning of an iteration in which the learning rate grows to its full value: step k of w takes k/w of
    /// it. Default 0.
    pub warmup_steps: usize,
    /// β: coefficient of the KL to the base on the responses, in nats per token, added to the loss. Default 0: no such term
    /// (the paper's code). Above 0, the base's weights stay in memory beside the trained ones.
    pub beta: f64,
    /// Measure that KL at every step even where β is 0; costs the same memory. Default false.
    pub measure_kl: bool,
    /// Default `adamw` (Table 1).
    pub optimizer: OptimizerName,
    /// Default: PyTorch's, 0.01 for AdamW and 0 for RMSprop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Leave vectors (norms, biases) without weight decay. Default false: PyTorch decays all that it is given.
    pub decay_matrices_only: bool,
    /// AdamW's two decay rates. Default: PyTorch's (0.9, 0.999).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// RMSprop's decay rate. Default: PyTorch's 0.99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Added to the denominator. Default: PyTorch's 1e-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Clips the global norm of the gradient. Default: no clipping (the paper's code).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_grad_norm: Option<f64>,
    /// `[training.lora]`: train low-rank adapters, and leave the weights as they are. Default: all weights are trained, as in
    /// the paper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSection>,
    /// How an update is added to bf16 weights. Default `exact`; the paper's code does `bf16-pure`.
    pub updates: Updates,
    /// Numbers of the saved checkpoints. Default f32: bf16 files lose most of an update at small learning rates.
    pub save_dtype: Dtype,
    /// Compute each layer again in the backward pass instead of keeping its activations: less memory, a third more
    /// arithmetic, the same numbers. Default true; the paper used it for mixtral-8x7b (Table 1).
    pub recompute: bool,
    /// Queries that are in the model at once; changes memory and speed, and the result by rounding only. Default:
    /// the whole batch is handed to the model, which divides it as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Weights and optimizer state are kept after every so many steps, so that an interrupted run loses no more than
    /// these; 0 keeps none, and an interrupted iteration trains again from its start. Default 1.
    pub save_state_every: usize,
}

/// `[training.lora]`: y = x Wᵀ + α/r · (x Aᵀ) Bᵀ, with A and B trained (arXiv 2106.09685). A's beginning follows from the
/// recipe's seed; B begins at zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSection {
    /// r. Default 8.
    pub rank: usize,
    /// α. Default 8.
    pub alpha: f64,
    /// Which linear maps of every layer get one, by their Hugging Face names. Default q_proj and v_proj.
    pub targets: Vec<LoraTarget>,
    /// Share of what an adapter reads that is dropped at random in training, at least 0 and below 1. What is dropped follows from
    /// the recipe's seed. Default 0.
    pub dropout: f64,
}

impl Default for LoraSection {
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, targets: vec![LoraTarget::QProj, LoraTarget::VProj], dropout: 0.0 }
    }
}

/// A linear map of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraTarget {
    /// Queries of attention.
    QProj,
    /// Keys of attention.
    KProj,
    /// Values of attention.
    VProj,
    /// Output of attention.
    OProj,
    /// Gate of the feed-forward part.
    GateProj,
    /// Up-projection of the feed-forward part.
    UpProj,
    /// Down-projection of the feed-forward part.
    DownProj,
}

impl Default for TrainingSection {
    fn default() -> Self {
        Self {
            iterations: 3,
            batch_size: 128,
            batches: 2,
            batches_increment: None,
            start: StartFrom::Base,
            learning_rate: 5e-7,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            beta: 0.0,
            measure_kl: false,
            optimizer: OptimizerName::AdamW,
            weight_decay: None,
            decay_matrices_only: false,
            betas: None,
            alpha: None,
            eps: None,
            max_grad_norm: None,
            lora: None,
            updates: Updates::Exact,
            save_dtype: Dtype::F32,
            recompute: true,
            micro_batch: None,
            save_state_every: 1,
        }
    }
}

impl TrainingSection {
    /// B of iteration η (from 1): N_b + (η − 1) · increment optimizer steps.
    pub fn steps(&self, iteration: usize) -> usize {
        let increment = self.batches_increment.unwrap_or(self.batches);
        increment.saturating_mul(iteration.saturating_sub(1)).saturating_add(self.batches)
    }

    /// How the learning rate changes within an iteration.
    pub fn lr_schedule(&self) -> LrSchedule {
        LrSchedule { shape: self.schedule, warmup_steps: self.warmup_steps }
    }

    /// Queries that iteration η (from 1) trains on: one batch per step.
    pub fn queries(&self, iteration: usize) -> usize {
        self.steps(iteration).saturating_mul(self.batch_size)
    }
}

/// Which weights an iteration starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartFrom {
    /// π_BASE, as in Algorithm 1.
    #[default]
    Base,
    /// π_{η−1}. Then every iteration needs queries that no earlier one used.
    Previous,
}

/// An optimizer by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay.
    #[default]
    AdamW,
    /// RMSprop (the paper's choice for mixtral-8x7b).
    RmsProp,
}

/// How an update is added to bf16 weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Updates {
    /// Nothing is rounded away.
    #[default]
    Exact,
    /// The sum is rounded to bf16; at a learning rate of 5e-7 about 99% of an update is lost. For parity only.
    Bf16Pure,
}

/// How the learning rate changes within an iteration, after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls in a line, so that the step after the last one would have none.
    Linear,
}

/// A schedule with its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LrSchedule {
    /// After the warm-up.
    pub shape: Schedule,
    /// Steps in which the learning rate grows.
    pub warmup_steps: usize,
}

impl LrSchedule {
    /// What step `step` (from 0) of `steps` multiplies the learning rate by: in (0, 1].
    pub fn factor(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.shape {
            Schedule::Constant => 1.0,
            Schedule::Linear => {
                let left = steps.saturating_sub(step).max(1) as f64;
                left / steps.saturating_sub(self.warmup_steps).max(1) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_and_falls_as_said() {
        let mut training = TrainingSection::default();
        let factors = |training: &TrainingSection| -> Vec<f64> {
            (0..6).map(|step| training.lr_schedule().factor(step, 6)).collect()
        };
        assert_eq!(factors(&training), [1.0; 6]);
        training.warmup_steps = 2;
        assert_eq!(factors(&training), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        training.schedule = Schedule::Linear;
        assert_eq!(factors(&training), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        training.warmup_steps = 0;
        assert_eq!(factors(&training), [6.0, 5.0, 4.0, 3.0, 2.0, 1.0].map(|left| left / 6.0));
    }
}
