//! A policy without a network, for tests of whatever is built on the seams.
//!
//! [`FakePolicy`] is a log-linear model over a few words: the next word's logits are a row of a bigram table plus one
//! table row for every word of the prompt (hashed into buckets),
//!
//! ```text
//! logits(v | previous u, prompt) = B[u, v] + Σ_f φ_f(prompt) W[f, v],   φ = word counts / √(number of words).
//! ```
//!
//! It is small enough to run thousands of steps in a second, its gradient is exact, and its responses depend weakly on
//! the prompt's words at first, as a base model's do: everything that Algorithm 1 needs. All arithmetic is f64 in a
//! fixed order, so equal inputs give equal bytes.

mod draws;
mod error;
mod files;
mod words;

use std::path::{Path, PathBuf};

use ndarray::Array2;

pub use error::FakeError;
pub use words::WORDS;

use crate::{
    ContrastPolicy, ContrastSet, FinishReason, GradientOf, PolicyProvider, Refusal, Sample, SampleRequest,
    Sampler, SamplingParams, SetGradient, SetLogps, Start, StreamKey, TrainablePolicy, UpdateReport,
};
use draws::{Stream, choose};
use files::{read_values, write_values};
use words::{EOS, Logits, ROWS, VOCABULARY, features, tokenize_responses};

const WEIGHTS_FILE: &str = "fake-policy.bin";
const STATE_FILE: &str = "fake-state.bin";

/// How a [`FakePolicy`] moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FakeOptimizer {
    /// θ ← θ − lr · g.
    Sgd {
        /// The step size.
        lr: f64,
    },
    /// Adam with betas (.9, .999), eps 1e-8, without decay.
    Adam {
        /// The step size.
        lr: f64,
    },
}

/// The log-linear policy. Its weights are one table: the bigram rows, then the rows of the prompt's word buckets.
#[derive(Clone, Debug)]
pub struct FakePolicy {
    optimizer: FakeOptimizer,
    weights: Array2<f64>,
    grad: Array2<f64>,
    first_moment: Array2<f64>,
    second_moment: Array2<f64>,
    steps: u64,
}

impl FakePolicy {
    /// Small random weights: each bigram weight uniform in ±1, each prompt weight in ±`wiring`. `wiring` says how
    /// strongly the responses depend on the prompt's words before training (0: not at all).
    pub fn random(seed: u64, wiring: f64, optimizer: FakeOptimizer) -> Self {
        let mut stream = Stream::new(StreamKey::new(seed, 0, 0, 0));
        let weights = Array2::from_shape_fn((ROWS, VOCABULARY), |(row, _)| {
            (2.0 * stream.uniform() - 1.0) * if row < VOCABULARY { 1.0 } else { wiring }
        });
        Self::with_weights(weights, optimizer)
    }

    /// Opens what [`TrainablePolicy::save`] wrote, with a fresh optimizer.
    pub fn open(dir: &Path, optimizer: FakeOptimizer) -> Result<Self, FakeError> {
        let values = read_values(&dir.join(WEIGHTS_FILE), ROWS * VOCABULARY)?;
        let mut values = values.into_iter();
        Ok(Self::with_weights(next_table(&mut values), optimizer))
    }

    fn with_weights(weights: Array2<f64>, optimizer: FakeOptimizer) -> Self {
        let zeros = Array2::zeros((ROWS, VOCABULARY));
        Self {
            optimizer,
            weights,
            grad: zeros.clone(),
            first_moment: zeros.clone(),
            second_moment: zeros,
            steps: 0,
        }
    }

    /// The weights, (25 + 64) × 25.
    pub fn weights(&self) -> &Array2<f64> {
        &self.weights
    }

    /// The gradient accumulated since the last optimizer step, in the weights' shape.
    pub fn accumulated_gradient(&self) -> &Array2<f64> {
        &self.grad
    }

    fn row(&self, row: usize) -> &[f64] {
        let first = row * VOCABULARY;
        self.weights.as_slice().map_or(&[], |weights| &weights[first..first + VOCABULARY])
    }

    fn prompt_logits(&self, features: &[(usize, f64)]) -> Logits {
        let mut logits = [0.0; VOCABULARY];
        for &(row, value) in features {
            for (logit, weight) in logits.iter_mut().zip(self.row(row)) {
                *logit += value * weight;
            }
        }
        logits
    }

    /// log softmax of the next word.
    fn log_softmax(&self, previous: usize, prompt: &Logits) -> Logits {
        let mut logits = *prompt;
        let mut max = f64::NEG_INFINITY;
        for (logit, weight) in logits.iter_mut().zip(self.row(previous)) {
            *logit += weight;
            max = max.max(*logit);
        }
        let norm = max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln();
        logits.map(|logit| logit - norm)
    }

    fn response_logp(&self, features: &[(usize, f64)], tokens: &[usize]) -> f64 {
        let prompt = self.prompt_logits(features);
        let mut previous = EOS;
        let mut sum = 0.0;
        for &token in tokens {
            sum += self.log_softmax(previous, &prompt)[token];
            previous = token;
        }
        sum
    }

    /// Adds `scale` · ∂(sum of log-probabilities)/∂θ: one-hot minus softmax for each row that took part.
    fn accumulate(&mut self, features: &[(usize, f64)], tokens: &[usize], scale: f64) {
        let prompt = self.prompt_logits(features);
        let mut previous = EOS;
        // The prompt's rows see every token alike, so their part is added up first.
        let mut total = [0.0; VOCABULARY];
        for &token in tokens {
            let mut delta = self.log_softmax(previous, &prompt).map(|logp| -logp.exp() * scale);
            delta[token] += scale;
            add(&mut self.grad, previous, 1.0, &delta);
            for (sum, delta) in total.iter_mut().zip(delta) {
                *sum += delta;
            }
            previous = token;
        }
        for &(row, value) in features {
            add(&mut self.grad, row, value, &total);
        }
    }

    fn score_set(&self, set: &ContrastSet) -> Result<SetLogps, FakeError> {
        let responses = tokenize_responses(set)?;
        let shape = (set.prompts().len(), responses.len());
        let features: Vec<_> = set.prompts().iter().map(|prompt| features(prompt)).collect();
        Ok(SetLogps {
            sum_logps: Array2::from_shape_fn(shape, |(c, r)| self.response_logp(&features[c], &responses[r])),
            tokens: Array2::from_shape_fn(shape, |(_, r)| responses[r].len()),
            kl: None,
        })
    }

    fn sample_one(&self, request: &SampleRequest, params: &SamplingParams) -> Sample {
        let prompt = self.prompt_logits(&features(&request.prompt));
        let mut stream = Stream::new(request.stream);
        let (mut text, mut ids, mut logps) = (String::new(), Vec::new(), Vec::new());
        let mut previous = EOS;
        let mut finish = FinishReason::Length;
        while ids.len() < params.max_new_tokens {
            let logp = self.log_softmax(previous, &prompt);
            let token = choose(&logp, params, stream.uniform());
            ids.push(token as u32);
            logps.push(logp[token] as f32);
            if token == EOS {
                finish = FinishReason::Eos;
                break;
            }
            text.push(' ');
            text.push_str(WORDS[token - 1]);
            if let Some(cut) = params.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
                text.truncate(cut);
                let logps = params.logps.then_some(logps);
                return Sample { text, token_ids: None, logps, finish: FinishReason::Stop };
            }
            previous = token;
        }
        Sample { text, token_ids: Some(ids), logps: params.logps.then_some(logps), finish }
    }
}

impl Sampler for FakePolicy {
    type Error = FakeError;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, FakeError> {
        Ok(requests.iter().map(|request| Ok(self.sample_one(request, params))).collect())
    }
}

impl ContrastPolicy for FakePolicy {
    type Error = FakeError;

    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, FakeError> {
        sets.iter().map(|set| self.score_set(set)).collect()
    }

    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, FakeError> {
        let logps = self.score(sets)?;
        for (index, (set, logps)) in sets.iter().zip(&logps).enumerate() {
            let SetGradient { sum_logps: g, kl } = gradient(index, logps)?;
            if kl != 0.0 {
                return Err(FakeError::NoReference);
            }
            if g.dim() != logps.sum_logps.dim() {
                let (got, expected) = (g.dim(), logps.sum_logps.dim());
                return Err(FakeError::GradientShape { id: set.id().to_owned(), got, expected });
            }
            let responses = tokenize_responses(set)?;
            for (c, prompt) in set.prompts().iter().enumerate() {
                let features = features(prompt);
                for (r, tokens) in responses.iter().enumerate() {
                    self.accumulate(&features, tokens, g[[c, r]]);
                }
            }
        }
        Ok(logps)
    }
}

impl TrainablePolicy for FakePolicy {
    fn optimizer_step(&mut self, lr_factor: f64) -> Result<UpdateReport, FakeError> {
        self.steps += 1;
        let update = match self.optimizer {
            FakeOptimizer::Sgd { lr } => self.grad.mapv(|g| -lr * lr_factor * g),
            FakeOptimizer::Adam { lr } => {
                let t = self.steps as f64;
                self.first_moment.zip_mut_with(&self.grad, |m, &g| *m = 0.9 * *m + 0.1 * g);
                self.second_moment.zip_mut_with(&self.grad, |v, &g| *v = 0.999 * *v + 0.001 * g * g);
                let (c1, c2) = (1.0 - 0.9_f64.powf(t), 1.0 - 0.999_f64.powf(t));
                let mut update = self.first_moment.clone();
                update.zip_mut_with(&self.second_moment, |m, &v| {
                    *m = -lr * lr_factor * (*m / c1) / ((v / c2).sqrt() + 1e-8);
                });
                update
            }
        };
        let (mut changed, mut kept) = (0, 0.0);
        for (weight, step) in self.weights.iter_mut().zip(&update) {
            let before = *weight;
            *weight += step;
            changed += usize::from(*weight != before);
            kept += (*weight - before).powi(2);
        }
        let kept = kept.sqrt();
        let report = UpdateReport {
            grad_norm: norm(&self.grad),
            update_norm: norm(&update),
            update_kept: if norm(&update) > 0.0 { kept / norm(&update) } else { 1.0 },
            fraction_changed: changed as f64 / self.weights.len() as f64,
        };
        self.grad.fill(0.0);
        Ok(report)
    }

    fn save(&self, dir: &Path) -> Result<(), FakeError> {
        write_values(dir, WEIGHTS_FILE, self.weights.iter().copied())
    }

    fn save_state(&self, dir: &Path) -> Result<(), FakeError> {
        let moments = self.first_moment.iter().chain(&self.second_moment);
        let values = self.weights.iter().chain(moments).copied();
        write_values(dir, STATE_FILE, values.chain([self.steps as f64]))
    }

    fn load_state(&mut self, dir: &Path) -> Result<(), FakeError> {
        let mut values = read_values(&dir.join(STATE_FILE), 3 * ROWS * VOCABULARY + 1)?.into_iter();
        self.weights = next_table(&mut values);
        self.first_moment = next_table(&mut values);
        self.second_moment = next_table(&mut values);
        self.steps = values.next().unwrap_or_default() as u64;
        self.grad.fill(0.0);
        Ok(())
    }
}

/// Opens [`FakePolicy`]s from directories.
#[derive(Clone, Debug)]
pub struct FakeProvider {
    base: PathBuf,
    optimizer: FakeOptimizer,
}

impl FakeProvider {
    /// π_BASE is the policy saved in `base`.
    pub fn new(base: impl Into<PathBuf>, optimizer: FakeOptimizer) -> Self {
        Self { base: base.into(), optimizer }
    }

    fn open(&self, start: Start<'_>) -> Result<FakePolicy, FakeError> {
        match start {
            Start::Base => FakePolicy::open(&self.base, self.optimizer),
            Start::Checkpoint(dir) => FakePolicy::open(dir, self.optimizer),
        }
    }
}

impl PolicyProvider for FakeProvider {
    type Sampler = FakePolicy;
    type Policy = FakePolicy;

    fn sampler(&self, start: Start<'_>) -> Result<FakePolicy, FakeError> {
        self.open(start)
    }

    fn policy(&self, start: Start<'_>) -> Result<FakePolicy, FakeError> {
        self.open(start)
    }
}

fn norm(table: &Array2<f64>) -> f64 {
    table.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn add(table: &mut Array2<f64>, row: usize, scale: f64, values: &Logits) {
    let Some(table) = table.as_slice_mut() else { return };
    for (entry, value) in table[row * VOCABULARY..].iter_mut().zip(values) {
        *entry += scale * value;
    }
}

fn next_table(values: &mut impl Iterator<Item = f64>) -> Array2<f64> {
    Array2::from_shape_fn((ROWS, VOCABULARY), |_| values.next().unwrap_or_default())
}
