//! Any number of threads gives the same numbers but for rounding, and one number of threads always the same bits.
//!
//! In a file of its own: the number of threads is LibTorch's, and new threads begin with the last one that was set.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use sami_policy::{
    ContrastPolicy, SampleRequest, Sampler, SamplingParamsBuilder, SetGradient, StreamKey, TrainablePolicy,
};
use sami_torch::{LoraConfig, TorchPolicy, set_threads};

/// Everything that a policy computes.
#[derive(Debug, PartialEq)]
struct Seen {
    scores: Vec<f64>,
    kl: Vec<f64>,
    gradients: Vec<f64>,
    weights: Vec<(String, Vec<f32>)>,
    texts: Vec<Option<Vec<u32>>>,
}

fn seen(model: &str, threads: usize, lora: bool) -> Seen {
    set_threads(threads);
    let lora = lora.then(|| LoraConfig { dropout: 0.2, ..LoraConfig::default() });
    let mut options = options();
    options.lora = lora;
    let mut policy = open(model, &options).with_reference(&fixture(model).join("checkpoint")).unwrap();
    let sets = [sets(model, "pairs-c2.jsonl"), sets(model, "pairs-c4.jsonl")].concat();
    let scores = policy.score(&sets).unwrap().iter().flat_map(|l| flat(&l.sum_logps)).collect();
    let weight = |c: usize, r: usize| 0.1 * (c as f64 + 1.0) - 0.07 * r as f64;
    let step = |policy: &mut TorchPolicy| {
        policy
            .contrast_step(&sets, &mut |_, logps| {
                let sum_logps = ndarray::Array2::from_shape_fn(logps.sum_logps.dim(), |(c, r)| weight(c, r));
                Ok(SetGradient { sum_logps, kl: 0.3 })
            })
            .unwrap()
    };
    step(&mut policy);
    policy.optimizer_step(1.0).unwrap();
    // After an update there is a KL.
    let kl = step(&mut policy).iter().filter_map(|logps| logps.kl).collect();
    let gradients = gradients(&policy);
    let requests: Vec<SampleRequest> = sets
        .iter()
        .zip(0..)
        .map(|(set, query)| SampleRequest {
            prompt: set.prompts()[0].clone(),
            stream: StreamKey::new(3, 1, query, 0),
        })
        .collect();
    let params =
        SamplingParamsBuilder { max_new_tokens: 8, temperature: 0.7, ..SamplingParamsBuilder::default() };
    let samples = policy.sample(&requests, &params.check().unwrap()).unwrap();
    let texts = samples.into_iter().map(|sample| sample.unwrap().token_ids).collect();
    Seen { scores, kl, gradients, weights: policy.weights().unwrap(), texts }
}

fn near(some: &[f64], others: &[f64], what: &str) {
    assert_eq!(some.len(), others.len());
    assert!(!some.is_empty(), "{what}");
    for (a, b) in some.iter().zip(others) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{what}: {a} and {b}");
    }
}

#[test]
fn threads_change_nothing_beyond_rounding() {
    for (model, lora) in [("llama-tied", false), ("mixtral", false), ("qwen3", true)] {
        let alone = seen(model, 1, lora);
        assert!(alone.kl.iter().all(|kl| *kl > 1e-9), "{model}: {:?}", alone.kl);
        for threads in [2, 5] {
            let what = format!("{model}, {threads} threads");
            let together = seen(model, threads, lora);
            near(&together.scores, &alone.scores, &what);
            near(&together.kl, &alone.kl, &what);
            let apart = relative(&together.gradients, &alone.gradients);
            assert!(apart < 5e-4, "{what}: {apart}");
            assert_eq!(together.texts, alone.texts, "{what}");
            assert_eq!(seen(model, threads, lora), together, "{what}, again");
        }
    }
    set_threads(2);
}
