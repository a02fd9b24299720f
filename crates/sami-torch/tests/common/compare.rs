//! Holds the engine against what PyTorch + transformers computed with the same checkpoints: once for the tests, which read
//! fixtures/parity, and for `cargo xtask parity`, which draws fresh models.

use std::path::PathBuf;

use sami_policy::{
    ContrastPolicy, ContrastSet, FinishReason, SampleRequest, Sampler, SamplingParamsBuilder, StreamKey,
    TrainablePolicy,
};
use sami_torch::{Dtype, EngineOptions, TorchPolicy};
use serde_json::Value;

use super::{accumulate, json, options, read_sets, relative, tensors, wide};

/// Numbers of constitutions that there are sets for.
pub const LABELS: [&str; 4] = ["c2", "c3", "c4", "c8"];

/// One comparison: how far we are away, how far PyTorch's own f32 (or bf16) is, and how far one may be.
pub struct Check {
    pub model: String,
    pub what: String,
    pub ours: f64,
    pub theirs: Option<f64>,
    pub limit: f64,
}

impl Check {
    pub fn passes(&self) -> bool {
        self.ours <= self.limit
    }
}

/// One model's directory.
pub struct Case {
    pub root: PathBuf,
    pub model: &'static str,
}

impl Case {
    fn open(&self, options: &EngineOptions) -> TorchPolicy {
        TorchPolicy::open(&self.root.join(self.model).join("checkpoint"), options).unwrap()
    }

    fn expected(&self) -> Value {
        json(&self.root.join(self.model).join("expected.json"))
    }

    fn sets(&self, label: &str) -> Vec<ContrastSet> {
        read_sets(&self.root.join(self.model).join(format!("pairs-{label}.jsonl")))
    }

    fn tensors(&self, file: &str) -> std::collections::BTreeMap<String, Vec<f64>> {
        tensors(&self.root.join(self.model).join(file))
    }

    fn check(&self, what: impl Into<String>, ours: f64, theirs: Option<f64>, limit: f64) -> Check {
        Check { model: self.model.to_owned(), what: what.into(), ours, theirs, limit }
    }

    pub fn all(&self) -> Vec<Check> {
        let mut checks = self.logits();
        checks.extend(self.matrices());
        checks.extend(self.bf16_matrices());
        checks.extend(self.gradients());
        checks.extend(self.updates());
        checks.extend(self.greedy());
        checks
    }

    /// Writes the untrained model to `saved`, as it came, for transformers to open.
    pub fn save(&self) {
        let dtype = match self.expected()["dtype_on_disk"].as_str() {
            Some("bfloat16") => Dtype::Bf16,
            _ => Dtype::F32,
        };
        let policy = self.open(&EngineOptions { dtype, save_dtype: Some(dtype), ..options() });
        policy.save(&self.root.join(self.model).join("saved")).unwrap();
    }

    /// Whole logits of short texts, absolute.
    pub fn logits(&self) -> Vec<Check> {
        let mut policy = self.open(&options());
        let expected = self.tensors("logits.safetensors");
        let (mut ours, mut theirs) = (0f64, 0f64);
        for (index, entry) in self.expected()["logits"].as_array().unwrap().iter().enumerate() {
            let logits = policy.prompt_logits(entry["text"].as_str().unwrap()).unwrap().concat();
            let expected = &expected[&format!("{index}.logits")];
            assert_eq!(logits.len(), expected.len());
            ours = ours.max(largest(&wide(&logits), expected));
            theirs = theirs.max(entry["largest_distance_to_f64"].as_f64().unwrap());
        }
        vec![self.check("logits", ours, Some(theirs), 1e-5)]
    }

    /// Matrices against f32 and f64, in nats per token.
    pub fn matrices(&self) -> Vec<Check> {
        let mut policy = self.open(&options());
        let (expected, own) = (self.tensors("matrices.safetensors"), self.expected());
        let mut checks = Vec::new();
        for label in LABELS {
            let (mut ours, mut against_f64) = (0f64, 0f64);
            for (index, logps) in policy.score(&self.sets(label)).unwrap().iter().enumerate() {
                let expected = |name: &str| &expected[&format!("{label}.{index}.{name}")];
                let tokens: Vec<f64> = logps.tokens.iter().map(|&t| t as f64).collect();
                assert_eq!(&tokens, expected("tokens"), "{} {label} {index}", self.model);
                ours = ours.max(super::per_token(logps, expected("sum_f32")));
                against_f64 = against_f64.max(super::per_token(logps, expected("sum_f64")));
            }
            let theirs = own[label]["largest_distance_per_token_to_f64"]["f32"].as_f64();
            checks.push(self.check(format!("matrices {label}"), ours, None, 1e-5));
            checks.push(self.check(format!("matrices {label} to f64"), against_f64, theirs, 1e-5));
        }
        checks
    }

    /// Matrices in bf16 against an f64 evaluation of the rounded weights: root of the mean square, in nats per token, over all
    /// entries of all sets.
    pub fn bf16_matrices(&self) -> Vec<Check> {
        let mut policy = self.open(&EngineOptions { dtype: Dtype::Bf16, ..options() });
        let expected = self.tensors("matrices.safetensors");
        let (mut ours, mut theirs, mut entries) = (0.0, 0.0, 0.0);
        for label in LABELS {
            for (index, logps) in policy.score(&self.sets(label)).unwrap().iter().enumerate() {
                let expected = |name: &str| &expected[&format!("{label}.{index}.{name}")];
                let (exact, other) = (expected("sum_bf16_f64"), expected("sum_bf16"));
                for (((sum, tokens), exact), other) in
                    logps.sum_logps.iter().zip(&logps.tokens).zip(exact).zip(other)
                {
                    let square = |x: f64| (x / *tokens as f64).powi(2);
                    ours += square(sum - exact);
                    theirs += square(other - exact);
                    entries += 1.0;
                }
            }
        }
        let (ours, theirs) = ((ours / entries).sqrt(), f64::sqrt(theirs / entries));
        // Two draws of the same noise differ by a tenth on so few entries.
        vec![self.check("bf16 matrices to f64", ours, Some(theirs), 1.2 * theirs)]
    }

    /// Gradients of every parameter, relative; the worst counts.
    pub fn gradients(&self) -> Vec<Check> {
        let (expected, own) = (self.tensors("gradients.safetensors"), self.expected());
        let mut checks = Vec::new();
        for (label, own) in own["gradients"].as_object().unwrap() {
            let mut policy = self.open(&options());
            let loss = accumulate(&mut policy, &self.sets(label));
            let apart = (loss - own["mean_loss_f32"].as_f64().unwrap()).abs();
            checks.push(self.check(format!("loss {label}"), apart, None, 1e-5));
            let (mut worst, mut seen) = (0f64, 0);
            for (name, grad) in policy.gradients().unwrap() {
                let expected = &expected[&format!("{label}.{name}")];
                seen += 1;
                // An expert that nobody chose has no gradient on either side.
                if expected.iter().all(|&g| g == 0.0) {
                    worst = worst.max(grad.iter().fold(0.0, |most, g| most.max(f64::from(g.abs()))));
                } else {
                    worst = worst.max(relative(&wide(&grad), expected));
                }
            }
            let prefix = format!("{label}.");
            assert_eq!(seen, expected.keys().filter(|name| name.starts_with(&prefix)).count());
            let theirs = own["relative_distance_f32_to_f64"]["worst"].as_f64();
            checks.push(self.check(format!("gradients {label}"), worst, theirs, 1e-4));
        }
        assert!(!checks.is_empty(), "{} has no gradients", self.model);
        checks
    }

    /// The update after twelve steps in three iterations, relative: against f32, against f64.
    pub fn updates(&self) -> Vec<Check> {
        let own = &self.expected()["update"];
        let Some(iterations) = own["steps"].as_array() else { return Vec::new() };
        let numbers = |name: &str| -> Vec<f64> { serde_json::from_value(own[name].clone()).unwrap() };
        let (losses, norms) = (numbers("loss_f32"), numbers("norms_f32"));
        let sets = self.sets("c2");
        let (mut step, mut worst_loss, mut worst_norm, mut change) = (0, 0f64, 0f64, Vec::new());
        for (iteration, steps) in iterations.iter().enumerate() {
            // Every iteration begins at the base.
            let mut policy = self.open(&options());
            let before = policy.weights().unwrap();
            for _ in 0..steps.as_u64().unwrap() {
                let batch: Vec<_> = (0..2).map(|i| sets[(step * 2 + i) % sets.len()].clone()).collect();
                worst_loss = worst_loss.max((accumulate(&mut policy, &batch) - losses[step]).abs());
                let report = policy.optimizer_step(1.0).unwrap();
                assert!((report.update_kept - 1.0).abs() < 0.05, "{}: {report:?}", self.model);
                step += 1;
            }
            change = policy.weights().unwrap();
            for ((_, after), (_, before)) in change.iter_mut().zip(before) {
                after.iter_mut().zip(before).for_each(|(after, before)| *after -= before);
            }
            let square: f64 = change.iter().flat_map(|(_, part)| part).map(|&x| f64::from(x).powi(2)).sum();
            worst_norm = worst_norm.max((square.sqrt() / norms[iteration] - 1.0).abs());
        }
        assert_eq!(step, losses.len());
        let expected = self.tensors("update.safetensors");
        let ours: Vec<f64> = change.iter().flat_map(|(_, part)| wide(part)).collect();
        let against = |precision: &str| {
            let theirs: Vec<f64> = change
                .iter()
                .flat_map(|(name, _)| expected[&format!("{precision}.{name}")].clone())
                .collect();
            relative(&ours, &theirs)
        };
        let last = own["relative_distance_f32_to_f64"].as_array().unwrap().last().unwrap();
        vec![
            self.check("losses of 12 steps", worst_loss, None, 1e-4),
            self.check("norms of 3 updates", worst_norm, None, 2e-3),
            self.check("update", against("f32"), None, 2e-3),
            self.check("update to f64", against("f64"), last["all"].as_f64(), 2e-3),
        ]
    }

    /// Greedy continuations of up to 64 tokens: how many leave transformers' way at a gap that rounding cannot close.
    pub fn greedy(&self) -> Vec<Check> {
        let expected = self.expected();
        let cases = expected["greedy"].as_array().unwrap();
        let request = |case: &Value| SampleRequest {
            prompt: case["prompt"].as_str().unwrap().to_owned(),
            stream: StreamKey::new(0, 0, 0, 0),
        };
        let requests: Vec<SampleRequest> = cases.iter().map(request).collect();
        let params = SamplingParamsBuilder { max_new_tokens: 64, logps: true, ..Default::default() };
        let samples = self.open(&options()).sample(&requests, &params.check().unwrap()).unwrap();
        assert_eq!(samples.len(), cases.len());
        let mut wrong = 0;
        for (sample, case) in samples.iter().zip(cases) {
            let sample = sample.as_ref().unwrap();
            let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
            let gaps: Vec<f64> = serde_json::from_value(case["gaps"].clone()).unwrap();
            let ours = sample.token_ids.clone().unwrap();
            let finish = if sample.finish == FinishReason::Eos { "eos" } else { "length" };
            let apart = ours.iter().zip(&tokens).position(|(a, b)| a != b);
            let same = match apart {
                Some(step) => gaps[..=step].iter().any(|&gap| gap <= 1e-4),
                None => {
                    ours.len() == tokens.len()
                        && sample.text == case["text"].as_str().unwrap()
                        && finish == case["finish"].as_str().unwrap()
                        && sample.logps.as_ref().unwrap().len() == ours.len()
                }
            };
            wrong += usize::from(!same);
        }
        vec![self.check(format!("greedy, {} prompts", cases.len()), wrong as f64, Some(0.0), 0.0)]
    }
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
