//! Rope kinds and fields beyond the models of fixtures/parity, held against transformers (fixtures/rope.json, made by
//! fixtures/make_rope.py): sequences on both sides of the length of pretraining.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use sami_policy::{
    ContrastPolicy, ContrastResponse, ContrastSet, Sample, SampleRequest, Sampler, SamplingParamsBuilder,
    StreamKey,
};
use sami_torch::{EngineOptions, ModelConfig, TorchPolicy};
use serde_json::{Value, json};

/// The checkpoint of a fixture with other fields in its `config.json`; `null` takes a field away.
fn checkpoint(model: &str, fields: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(model).join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config = json(&path);
    for (field, value) in fields.as_object().unwrap() {
        config[field] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
    dir
}

fn cases() -> (Value, Vec<Value>) {
    let file = json(&fixtures().join("../rope.json"));
    let cases = file["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 18);
    (file, cases)
}

fn strings(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

fn set(prompts: Vec<String>, responses: &[String]) -> ContrastSet {
    let last = prompts.len() - 1;
    let responses = responses.iter().enumerate().map(|(index, text)| ContrastResponse {
        text: text.clone(),
        token_ids: None,
        constitution: index.min(last),
    });
    ContrastSet::new("lengths", prompts, responses.collect()).unwrap()
}

fn greedy(policy: &mut TorchPolicy, prompts: &[String], max_new_tokens: usize) -> Vec<Sample> {
    let request =
        |prompt: &String| SampleRequest { prompt: prompt.clone(), stream: StreamKey::new(0, 0, 0, 0) };
    let params = SamplingParamsBuilder { max_new_tokens, ..Default::default() }.check().unwrap();
    let samples = policy.sample(&prompts.iter().map(request).collect::<Vec<_>>(), &params).unwrap();
    samples.into_iter().map(Result::unwrap).collect()
}

fn refusal(dir: &Path) -> String {
    TorchPolicy::open(dir, &options()).err().unwrap().to_string()
}

#[test]
fn scores_are_those_of_transformers_whatever_else_is_in_the_batch() {
    let (file, cases) = cases();
    let (prompts, responses) = (strings(&file["prompts"]), strings(&file["responses"]));
    for case in cases {
        let name = case["case"].as_str().unwrap();
        let dir = checkpoint(case["checkpoint"].as_str().unwrap(), &case["fields"]);
        let mut policy = TorchPolicy::open(dir.path(), &options()).unwrap();
        let expected: Vec<f64> =
            serde_json::from_value::<Vec<Vec<f64>>>(case["sum"].clone()).unwrap().concat();
        let together = flat(&policy.score(&[set(prompts.clone(), &responses)]).unwrap()[0].sum_logps);
        let mut alone = Vec::new();
        for prompt in &prompts {
            for response in &responses {
                let one = set(vec![prompt.clone()], std::slice::from_ref(response));
                alone.push(policy.score(&[one]).unwrap()[0].sum_logps[[0, 0]]);
            }
        }
        for (entry, expected) in expected.iter().enumerate() {
            let apart = [together[entry], alone[entry]].map(|ours| (ours - expected).abs());
            assert!(
                apart.iter().all(|&apart| apart < 1e-4),
                "{name}, entry {entry}: {apart:?} of {expected}"
            );
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_generate_across_the_switch() {
    let (file, cases) = cases();
    let prompts = strings(&file["prompts"]);
    let new_tokens = file["new_tokens"].as_u64().unwrap() as usize;
    for case in cases {
        let name = case["case"].as_str().unwrap();
        let dir = checkpoint(case["checkpoint"].as_str().unwrap(), &case["fields"]);
        for generation_batch in [1, 8] {
            let options = EngineOptions { generation_batch, ..options() };
            let mut policy = TorchPolicy::open(dir.path(), &options).unwrap();
            // Twice the same prompts: what they share is computed once.
            let twice = [prompts.as_slice(), &prompts].concat();
            let samples = greedy(&mut policy, &twice, new_tokens);
            for (index, sample) in samples.iter().enumerate() {
                let expected = &case["greedy"][index % prompts.len()];
                let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
                let clear = expected["clear"].as_u64().unwrap() as usize;
                let ours = sample.token_ids.as_ref().unwrap();
                assert_eq!(ours.get(..clear), tokens.get(..clear), "{name}, prompt {index}");
            }
        }
    }
}

#[test]
fn the_length_decides_and_it_shows() {
    // The scaling matters beyond the switch and not before it.
    let with = |fields: &Value| {
        let dir = checkpoint("llama-tied", fields);
        let (file, _) = cases();
        let (prompts, responses) = (strings(&file["prompts"]), strings(&file["responses"]));
        let mut policy = TorchPolicy::open(dir.path(), &options()).unwrap();
        policy.score(&[set(prompts, &responses)]).unwrap().remove(0).sum_logps
    };
    let plain = with(&json!({"rope_theta": 1e4, "rope_scaling": null, "max_position_embeddings": 256}));
    let dynamic = with(&json!({
        "rope_theta": 1e4, "rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 64
    }));
    assert_eq!(plain[[0, 0]], dynamic[[0, 0]]);
    assert!((plain[[2, 0]] - dynamic[[2, 0]]).abs() > 0.1);
}

#[test]
fn a_reference_with_other_frequencies_is_refused() {
    let base = json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}});
    let others = [
        json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
        json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}, "rope_theta": 2e4}),
        json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 64}),
    ];
    let (base, others) =
        (checkpoint("llama-tied", &base), others.map(|other| checkpoint("llama-tied", &other)));
    let policy = || TorchPolicy::open(base.path(), &options()).unwrap();
    policy().with_reference(base.path()).unwrap();
    for other in others {
        let message = policy().with_reference(other.path()).err().unwrap().to_string();
        assert!(message.contains("windows or rope fields differ from the policy's"), "{message}");
    }
}

#[test]
fn longest_sequences_follow_the_rope_fields() {
    let longest = |fields: Value| {
        ModelConfig::read(checkpoint("llama-tied", &fields).path()).unwrap().longest_sequence()
    };
    assert_eq!(longest(json!({"max_position_embeddings": 64})), 64);
    let scaled = |scaling: Value| json!({"max_position_embeddings": 64, "rope_scaling": scaling});
    assert_eq!(longest(scaled(json!({"type": "dynamic", "factor": 2.5}))), 160);
    assert_eq!(longest(scaled(json!({"type": "linear", "factor": 4.0}))), 256);
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    assert_eq!(longest(scaled(yarn)), 128);
    let factors = [1.0, 1.0, 1.0, 1.0];
    let longrope = json!({
        "type": "longrope", "short_factor": factors, "long_factor": factors, "original_max_position_embeddings": 16
    });
    assert_eq!(longest(scaled(longrope)), 64);
    // The limit is named.
    let dir = checkpoint("llama-tied", &scaled(json!({"type": "dynamic", "factor": 2.0})));
    let mut policy = TorchPolicy::open(dir.path(), &options()).unwrap();
    let request = SampleRequest { prompt: "Hi".to_owned(), stream: StreamKey::new(0, 0, 0, 0) };
    let params = SamplingParamsBuilder { max_new_tokens: 200, ..Default::default() }.check().unwrap();
    let message = policy.sample(&[request], &params).unwrap().remove(0).unwrap_err().to_string();
    assert!(message.contains("the model was made for 128 (max_position_embeddings, or more"), "{message}");
}

#[test]
fn rope_fields_that_cannot_be_used_are_refused_by_name() {
    let yarn = |field: &str, value: Value| {
        let mut rope = json!({
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64
        });
        rope[field] = value;
        json!({"rope_parameters": rope})
    };
    let longrope = |short: Value| {
        json!({"rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64,
            "short_factor": short, "long_factor": [1.0, 1.0, 1.0, 1.0]
        }})
    };
    let kind = |rope: Value| json!({"rope_parameters": rope});
    let cases = [
        (yarn("factor", json!(0)), "field \"rope_parameters.factor\" is 0; expected a positive number"),
        (yarn("truncate", json!(null)), "field \"rope_parameters.truncate\" is null; expected true or false"),
        (yarn("attention_factor", json!(0.0)), "field \"rope_parameters.attention_factor\" is 0.0"),
        (yarn("beta_fast", json!("32")), "field \"rope_parameters.beta_fast\" is \"32\""),
        (
            yarn("original_max_position_embeddings", json!(null)),
            "field \"rope_parameters.original_max_position_embeddings\" is null",
        ),
        (
            yarn("partial_rotary_factor", json!(0.5)),
            "field \"rope_parameters.partial_rotary_factor\" is 0.5; expected 1",
        ),
        (
            kind(json!({"rope_type": "yarn", "rope_theta": 1e4})),
            "field \"rope_parameters.factor\" is missing",
        ),
        (
            kind(json!({"rope_type": "dynamic", "rope_theta": 1e4})),
            "field \"rope_parameters.factor\" is missing",
        ),
        (longrope(json!([1.0, 1.0])), "field \"rope_parameters.short_factor\" is [1.0,1.0]; expected a list"),
        (longrope(json!([1.0, 1.0, 1.0, "1"])), "field \"rope_parameters.short_factor\" is"),
        (longrope(json!(null)), "field \"rope_parameters.short_factor\" is null; expected a list"),
        (
            kind(json!({"rope_type": "su", "rope_theta": 1e4})),
            "field \"rope_parameters.rope_type\" is \"su\", which is not supported: known are default, linear",
        ),
        (
            kind(json!({"rope_type": "proportional", "rope_theta": 1e4, "partial_rotary_factor": 1.5})),
            "field \"rope_parameters.partial_rotary_factor\" is 1.5; expected a share",
        ),
    ];
    for (fields, expected) in cases {
        let message = refusal(checkpoint("llama3-rope", &fields).path());
        assert!(message.contains(expected), "{message:?} should contain {expected:?}");
    }
}
