//! Damaged and contradictory checkpoints, and input that cannot be scored: each is refused by name.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use sami_policy::{
    ContrastPolicy, ContrastResponse, ContrastSet, RefusalCause, SampleRequest, Sampler,
    SamplingParamsBuilder, StreamKey, TrainablePolicy,
};
use sami_torch::{Device, Dtype, EngineOptions, Precision, TorchPolicy, TorchProvider, inspect};
use serde_json::{Value, json};

/// Rewrites a safetensors header, keeping the data.
fn edit_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut header);
    let header = header.to_string().into_bytes();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(&bytes[8 + length..]);
    fs::write(path, out).unwrap();
}

#[test]
fn damaged_checkpoints_are_refused_by_name() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &[&str]); 20] = [
        (
            "mistral-f32",
            |dir| fs::remove_file(dir.join("config.json")).unwrap(),
            &["config.json", "No such file"],
        ),
        (
            "mistral-f32",
            |dir| fs::write(dir.join("config.json"), "{").unwrap(),
            &["config.json", "not valid JSON"],
        ),
        (
            "mistral-f32",
            |dir| fs::remove_file(dir.join("model.safetensors")).unwrap(),
            &["there is no model.safetensors"],
        ),
        (
            "mistral-f32",
            |dir| {
                let path = dir.join("model.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            "mistral-f32",
            |dir| fs::write(dir.join("model.safetensors"), [255; 64]).unwrap(),
            &["not a whole safetensors file"],
        ),
        ("mistral-f32", |dir| fs::write(dir.join("model.safetensors"), []).unwrap(), &["model.safetensors"]),
        (
            "mistral-f32",
            |dir| {
                edit_header(&dir.join("model.safetensors"), |header| {
                    header["model.norm.weight"]["data_offsets"] = json!([0, 1u64 << 40]);
                });
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            "mistral-f32",
            |dir| {
                edit_header(&dir.join("model.safetensors"), |header| {
                    let tensor = header.as_object_mut().unwrap().remove("lm_head.weight").unwrap();
                    header["head.weight"] = tensor;
                });
            },
            &[
                "the tensors do not fit config.json: 1 is missing (lm_head.weight); 1 is not known (head.weight)",
            ],
        ),
        (
            "mistral-f32",
            |dir| edit(dir, "config.json", |config| config["vocab_size"] = json!(401)),
            &["tensor model.embed_tokens.weight has shape [384, 32], but config.json says [401, 32]"],
        ),
        (
            "mistral-f32",
            |dir| {
                edit_header(&dir.join("model.safetensors"), |header| {
                    header["model.norm.weight"]["dtype"] = json!("I32")
                });
            },
            &["tensor model.norm.weight is I32; weights must be F32, BF16, F16 or F64"],
        ),
        (
            "mistral-window",
            |dir| {
                edit(dir, "model.safetensors.index.json", |index| {
                    index["weight_map"]["model.norm.weight"] = json!("../elsewhere.safetensors");
                });
            },
            &["puts tensor model.norm.weight into \"../elsewhere.safetensors\""],
        ),
        (
            "mistral-window",
            |dir| {
                edit(dir, "model.safetensors.index.json", |index| {
                    let map = index["weight_map"].as_object_mut().unwrap();
                    let other = map.values().find(|file| **file != map["model.norm.weight"]).unwrap().clone();
                    map.insert("model.norm.weight".into(), other);
                });
            },
            &["the index puts tensor model.norm.weight into", "which does not hold it"],
        ),
        (
            // Two tensors over the same bytes.
            "mistral-f32",
            |dir| {
                edit_header(&dir.join("model.safetensors"), |header| {
                    header["model.norm.weight"]["data_offsets"] =
                        header["model.layers.0.input_layernorm.weight"]["data_offsets"].clone();
                });
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            // Fewer bytes than the shape takes.
            "mistral-f32",
            |dir| {
                edit_header(&dir.join("model.safetensors"), |header| {
                    header["model.norm.weight"]["shape"] = json!([64]);
                });
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            // Bytes that belong to no tensor.
            "mistral-f32",
            |dir| {
                let path = dir.join("model.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                bytes.extend([0; 64]);
                fs::write(path, bytes).unwrap();
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            // A header longer than the file.
            "mistral-f32",
            |dir| {
                let path = dir.join("model.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                fs::write(path, bytes).unwrap();
            },
            &["model.safetensors", "not a whole safetensors file"],
        ),
        (
            "mistral-window",
            |dir| {
                edit(dir, "model.safetensors.index.json", |index| {
                    index["weight_map"]["model.norm.weight"] = json!("/somewhere/model.safetensors");
                });
            },
            &[
                "puts tensor model.norm.weight into \"/somewhere/model.safetensors\"; a shard must be a file of",
            ],
        ),
        (
            "mistral-window",
            |dir| edit(dir, "model.safetensors.index.json", |index| index["weight_map"] = json!(["a", "b"])),
            &["model.safetensors.index.json", "\"weight_map\" must map tensor names to file names"],
        ),
        (
            "mistral-f32",
            |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap(),
            &["tokenizer.json: not found"],
        ),
        ("mistral-f32", |dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap(), &["tokenizer.json"]),
    ];
    for (model, damage, expected) in cases {
        let dir = copy(model);
        damage(dir.path());
        let messages = [
            inspect(dir.path()).map(|_| ()).unwrap_err().to_string(),
            TorchPolicy::open(dir.path(), &EngineOptions::default()).map(|_| ()).unwrap_err().to_string(),
        ];
        for message in messages {
            for expected in expected {
                assert!(message.contains(expected), "{message:?} should contain {expected:?}");
            }
        }
    }
}

fn set(prompt: &str, text: &str, token_ids: Option<Vec<u32>>) -> ContrastSet {
    ContrastSet::new(
        "q7",
        vec![prompt.into()],
        vec![ContrastResponse { text: text.into(), token_ids, constitution: 0 }],
    )
    .unwrap()
}

#[test]
fn what_cannot_be_scored_is_refused_by_set() {
    let mut policy = open("mistral-f32", &options());
    let cases = [
        (
            set("Hello", " there", Some(vec![3, 400])),
            "set q7, prompt 0, response 0: token id 400 is outside the model's vocabulary of 384",
        ),
        (set("Hello", " there", Some(vec![5; 2000])), "2001 tokens long, but the model was made for 1024"),
    ];
    for (set, expected) in cases {
        let message = policy.score(&[set]).unwrap_err().to_string();
        let expected = expected.replace("2001 ", "");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn a_prompt_that_cannot_be_continued_is_refused_alone() {
    let request =
        |prompt: &str| SampleRequest { prompt: prompt.to_owned(), stream: StreamKey::new(0, 0, 0, 0) };
    let mut policy = open("mistral-f32", &options());
    let params = SamplingParamsBuilder { max_new_tokens: 40, ..Default::default() }.check().unwrap();
    let long = "Hello ".repeat(2000);
    let requests = [request("Hello"), request(&long), request("Good day")];
    let outcomes = policy.sample(&requests, &params).unwrap();
    let alone = policy.sample(&requests[2..], &params).unwrap();
    assert!(outcomes[0].is_ok() && outcomes[2] == alone[0] && outcomes.len() == 3);
    let refusal = outcomes[1].as_ref().unwrap_err();
    assert_eq!(refusal.cause, RefusalCause::Prompt);
    assert!(refusal.message.starts_with("the prompt"), "{refusal}");
    assert!(refusal.message.contains("tokens long, but the model was made for 1024"), "{refusal}");

    let params = SamplingParamsBuilder { max_new_tokens: 1024, ..Default::default() }.check().unwrap();
    let refusal = policy.sample(&requests[..1], &params).unwrap().remove(0).unwrap_err();
    assert!(refusal.message.starts_with("the prompt with 1024 new tokens is "), "{refusal}");
    // Without BOS an empty prompt has no token to begin from.
    let mut policy = open("mistral-window", &options());
    let params = SamplingParamsBuilder::default().check().unwrap();
    let refusal = policy.sample(&[request("")], &params).unwrap().remove(0).unwrap_err();
    assert_eq!(refusal.message, "the prompt has no tokens; there is nothing to condition on or to score");
}

#[test]
fn a_wrong_gradient_is_refused_and_leaves_the_weights() {
    let mut policy = open("mistral-f32", &options());
    let before = policy.weights().unwrap();
    let sets = sets("mistral-f32", "pairs-c2.jsonl");
    let message = policy
        .contrast_step(&sets, &mut |_, _| Ok(ndarray::Array2::zeros((1, 3)).into()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("(1, 3), but its log-probabilities are (2, 2)"), "{message}");
    let nan =
        &mut |_: usize, _: &sami_policy::SetLogps| Ok(ndarray::Array2::from_elem((2, 2), f64::NAN).into());
    let message = policy.contrast_step(&sets, nan).unwrap_err().to_string();
    assert!(message.contains("set ladder"), "{message}");
    assert_eq!(policy.weights().unwrap(), before);
    assert!(policy.save_state(tempfile::tempdir().unwrap().path()).is_err());
}

#[test]
fn contradictory_options_are_refused_before_anything_is_loaded() {
    let dir = fixture("mistral-f32").join("checkpoint");
    let base = EngineOptions::default();
    let cases = [
        (EngineOptions { precision: Precision::Bf16Pure, ..base.clone() }, "bf16-pure: weights are f32"),
        (
            EngineOptions {
                precision: Precision::Bf16Pure,
                dtype: Dtype::Bf16,
                save_dtype: Some(Dtype::F32),
                ..base.clone()
            },
            "save_dtype: pure bf16",
        ),
        (EngineOptions { token_budget: Some(0), ..base.clone() }, "token_budget: 0"),
        (EngineOptions { generation_batch: 0, ..base.clone() }, "generation_batch: 0"),
        (
            EngineOptions {
                optimizer: sami_torch::OptimizerConfig { lr: -1.0, ..base.optimizer },
                ..base.clone()
            },
            "lr: -1; it must be a positive number",
        ),
        (
            EngineOptions {
                optimizer: sami_torch::OptimizerConfig { eps: 0.0, ..base.optimizer },
                ..base.clone()
            },
            "eps: 0; it must be at least 1.2e-38, since what is smaller is zero in f32",
        ),
        (
            EngineOptions {
                optimizer: sami_torch::OptimizerConfig { eps: 1e-46, ..base.optimizer },
                ..base.clone()
            },
            "it must be at least 1.2e-38",
        ),
    ];
    for (options, expected) in cases {
        let message = TorchProvider::new(&dir, options).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // A device that no machine has.
    let options = EngineOptions { device: Device::Cuda(4096), ..base };
    let message = TorchPolicy::open(&dir, &options).map(|_| ()).unwrap_err().to_string();
    assert!(message.starts_with("device cuda:4096: "), "{message}");
}
