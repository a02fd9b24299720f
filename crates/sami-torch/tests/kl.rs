//! The KL to the frozen reference: its value against full logits, its gradient against differences, and what must not change it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use ndarray::Array2;
use sami_policy::{ContrastPolicy, ContrastResponse, ContrastSet, SetGradient, TrainablePolicy};
use sami_torch::{EngineOptions, TorchPolicy};

fn with_reference(model: &str, options: &EngineOptions) -> TorchPolicy {
    open(model, options).with_reference(&fixture(model).join("checkpoint")).unwrap()
}

/// Mean KL over the sets; adds the gradient of `coefficient` times it.
fn kl(policy: &mut TorchPolicy, sets: &[ContrastSet], coefficient: f64) -> f64 {
    let n = sets.len() as f64;
    let logps = policy
        .contrast_step(sets, &mut |_, logps| {
            Ok(SetGradient { sum_logps: Array2::zeros(logps.sum_logps.dim()), kl: coefficient / n })
        })
        .unwrap();
    logps.iter().map(|logps| logps.kl.unwrap()).sum::<f64>() / n
}

/// Moved a little away from the reference, by steps on the contrast.
fn moved(model: &str, options: &EngineOptions) -> TorchPolicy {
    let mut policy = with_reference(model, options);
    for _ in 0..3 {
        accumulate(&mut policy, &sets(model, "pairs-c2.jsonl"));
        policy.optimizer_step(30.0).unwrap();
    }
    policy
}

#[test]
fn a_policy_is_at_no_distance_from_itself() {
    for model in MODELS {
        let mut policy = with_reference(model, &options());
        let distance = kl(&mut policy, &sets(model, "pairs-c4.jsonl"), 1.0);
        assert!(distance.abs() < 1e-6, "{model}: {distance}");
        assert!(gradients(&policy).iter().all(|g| g.abs() < 1e-6), "{model}");
    }
}

#[test]
fn the_value_is_that_of_full_logits() {
    let model = "mistral-f32";
    let mut policy = moved(model, &options());
    let mut base = open(model, &options());
    let (prompt, response) = ("Be kind.\n\nHuman: How do I", " ask for a day off?");
    let response = ContrastResponse { text: response.into(), token_ids: None, constitution: 0 };
    let text = format!("{prompt}{}", response.text);
    let set = ContrastSet::new("one", vec![prompt.into()], vec![response]).unwrap();
    let found = kl(&mut policy, &[set], 0.0);

    let start = policy.tokenizer().encode_prompt(prompt, "the prompt").unwrap().len();
    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        logits.iter().map(|&l| f64::from(l) - sum.ln()).collect()
    };
    let (p, q) = (policy.prompt_logits(&text).unwrap(), base.prompt_logits(&text).unwrap());
    let positions = start - 1..p.len() - 1;
    let expected = positions
        .clone()
        .map(|t| {
            let (p, q) = (log_softmax(&p[t]), log_softmax(&q[t]));
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        })
        .sum::<f64>()
        / positions.len() as f64;
    assert!(expected > 1e-3, "the policies must differ for the test to say something: {expected}");
    assert!((found - expected).abs() < 1e-5 * expected.max(1.0), "{found} {expected}");
}

#[test]
fn the_gradient_is_that_of_the_value() {
    for model in ["mistral-f32", "llama-tied"] {
        let sets = sets(model, "pairs-c2.jsonl");
        let mut policy = moved(model, &options());
        let before = kl(&mut policy, &sets, 1.0);
        let (g0, w0) = (gradients(&policy), policy.weights().unwrap());
        policy.optimizer_step(1.0).unwrap();
        let after = kl(&mut policy, &sets, 1.0);
        let (g1, w1) = (gradients(&policy), policy.weights().unwrap());
        let step = w0.iter().zip(&w1).flat_map(|((_, a), (_, b))| {
            a.iter().zip(b).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect::<Vec<_>>()
        });
        // The trapezoid's error is of third order in the step.
        let predicted: f64 = step.zip(g0.iter().zip(&g1)).map(|(d, (a, b))| d * (a + b) / 2.0).sum();
        let found = after - before;
        assert!(found.abs() > 1e-4, "{model}: the step must move the KL, {found}");
        assert!((found - predicted).abs() < 0.02 * found.abs(), "{model}: {found} {predicted}");
    }
}

#[test]
fn budget_and_recomputation_change_nothing_beyond_rounding() {
    let sets = sets("llama-tied", "pairs-c4.jsonl");
    let run = |token_budget, recompute| {
        let mut policy =
            moved("llama-tied", &EngineOptions { token_budget: Some(token_budget), recompute, ..options() });
        let value = kl(&mut policy, &sets, 0.3);
        (value, gradients(&policy))
    };
    let (value, grads) = run(1 << 20, true);
    for (token_budget, recompute) in [(1 << 20, false), (150, true), (1, false)] {
        let (other, other_grads) = run(token_budget, recompute);
        assert!((value - other).abs() < 1e-4 * value, "{value} {other}");
        assert!(relative(&other_grads, &grads) < 1e-3, "{}", relative(&other_grads, &grads));
    }
}

#[test]
fn a_term_without_a_reference_is_refused() {
    let mut policy = open("llama-tied", &options());
    let message = policy
        .contrast_step(&sets("llama-tied", "pairs-c2.jsonl"), &mut |_, logps| {
            Ok(SetGradient { sum_logps: Array2::zeros(logps.sum_logps.dim()), kl: 0.1 })
        })
        .unwrap_err()
        .to_string();
    assert!(message.contains("no reference is kept"), "{message}");
    let other = fixture("mistral-window").join("checkpoint");
    let message = open("llama-tied", &options()).with_reference(&other).err().unwrap().to_string();
    assert!(message.contains("differ from the policy's"), "{message}");
}
