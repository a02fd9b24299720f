//! What must not change the numbers: packing, budgets, recomputation, saving, resuming.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use sami_policy::{
    ContrastPolicy, ContrastSet, FinishReason, Refusal, Sample, SampleRequest, Sampler,
    SamplingParamsBuilder, StreamKey, TrainablePolicy,
};
use sami_torch::{Dtype, EngineOptions, LmExample, Precision, RopeScaling, TorchPolicy};

/// Every response alone: one prompt with one response is an ordinary causal sequence, so nothing is shared or masked.
fn unpacked(sets: &[ContrastSet]) -> Vec<ContrastSet> {
    let mut singles = Vec::new();
    for set in sets {
        for (c, prompt) in set.prompts().iter().enumerate() {
            for (r, response) in set.responses().iter().enumerate() {
                let mut response = response.clone();
                response.constitution = 0;
                let id = format!("{} {c} {r}", set.id());
                singles.push(ContrastSet::new(id, vec![prompt.clone()], vec![response]).unwrap());
            }
        }
    }
    singles
}

#[test]
fn packing_changes_no_log_probability() {
    for model in MODELS {
        let mut policy = open(model, &options());
        for file in ["pairs-c2.jsonl", "pairs-c4.jsonl"] {
            let sets = sets(model, file);
            let packed: Vec<f64> =
                policy.score(&sets).unwrap().iter().flat_map(|l| flat(&l.sum_logps)).collect();
            let singles = policy.score(&unpacked(&sets)).unwrap();
            assert_eq!(packed.len(), singles.len());
            for (packed, single) in packed.iter().zip(&singles) {
                assert!((packed - single.sum_logps[[0, 0]]).abs() / (single.tokens[[0, 0]] as f64) < 2e-6);
            }
        }
    }
}

#[test]
fn packing_changes_no_gradient() {
    for model in MODELS {
        let sets = sets(model, "pairs-c4.jsonl");
        // Fixed weights, so that the gradient is linear in the entries.
        let weight = |c: usize, r: usize| 0.1 * (c as f64 + 1.0) - 0.07 * r as f64;
        let mut packed = open(model, &options());
        packed
            .contrast_step(&sets, &mut |_, logps| {
                Ok(ndarray::Array2::from_shape_fn(logps.sum_logps.dim(), |(c, r)| weight(c, r)).into())
            })
            .unwrap();
        let mut single = open(model, &options());
        let singles = unpacked(&sets);
        let entries: Vec<f64> = sets
            .iter()
            .flat_map(|set| {
                (0..set.prompts().len())
                    .flat_map(move |c| (0..set.responses().len()).map(move |r| weight(c, r)))
            })
            .collect();
        single
            .contrast_step(&singles, &mut |index, _| Ok(ndarray::arr2(&[[entries[index]]]).into()))
            .unwrap();
        assert!(relative(&gradients(&packed), &gradients(&single)) < 1e-5, "{model}");
    }
}

#[test]
fn budget_and_recomputation_change_nothing_beyond_rounding() {
    for model in ["mistral-window", "llama-tied"] {
        let sets = sets(model, "pairs-c4.jsonl");
        let run = |token_budget, recompute| {
            let mut policy =
                open(model, &EngineOptions { token_budget: Some(token_budget), recompute, ..options() });
            (accumulate(&mut policy, &sets), gradients(&policy))
        };
        let (loss, grads) = run(1 << 20, true);
        for (token_budget, recompute) in [(1 << 20, false), (700, true), (150, false), (1, true)] {
            let (other_loss, other_grads) = run(token_budget, recompute);
            assert!((loss - other_loss).abs() < 1e-5, "{model} {token_budget} {recompute}");
            let apart = relative(&other_grads, &grads);
            assert!(apart < 2e-5, "{model} {token_budget} {recompute}: {apart}");
        }
    }
}

#[test]
fn the_order_of_sets_and_micro_batches_change_nothing_beyond_rounding() {
    let sets = sets("mistral-window", "pairs-c2.jsonl");
    let objective = sami_core::Objective::builder().check().unwrap();
    let run = |order: &[usize], micro_batch: usize| {
        let mut policy = open("mistral-window", &options());
        let ordered: Vec<ContrastSet> = order.iter().map(|&i| sets[i].clone()).collect();
        for chunk in ordered.chunks(micro_batch) {
            policy
                .contrast_step(chunk, &mut |_, logps| {
                    let outcome = objective.loss_and_grad(logps.reduce(objective.reduction()).view())?;
                    Ok(logps.gradient_in_sums(objective.reduction(), outcome.grad / sets.len() as f64).into())
                })
                .unwrap();
        }
        gradients(&policy)
    };
    let reference = run(&[0, 1, 2, 3, 4], 5);
    for (order, micro_batch) in [([0, 1, 2, 3, 4], 1), ([0, 1, 2, 3, 4], 2), ([4, 2, 0, 3, 1], 3)] {
        assert!(relative(&run(&order, micro_batch), &reference) < 1e-5);
    }
}

#[test]
fn an_untrained_checkpoint_is_saved_as_it_came() {
    for model in MODELS {
        let dir = tempfile::tempdir().unwrap();
        let on_disk = expected(model)["dtype_on_disk"].clone();
        let dtype = if on_disk == "bfloat16" { Dtype::Bf16 } else { Dtype::F32 };
        let policy = open(model, &EngineOptions { dtype, save_dtype: Some(dtype), ..options() });
        policy.save(dir.path()).unwrap();
        let source = fixture(model).join("checkpoint");
        for entry in std::fs::read_dir(&source).unwrap() {
            let path = entry.unwrap().path();
            let copy = dir.path().join(path.file_name().unwrap());
            if path.extension().is_some_and(|e| e == "safetensors") {
                assert_eq!(tensors(&path), tensors(&copy), "{}", path.display());
            } else {
                let json = |path: &std::path::Path| -> serde_json::Value {
                    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
                };
                let (mut old, mut new) = (json(&path), json(&copy));
                // Tools count it differently; ours is the bytes of the tensors.
                for value in [&mut old, &mut new] {
                    value.as_object_mut().map(|o| o.remove("metadata"));
                }
                assert_eq!(old, new, "{}", path.display());
            }
        }
        let mut again = TorchPolicy::open(dir.path(), &options()).unwrap();
        let sets = sets(model, "pairs-c2.jsonl");
        assert_eq!(again.score(&sets).unwrap(), open(model, &options()).score(&sets).unwrap());
    }
}

#[test]
fn going_on_from_saved_state_equals_never_having_stopped() {
    for (dtype, precision) in
        [(Dtype::F32, Precision::Exact), (Dtype::Bf16, Precision::Exact), (Dtype::Bf16, Precision::Bf16Pure)]
    {
        let options = EngineOptions { dtype, precision, ..options() };
        let sets = sets("mistral-window", "pairs-c2.jsonl");
        let step = |policy: &mut TorchPolicy| {
            accumulate(policy, &sets);
            policy.optimizer_step(1.0).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        let mut whole = open("mistral-window", &options);
        step(&mut whole);
        whole.save_state(dir.path()).unwrap();
        step(&mut whole);
        let mut resumed = open("mistral-window", &options);
        resumed.load_state(dir.path()).unwrap();
        step(&mut resumed);
        assert_eq!(whole.weights().unwrap(), resumed.weights().unwrap());
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        whole.save(a.path()).unwrap();
        resumed.save(b.path()).unwrap();
        for entry in std::fs::read_dir(a.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert_eq!(
                std::fs::read(a.path().join(&name)).unwrap(),
                std::fs::read(b.path().join(&name)).unwrap(),
                "{name:?}"
            );
        }
    }
}

#[test]
fn a_checkpoint_trained_in_bf16_keeps_its_exact_weights() {
    let options = EngineOptions {
        dtype: Dtype::Bf16,
        optimizer: sami_torch::OptimizerConfig::new(sami_torch::OptimizerKind::AdamW, 5e-7),
        ..options()
    };
    let sets = sets("mistral-window", "pairs-c2.jsonl");
    let mut policy = open("mistral-window", &options);
    accumulate(&mut policy, &sets);
    let report = policy.optimizer_step(1.0).unwrap();
    assert!(report.update_norm > 0.0 && report.grad_norm > 0.0);
    let dir = tempfile::tempdir().unwrap();
    policy.save(dir.path()).unwrap();
    // Opened again in f32, the update is there, though bf16 weights barely moved.
    let before = open("mistral-window", &EngineOptions::default()).weights().unwrap();
    let after = TorchPolicy::open(dir.path(), &EngineOptions::default()).unwrap().weights().unwrap();
    let moved: f64 = before
        .iter()
        .zip(&after)
        .flat_map(|((_, a), (_, b))| a.iter().zip(b))
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    assert!(
        (moved.sqrt() / report.update_norm - 1.0).abs() < 0.05,
        "{} {}",
        moved.sqrt(),
        report.update_norm
    );
    // And opening it in bf16 starts from exactly there.
    let again = TorchPolicy::open(dir.path(), &options).unwrap();
    assert_eq!(again.weights().unwrap(), policy.weights().unwrap());
}

fn requests(prompts: &[&str]) -> Vec<SampleRequest> {
    let keyed = |(i, prompt): (usize, &&str)| SampleRequest {
        prompt: (*prompt).to_owned(),
        stream: StreamKey::new(3, 0, i as u64, 0),
    };
    prompts.iter().enumerate().map(keyed).collect()
}

const PROMPTS: [&str; 5] = [
    "Human: How do I boil an egg?\n\nAssistant:",
    "Hi",
    "System: Be brief.\n\nHuman: Tell me, in as few words as you can, what the sea looks like at night.\n\nAssistant:",
    "Human: Why?\n\nAssistant:",
    "One two three four five six",
];

#[test]
fn a_samples_draws_do_not_depend_on_its_neighbours() {
    for model in MODELS {
        let params =
            SamplingParamsBuilder { max_new_tokens: 24, temperature: 1.0, top_p: 0.95, ..Default::default() };
        let params = params.check().unwrap();
        let all = requests(&PROMPTS);
        let together = open(model, &options()).sample(&all, &params).unwrap();
        for generation_batch in [1, 2, 3] {
            let mut policy =
                open(model, &EngineOptions { generation_batch, token_budget: Some(30), ..options() });
            let others = policy.sample(&all, &params).unwrap();
            for (a, b) in together.iter().zip(&others) {
                let ids = |one: &Result<Sample, Refusal>| one.clone().unwrap().token_ids;
                assert_eq!(ids(a), ids(b), "{model} {generation_batch}");
            }
        }
        let alone = open(model, &options()).sample(&all[2..3], &params).unwrap();
        assert_eq!(alone[0].as_ref().unwrap().text, together[2].as_ref().unwrap().text);
    }
}

#[test]
fn stop_strings_cut_across_token_boundaries() {
    let mut policy = open("mistral-f32", &options());
    let all = requests(&PROMPTS[..1]);
    let plain = |stop: Vec<String>| {
        SamplingParamsBuilder {
            max_new_tokens: 40,
            temperature: 1.0,
            stop,
            logps: true,
            ..Default::default()
        }
        .check()
        .unwrap()
    };
    let whole = policy.sample(&all, &plain(Vec::new())).unwrap().remove(0).unwrap();
    let chars: Vec<char> = whole.text.chars().collect();
    let mut exact = 0;
    for start in 1..chars.len().saturating_sub(3) {
        let stop: String = chars[start..start + 3].iter().collect();
        if stop.contains('\u{fffd}') {
            continue;
        }
        let sample = policy.sample(&all, &plain(vec![stop.clone()])).unwrap().remove(0).unwrap();
        let cut = whole.text.find(&stop).unwrap();
        assert_eq!(sample.finish, FinishReason::Stop);
        assert_eq!(sample.text, whole.text[..cut]);
        if let Some(ids) = sample.token_ids {
            exact += 1;
            assert_eq!(ids[..], whole.token_ids.as_ref().unwrap()[..ids.len()]);
            assert_eq!(sample.logps.unwrap().len(), ids.len());
        }
    }
    assert!(exact > 0);
}

/// Texts of very different lengths, longer than what attention scores at once.
fn texts(policy: &TorchPolicy) -> Vec<Vec<u32>> {
    let long =
        "The post is about a garden, a neighbour and a fence that nobody wanted to pay for. ".repeat(24);
    [40, 1400, 90, 700, 65]
        .iter()
        .map(|&length| policy.tokenizer().encode_prompt(&long[..length], "a text").unwrap())
        .collect()
}

#[test]
fn a_texts_loss_is_the_sum_over_its_parts() {
    for model in MODELS {
        let policy = open(model, &options());
        // A part has other frequencies than the whole where the length decides about them.
        let scaling = &policy.config().rope_scaling;
        if matches!(scaling, RopeScaling::Dynamic { .. } | RopeScaling::Longrope { .. }) {
            continue;
        }
        let texts = texts(&policy);
        assert!(texts[1].len() > 300, "{}", texts[1].len());
        let whole: Vec<LmExample> =
            texts.iter().map(|ids| LmExample { token_ids: ids.clone(), loss_from: 1 }).collect();
        let parts: Vec<LmExample> = texts
            .iter()
            .flat_map(|ids| {
                let bounds: Vec<usize> = (1..ids.len()).step_by(37).chain([ids.len()]).collect();
                bounds
                    .windows(2)
                    .map(|w| LmExample { token_ids: ids[..w[1]].to_vec(), loss_from: w[0] })
                    .collect::<Vec<_>>()
            })
            .collect();
        let (whole, parts) = (policy.lm_loss(&whole).unwrap(), policy.lm_loss(&parts).unwrap());
        assert_eq!(whole.tokens, parts.tokens);
        assert!((whole.nats - parts.nats).abs() < 2e-6, "{model}: {whole:?} {parts:?}");
    }
}

#[test]
fn a_texts_gradient_is_that_of_its_log_probability() {
    for model in MODELS {
        let mut policy = open(model, &options());
        let texts = texts(&policy);
        let examples: Vec<LmExample> =
            texts.iter().map(|ids| LmExample { token_ids: ids.clone(), loss_from: 9 }).collect();
        let loss = policy.lm_step(&examples).unwrap();
        let expected = policy.lm_loss(&examples).unwrap();
        assert!((loss.nats - expected.nats).abs() < 1e-6);
        let mut small =
            open(model, &EngineOptions { token_budget: Some(200), recompute: false, ..options() });
        small.lm_step(&examples).unwrap();
        assert!(relative(&gradients(&small), &gradients(&policy)) < 1e-5, "{model}");
        // A step against the gradient lowers the loss by lr · ‖gradient‖₁ to first order (Adam's first step is a sign).
        let before = loss.nats;
        policy.optimizer_step(0.1).unwrap();
        assert!(policy.lm_loss(&examples).unwrap().nats < before);
    }
}

#[test]
fn a_text_with_nothing_to_predict_is_refused() {
    let mut policy = open("llama-tied", &options());
    for loss_from in [0, 3] {
        let example = LmExample { token_ids: vec![1, 2, 3], loss_from };
        let message = policy.lm_step(&[example]).unwrap_err().to_string();
        assert!(message.contains("text 0"), "{message}");
    }
}

#[test]
fn sharing_the_beginnings_of_prompts_changes_no_response() {
    for model in MODELS {
        let common =
            "The following is written by somebody who follows these principles, one after the other, always.";
        let prompts: Vec<String> = ["Be kind.", "Be kind and short.", "Be curt."]
            .iter()
            .flat_map(|principle| {
                ["How do I bake bread?", "How do I bake a cake?", "What is it?", "What is it?"].map(|query| {
                    format!("{common}\n1. {principle} And so on, as long as it takes to say it.\n{query}")
                })
            })
            .collect();
        let refs: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let params =
            SamplingParamsBuilder { temperature: 0.0, max_new_tokens: 24, logps: true, ..Default::default() }
                .check()
                .unwrap();
        let requests = requests(&refs);
        let mut policy = open(model, &EngineOptions { generation_batch: 5, ..options() });
        let together = policy.sample(&requests, &params).unwrap();
        for (request, sample) in requests.iter().zip(&together) {
            let sample = sample.as_ref().unwrap();
            let alone = policy.sample(std::slice::from_ref(request), &params).unwrap().remove(0).unwrap();
            let (a, b) = (sample.logps.as_ref().unwrap(), alone.logps.as_ref().unwrap());
            let same = a.iter().zip(b).take_while(|(a, b)| (*a - *b).abs() < 1e-4).count();
            assert!(same == a.len().min(b.len()), "{model}: {a:?} {b:?}");
            assert_eq!(sample.token_ids, alone.token_ids, "{model}");
        }
    }
}

#[test]
fn saving_over_another_layout_leaves_none_of_its_weights() {
    // The first model comes in several shards with an index, the second in one file.
    let dir = tempfile::tempdir().unwrap();
    let sharded = open("mistral-window", &options());
    sharded.save(dir.path()).unwrap();
    assert!(dir.path().join("model.safetensors.index.json").is_file());
    let single = open("mistral-f32", &options());
    single.save(dir.path()).unwrap();
    let opened = TorchPolicy::open(dir.path(), &options()).unwrap();
    assert_eq!(opened.weights().unwrap(), single.weights().unwrap());
}
