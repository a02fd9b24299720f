//! Adapters: where they begin, their gradient, merging, files, and the base as the KL reference.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::*;
use ndarray::Array2;
use sami_policy::{ContrastPolicy, ContrastSet, PolicyProvider, SetGradient, Start, TrainablePolicy};
use sami_torch::{Dtype, EngineOptions, LoraConfig, Projection, TorchPolicy, TorchProvider};

fn lora() -> EngineOptions {
    let lora = LoraConfig { rank: 3, alpha: 6.0, targets: Projection::ALL.to_vec(), dropout: 0.0, seed: 7 };
    EngineOptions { lora: Some(lora), ..options() }
}

fn scores(policy: &mut TorchPolicy, sets: &[ContrastSet]) -> Vec<f64> {
    policy.score(sets).unwrap().iter().flat_map(|logps| flat(&logps.sum_logps)).collect()
}

fn train(policy: &mut TorchPolicy, sets: &[ContrastSet], steps: usize) {
    for _ in 0..steps {
        accumulate(policy, sets);
        policy.optimizer_step(30.0).unwrap();
    }
}

fn named(values: Vec<(String, Vec<f32>)>) -> BTreeMap<String, Vec<f64>> {
    values.into_iter().map(|(name, values)| (name, wide(&values))).collect()
}

#[test]
fn a_policy_with_fresh_adapters_is_the_base() {
    // A mixture has no projections of these names.
    for model in MODELS.into_iter().filter(|model| *model != "mixtral") {
        let sets = sets(model, "pairs-c4.jsonl");
        let base = scores(&mut open(model, &options()), &sets);
        assert_eq!(scores(&mut open(model, &lora()), &sets), base, "{model}");
    }
}

/// With W' = W + s·B·A: ∂/∂B = s·(∂/∂W')·Aᵀ and ∂/∂A = s·Bᵀ·(∂/∂W').
#[test]
fn the_gradient_follows_from_that_of_the_merged_weights() {
    for model in ["mistral-window", "llama-tied"] {
        let sets = sets(model, "pairs-c2.jsonl");
        let mut policy = open(model, &lora());
        let base = named(open(model, &options()).weights().unwrap());
        train(&mut policy, &sets, 2);
        accumulate(&mut policy, &sets);
        let (weights, grads) = (named(policy.weights().unwrap()), named(policy.gradients().unwrap()));
        for (name, values) in &base {
            assert_eq!(&weights[name], values, "{name} must stay frozen");
            assert!(grads[name].iter().all(|&g| g == 0.0), "{name}");
        }
        let (rank, scale) = (3, 2.0);
        let mut merged = policy.merge_adapters().unwrap();
        accumulate(&mut merged, &sets);
        let full = named(merged.gradients().unwrap());
        let mut checked = 0;
        for (name, a) in weights.iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
            let up = name.replace("lora_A", "lora_B");
            let module =
                name.strip_prefix("base_model.model.").unwrap().strip_suffix(".lora_A.weight").unwrap();
            let shaped = |values: &[f64], rows: usize| {
                Array2::from_shape_vec((rows, values.len() / rows), values.to_vec()).unwrap()
            };
            let a = shaped(a, rank);
            let b = Array2::from_shape_vec((weights[&up].len() / rank, rank), weights[&up].clone()).unwrap();
            let w = shaped(&full[&format!("{module}.weight")], b.nrows());
            let expected_b = w.dot(&a.t()) * scale;
            let expected_a = b.t().dot(&w) * scale;
            assert!(relative(&grads[&up], &flat(&expected_b)) < 2e-4, "{module}");
            assert!(relative(&grads[name], &flat(&expected_a)) < 2e-4, "{module}");
            checked += 1;
        }
        assert!(checked >= 14, "{checked}");
    }
}

#[test]
fn saved_adapters_open_again_and_go_on_as_if_never_stopped() {
    let model = "llama-tied";
    let sets = sets(model, "pairs-c2.jsonl");
    let dir = tempfile::tempdir().unwrap();
    let mut policy = open(model, &lora());
    train(&mut policy, &sets, 2);
    let (saved, state) = (dir.path().join("adapter"), dir.path().join("state"));
    policy.save(&saved).unwrap();
    policy.save_state(&state).unwrap();
    let trained = scores(&mut policy, &sets);

    let mut opened = TorchPolicy::open(&saved, &options()).unwrap();
    assert_eq!(scores(&mut opened, &sets), trained);
    assert_eq!(opened.adapters().unwrap().modules().next().unwrap().1, 3);
    let provider = TorchProvider::new(&fixture(model).join("checkpoint"), lora()).unwrap();
    assert_eq!(scores(&mut provider.policy(Start::Checkpoint(&saved)).unwrap(), &sets), trained);

    let mut resumed = provider.policy(Start::Base).unwrap();
    resumed.load_state(&state).unwrap();
    for policy in [&mut policy, &mut resumed] {
        train(policy, &sets, 1);
    }
    assert_eq!(policy.weights().unwrap(), resumed.weights().unwrap());
}

fn with_dropout(dropout: f64) -> EngineOptions {
    let options = lora();
    EngineOptions { lora: options.lora.map(|lora| LoraConfig { dropout, ..lora }), ..options }
}

/// Matrices and gradients of one training step after one update, for B begins at zero and hides what is dropped.
fn second_step(options: &EngineOptions, sets: &[ContrastSet]) -> (Vec<f64>, BTreeMap<String, Vec<f64>>) {
    let mut policy = open("llama-tied", options);
    train(&mut policy, sets, 1);
    let mut matrices = Vec::new();
    let steps = policy
        .contrast_step(sets, &mut |_, logps| {
            let g = logps.sum_logps.map(|logp| (logp * 0.7).sin() / 10.0);
            Ok(SetGradient { sum_logps: g, kl: 0.0 })
        })
        .unwrap();
    matrices.extend(steps.iter().flat_map(|logps| flat(&logps.sum_logps)));
    (matrices, named(policy.gradients().unwrap()))
}

#[test]
fn dropout_is_the_same_however_the_work_is_cut() {
    let sets = sets("llama-tied", "pairs-c4.jsonl");
    let options = EngineOptions { token_budget: Some(4096), ..with_dropout(0.2) };
    let (matrices, grads) = second_step(&options, &sets);
    for (token_budget, recompute) in [(4096, false), (60, true), (1, true)] {
        let cut = EngineOptions { token_budget: Some(token_budget), recompute, ..options.clone() };
        let (other, other_grads) = second_step(&cut, &sets);
        assert!(relative(&other, &matrices) < 1e-6, "budget {token_budget}");
        for (name, grad) in grads.iter().filter(|(name, _)| name.contains("lora")) {
            assert!(relative(&other_grads[name], grad) < 2e-4, "budget {token_budget}, {name}");
        }
    }
    let mut reversed = sets.clone();
    reversed.reverse();
    let (_, other_grads) = second_step(&options, &reversed);
    for (name, grad) in grads.iter().filter(|(name, _)| name.contains("lora")) {
        assert!(relative(&other_grads[name], grad) < 2e-4, "reversed, {name}");
    }
}

#[test]
fn dropout_is_for_training_alone_and_changes_with_every_update() {
    let sets = sets("llama-tied", "pairs-c2.jsonl");
    let mut policy = open("llama-tied", &with_dropout(0.3));
    train(&mut policy, &sets, 1);
    let scored = scores(&mut policy, &sets);
    let mut drawn = || -> Vec<f64> {
        // Nothing is learned: only the number of updates goes on.
        let steps = policy
            .contrast_step(&sets, &mut |_, logps| {
                Ok(SetGradient { sum_logps: Array2::zeros(logps.sum_logps.dim()), kl: 0.0 })
            })
            .unwrap();
        policy.optimizer_step(0.0).unwrap();
        steps.iter().flat_map(|logps| flat(&logps.sum_logps)).collect()
    };
    let (first, second) = (drawn(), drawn());
    assert!(relative(&first, &scored) > 1e-5 && relative(&second, &first) > 1e-5);
    assert_eq!(scores(&mut policy, &sets), scored, "nothing is dropped in scoring");

    let dir = tempfile::tempdir().unwrap();
    policy.save(&dir.path().join("adapter")).unwrap();
    let opened = TorchPolicy::open(&dir.path().join("adapter"), &options()).unwrap();
    assert_eq!(opened.adapters().unwrap().dropout(), 0.3);
}

#[test]
fn merging_gives_a_plain_checkpoint_with_the_same_scores() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let model = "mistral-window";
        let sets = sets(model, "pairs-c2.jsonl");
        let mut policy = open(model, &EngineOptions { dtype, ..lora() });
        train(&mut policy, &sets, 4);
        let expected = scores(&mut policy, &sets);
        let dir = tempfile::tempdir().unwrap();
        let merged = policy.merge_adapters().unwrap();
        assert!(merged.adapters().is_none());
        merged.save(&dir.path().join("merged")).unwrap();
        let mut opened =
            TorchPolicy::open(&dir.path().join("merged"), &EngineOptions { dtype, ..options() }).unwrap();
        let found = scores(&mut opened, &sets);
        let base = scores(&mut open(model, &EngineOptions { dtype, ..options() }), &sets);
        let largest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let (apart, moved) = (largest(&found, &expected), largest(&base, &expected));
        // In bf16 the sum of weight and update is rounded once more than the two apart.
        let tolerance = if dtype == Dtype::F32 { 1e-3 } else { 0.2 * moved };
        assert!(moved > 0.5 && apart < tolerance, "{dtype}: moved {moved}, apart {apart}");
    }
}

#[test]
fn the_frozen_base_is_the_reference() {
    let model = "llama3-rope";
    let sets = sets(model, "pairs-c2.jsonl");
    let kl = |policy: &mut TorchPolicy| -> Vec<f64> {
        let gradient = &mut |_: usize, logps: &sami_policy::SetLogps| {
            Ok(SetGradient { sum_logps: Array2::zeros(logps.sum_logps.dim()), kl: 0.0 })
        };
        policy.contrast_step(&sets, gradient).unwrap().iter().map(|logps| logps.kl.unwrap()).collect()
    };
    let provider = TorchProvider::new(
        &fixture(model).join("checkpoint"),
        EngineOptions { keep_reference: true, ..lora() },
    )
    .unwrap();
    let mut policy = provider.policy(Start::Base).unwrap();
    assert!(kl(&mut policy).iter().all(|kl| kl.abs() < 1e-6));
    train(&mut policy, &sets, 3);
    let found = kl(&mut policy);
    let mut merged =
        policy.merge_adapters().unwrap().with_reference(&fixture(model).join("checkpoint")).unwrap();
    for (found, expected) in found.iter().zip(kl(&mut merged)) {
        assert!(expected > 1e-3 && (found - expected).abs() < 1e-3 * expected, "{found} {expected}");
    }
}

#[test]
fn adapters_that_mean_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let policy = open("llama-tied", &lora());
    let adapter = dir.path().join("adapter");
    policy.save(&adapter).unwrap();
    let path = adapter.join("adapter_config.json");
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (field, value, expected) in [
        ("peft_type", serde_json::json!("IA3"), "field \"peft_type\" is \"IA3\"; only \"LORA\""),
        ("use_dora", serde_json::json!(true), "field \"use_dora\" is true: the adapted weights' rows are"),
        ("r", serde_json::json!("eight"), "field \"r\" is \"eight\"; expected a positive whole number"),
        ("r", serde_json::json!(4), "has shape [3, 64], but with this base and rank it must have [4, 64]"),
        (
            "target_modules",
            serde_json::json!(["q_proj"]),
            "holds 24 tensors that adapter_config.json does not",
        ),
        (
            "base_model_name_or_path",
            serde_json::json!("nowhere"),
            "is \"nowhere\", which is no checkpoint on",
        ),
    ] {
        let mut changed = config.clone();
        changed[field] = value;
        std::fs::write(&path, changed.to_string()).unwrap();
        let message = TorchPolicy::open(&adapter, &options()).err().unwrap().to_string();
        assert!(message.contains(expected), "{field}: {message}");
    }
    for lora in [
        LoraConfig { rank: 0, ..LoraConfig::default() },
        LoraConfig { alpha: f64::NAN, ..LoraConfig::default() },
        LoraConfig { targets: Vec::new(), ..LoraConfig::default() },
        LoraConfig { dropout: 1.0, ..LoraConfig::default() },
    ] {
        assert!(EngineOptions { lora: Some(lora), ..options() }.check().is_err());
    }
}
