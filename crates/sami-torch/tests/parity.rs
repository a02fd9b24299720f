//! Parity with PyTorch 2.11 + transformers 5 (fixtures/parity, made by fixtures/make_parity.py).
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use sami_core::mutual_information;
use sami_policy::{
    ContrastPolicy, FinishReason, SampleRequest, Sampler, SamplingParamsBuilder, StreamKey, TrainablePolicy,
};

#[test]
fn logits_agree() {
    for model in MODELS {
        let mut policy = open(model, &options());
        let expected_tensors = tensors(&fixture(model).join("logits.safetensors"));
        let texts = expected(model)["logits"].as_array().unwrap().clone();
        assert!(!texts.is_empty());
        for (index, entry) in texts.iter().enumerate() {
            let logits = policy.prompt_logits(entry["text"].as_str().unwrap()).unwrap().concat();
            let expected = &expected_tensors[&format!("{index}.logits")];
            assert_eq!(logits.len(), expected.len());
            let worst =
                logits.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 2e-5, "{model}: {worst}");
        }
    }
}

#[test]
fn matrices_loss_and_mutual_information_agree() {
    for model in MODELS {
        let mut policy = open(model, &options());
        let expected_tensors = tensors(&fixture(model).join("matrices.safetensors"));
        for label in ["c2", "c4"] {
            let sets = sets(model, &format!("pairs-{label}.jsonl"));
            let scores = policy.score(&sets).unwrap();
            for (index, logps) in scores.iter().enumerate() {
                let expected = |name: &str| &expected_tensors[&format!("{label}.{index}.{name}")];
                let tokens: Vec<f64> = logps.tokens.iter().map(|&t| t as f64).collect();
                assert_eq!(&tokens, expected("tokens"), "{model} {label} {index}");
                let worst = per_token(logps, expected("sum_f32")).max(per_token(logps, expected("sum_f64")));
                assert!(worst <= 1e-5, "{model} {label} {index}: {worst}");
                let mi = mutual_information(logps.sum_logps.view()).unwrap();
                let expected_mi = &common::expected(model)[label]["mi_f64"][index];
                for (got, name) in [
                    (mi.constitutions, "constitutions"),
                    (mi.responses, "responses"),
                    (mi.two_sided, "two_sided"),
                ] {
                    let expected = expected_mi[name].as_f64().unwrap();
                    assert!(
                        (got - expected).abs() <= 1e-3,
                        "{model} {label} {index} {name}: {got} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn gradients_of_every_parameter_agree() {
    for model in MODELS {
        let expected_tensors = tensors(&fixture(model).join("gradients.safetensors"));
        for label in ["c2", "c4"] {
            let prefix = format!("{label}.");
            if !expected_tensors.keys().any(|name| name.starts_with(&prefix)) {
                assert_eq!(label, "c4", "{model} lacks its C = 2 gradients");
                continue;
            }
            let mut policy = open(model, &options());
            let loss = accumulate(&mut policy, &sets(model, &format!("pairs-{label}.jsonl")));
            let expected_loss = expected(model)["gradients"][label]["mean_loss_f32"].as_f64().unwrap();
            assert!((loss - expected_loss).abs() <= 1e-5, "{model} {label}: {loss} {expected_loss}");
            for (name, grad) in policy.gradients().unwrap() {
                let apart = relative(&wide(&grad), &expected_tensors[&format!("{prefix}{name}")]);
                assert!(apart <= 1e-4, "{model} {label} {name}: {apart}");
            }
        }
    }
}

#[test]
fn three_steps_end_to_end_agree() {
    let mut seen = 0;
    for model in MODELS {
        let path = fixture(model).join("update.safetensors");
        if !path.is_file() {
            continue;
        }
        seen += 1;
        let expected_tensors = tensors(&path);
        let losses = expected(model)["update"]["loss_f32"].clone();
        let mut policy = open(model, &options());
        let before = policy.weights().unwrap();
        let sets = sets(model, "pairs-c2.jsonl");
        for step in 0..3 {
            let batch: Vec<_> = (0..2).map(|i| sets[(step * 2 + i) % sets.len()].clone()).collect();
            let loss = accumulate(&mut policy, &batch);
            let expected = losses[step].as_f64().unwrap();
            assert!((loss - expected).abs() <= 1e-4, "{model} step {step}: {loss} {expected}");
            let report = policy.optimizer_step(1.0).unwrap();
            assert!((report.update_kept - 1.0).abs() < 0.05, "{model}: {report:?}");
        }
        for precision in ["f32", "f64"] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for ((name, after), (_, before)) in policy.weights().unwrap().iter().zip(&before) {
                ours.extend(after.iter().zip(before).map(|(a, b)| f64::from(a - b)));
                theirs.extend(&expected_tensors[&format!("{precision}.{name}")]);
            }
            let apart = relative(&ours, &theirs);
            assert!(apart <= 2e-3, "{model} {precision}: {apart}");
        }
    }
    assert!(seen >= 1, "no update fixtures were found");
}

#[test]
fn greedy_continuations_agree_token_for_token() {
    for model in MODELS {
        let mut policy = open(model, &options());
        let expected = expected(model);
        let cases = expected["greedy"].as_array().unwrap();
        let requests: Vec<SampleRequest> = cases
            .iter()
            .map(|case| SampleRequest {
                prompt: case["prompt"].as_str().unwrap().to_owned(),
                stream: StreamKey::new(0, 0, 0, 0),
            })
            .collect();
        let longest = cases.iter().map(|c| c["tokens"].as_array().unwrap().len()).max().unwrap();
        let params = SamplingParamsBuilder { max_new_tokens: longest, logps: true, ..Default::default() }
            .check()
            .unwrap();
        let samples = policy.sample(&requests, &params).unwrap();
        assert_eq!(samples.len(), cases.len());
        for (sample, case) in samples.iter().zip(cases) {
            let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
            let gaps: Vec<f64> = serde_json::from_value(case["gaps"].clone()).unwrap();
            let ours = sample.token_ids.clone().unwrap();
            let apart = ours.iter().zip(&tokens).position(|(a, b)| a != b);
            if let Some(step) = apart {
                assert!(gaps[step] < 1e-4, "{model}: token {step} differs at a gap of {}", gaps[step]);
                continue;
            }
            assert_eq!(ours.len(), tokens.len(), "{model}");
            assert_eq!(sample.text, case["text"].as_str().unwrap(), "{model}");
            let finish = if sample.finish == FinishReason::Eos { "eos" } else { "length" };
            assert_eq!(finish, case["finish"].as_str().unwrap());
            assert_eq!(sample.logps.as_ref().unwrap().len(), ours.len());
        }
    }
}

#[test]
fn sampled_logps_are_those_that_scoring_gives() {
    for model in MODELS {
        let mut policy = open(model, &options());
        let prompt = "Human: Tell me about ladders.\n\nAssistant:".to_owned();
        let request = SampleRequest { prompt: prompt.clone(), stream: StreamKey::new(5, 0, 0, 0) };
        let params =
            SamplingParamsBuilder { max_new_tokens: 20, temperature: 1.0, logps: true, ..Default::default() };
        let sample = policy.sample(&[request], &params.check().unwrap()).unwrap().remove(0);
        let response =
            sami_policy::ContrastResponse { text: sample.text, token_ids: sample.token_ids, constitution: 0 };
        let set = sami_policy::ContrastSet::new("s", vec![prompt], vec![response]).unwrap();
        let scored = policy.score(&[set]).unwrap()[0].sum_logps[[0, 0]];
        let sampled: f64 = sample.logps.unwrap().iter().map(|&logp| f64::from(logp)).sum();
        assert!((scored - sampled).abs() < 1e-4, "{model}: {scored} {sampled}");
    }
}
