//! Adapters against PEFT 0.21.2 and transformers 5.23 (fixtures/adapters, made by fixtures/make_adapters.py): refused by name, or
//! equal to what PEFT computes, unmerged, saved again and merged.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use sami_policy::{ContrastPolicy, PolicyProvider, Start, TrainablePolicy};
use sami_torch::{Dtype, EngineOptions, Error, TorchPolicy, TorchProvider};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nats per response.
const APART: f64 = 1e-4;

fn adapter(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    bring_adapter(name, dir.path());
    dir
}

fn change(adapter: &Path, fields: &Value) {
    let path = adapter.join("adapter_config.json");
    let mut config = json(&path);
    for (field, value) in fields.as_object().unwrap() {
        config[field] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
}

/// Sums of the first sets, as the fixtures have them.
fn sums(policy: &mut TorchPolicy, base: &str) -> Vec<f64> {
    let sets = sets(base, "pairs-c2.jsonl");
    policy.score(&sets[..2]).unwrap().iter().flat_map(|logps| flat(&logps.sum_logps)).collect()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn scores_are_pefts_unmerged_saved_again_and_merged() {
    let served = adapters();
    assert_eq!(served.len(), 23);
    for AdapterCase { name, base, sums: expected } in served {
        let dir = adapter(&name);
        let open =
            |dir: &Path| TorchPolicy::open(dir, &options()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut policy = open(dir.path());
        let found = sums(&mut policy, &base);
        assert!(apart(&found, &expected) < APART, "{name}: {}", apart(&found, &expected));
        let plain = sums(&mut common::open(&base, &options()), &base);
        assert!(apart(&plain, &expected) > 0.5, "{name} changes nothing");

        let saved = dir.path().join("saved");
        policy.save(&saved).unwrap();
        let again = sums(&mut open(&saved), &base);
        assert!(apart(&again, &found) < 1e-6, "{name}, saved: {}", apart(&again, &found));

        let mut merged = policy.merge_adapters().unwrap();
        let found = sums(&mut merged, &base);
        assert!(apart(&found, &expected) < APART, "{name}, merged: {}", apart(&found, &expected));
        merged.save(&dir.path().join("merged")).unwrap();
        let found = sums(&mut open(&dir.path().join("merged")), &base);
        assert!(apart(&found, &expected) < APART, "{name}, exported: {}", apart(&found, &expected));
    }
}

/// Every changed field either means what PEFT computes, or is refused in words that name it.
#[test]
fn changed_fields_are_refused_by_name_or_mean_what_peft_computes() {
    let expected = json(&adapter_fixtures().join("expected.json"));
    let (mut refused, mut equal) = (0, 0);
    for variant in expected["variants"].as_array().unwrap() {
        let (name, fields) = (variant["adapter"].as_str().unwrap(), &variant["fields"]);
        let dir = adapter(name);
        change(dir.path(), fields);
        match TorchPolicy::open(dir.path(), &options()) {
            Ok(mut policy) => {
                assert!(variant["refused"].is_null(), "{name} {fields}: {}", variant["refused"]);
                let base = expected["adapters"][name]["base"].as_str().unwrap();
                let found = apart(&sums(&mut policy, base), &numbers(&variant["sums"]));
                assert!(found < APART, "{name} {fields}: {found}");
                equal += 1;
            }
            Err(error @ Error::Adapter { .. }) => {
                let message = error.to_string();
                let named = |field: &String| message.contains(&format!("\"{field}\""));
                // Where the file's tensors show that something is amiss, they are named.
                let tensors = message.contains("adapter_model.safetensors ");
                let fields = fields.as_object().unwrap();
                assert!(tensors || fields.keys().any(named), "{name} {fields:?}: {message}");
                refused += 1;
            }
            Err(error) => panic!("{name} {fields}: {error}"),
        }
    }
    println!("{equal} equal, {refused} refused");
    assert!(equal >= 25 && refused >= 30, "{equal} equal, {refused} refused");
}

/// The adapter's tensors, changed and written again in f32.
fn rewrite(adapter: &Path, edit: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>)) {
    let path = adapter.join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = tensors(&path);
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    let mut all = values.iter().map(|(name, values)| (name.clone(), (shape(name), narrow(values)))).collect();
    edit(&mut all);
    let raw: Vec<(String, Vec<usize>, Vec<u8>)> = all
        .into_iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = raw.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
}

fn refusal(adapter: &Path) -> String {
    TorchPolicy::open(adapter, &options()).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn every_tensor_is_used_or_named() {
    const A: &str = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
    type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;
    type Edit = fn(&mut Tensors);
    let cases: [(&str, Edit, &str); 7] = [
        (
            "lookahead",
            |all| drop(all.remove(A)),
            "lacks base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
        ),
        (
            "lookahead",
            |all| drop(all.insert("base_model.model.score.weight".into(), (vec![1], vec![1.0]))),
            "holds 1 tensors that adapter_config.json does not account for, such as base_model.model.score.weight",
        ),
        (
            "lookahead",
            |all| drop(all.insert(A.replace("lora_A.weight", "lora_magnitude_vector"), (vec![1], vec![1.0]))),
            "such as base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector",
        ),
        (
            "lookahead",
            |all| all.get_mut(A).unwrap().1[3] = f32::NAN,
            "q_proj.lora_A.weight holds NaN at [0, 3]",
        ),
        ("lookahead", |all| all.get_mut(A).unwrap().1[30] = f32::NEG_INFINITY, "holds -inf at [1, 6]"),
        (
            "saved-embeddings",
            |all| {
                let (shape, values) = all.get_mut("base_model.model.lm_head.weight").unwrap();
                shape[0] += 1;
                values.extend([0.5; 24]);
            },
            "tensor base_model.model.lm_head.weight has shape [385, 24], but with this base and rank it must have [384, 24]",
        ),
        (
            "saved-embeddings-tied",
            |all| all.get_mut("base_model.model.lm_head.weight").unwrap().1[0] += 1.0,
            "the base ties embedding and head, but the adapter brings base_model.model.model.embed_tokens.weight and",
        ),
    ];
    for (name, edit, expected) in cases {
        let dir = adapter(name);
        rewrite(dir.path(), edit);
        let message = refusal(dir.path());
        assert!(message.contains(expected), "{name}: {message:?} should contain {expected:?}");
    }
    let dir = adapter("lookahead");
    std::fs::rename(dir.path().join("adapter_model.safetensors"), dir.path().join("adapter_model.bin"))
        .unwrap();
    assert!(refusal(dir.path()).contains("there is no adapter_model.safetensors here"));
}

/// The same adapter over another base than its own.
#[test]
fn another_base_is_refused_by_a_tensor_that_shows_it() {
    let dir = adapter("all-linear");
    change(dir.path(), &json!({"base_model_name_or_path": fixture("llama-tied").join("checkpoint")}));
    assert!(refusal(dir.path()).contains("the adapter was made for another base"), "{}", refusal(dir.path()));
}

/// `modules_to_save` are trained as a whole, and nothing else of the base is.
#[test]
fn whole_modules_train_on_and_low_rank_heads_do_not() {
    let dir = adapter("tied-head");
    let provider = TorchProvider::new(&fixture("llama-tied").join("checkpoint"), options()).unwrap();
    let mut policy = provider.policy(Start::Checkpoint(dir.path())).unwrap();
    let sets = sets("llama-tied", "pairs-c2.jsonl");
    let before: BTreeMap<_, _> = policy.weights().unwrap().into_iter().collect();
    accumulate(&mut policy, &sets[..2]);
    policy.optimizer_step(1.0).unwrap();
    for (name, values) in policy.weights().unwrap() {
        assert_eq!(values != before[&name], name.starts_with("base_model.model."), "{name}");
    }
    let trained = sums(&mut policy, "llama-tied");
    policy.save(&dir.path().join("trained")).unwrap();
    let mut opened = TorchPolicy::open(&dir.path().join("trained"), &options()).unwrap();
    assert!(apart(&sums(&mut opened, "llama-tied"), &trained) < 1e-6);

    let dir = adapter("target-head");
    let provider = TorchProvider::new(&fixture("qwen3").join("checkpoint"), options()).unwrap();
    let message = provider.policy(Start::Checkpoint(dir.path())).err().unwrap().to_string();
    assert!(message.contains("it adapts lm_head by a low-rank update, which can be scored"), "{message}");
    assert!(provider.sampler(Start::Checkpoint(dir.path())).is_ok());
}

#[test]
fn in_bf16_what_rounding_takes_away_comes_back_when_merged() {
    let dir = adapter("whole-modules");
    let expected =
        numbers(&json(&adapter_fixtures().join("expected.json"))["adapters"]["whole-modules"]["sums"]);
    let options = sami_torch::EngineOptions { dtype: Dtype::Bf16, ..options() };
    let merged = TorchPolicy::open(dir.path(), &options).unwrap().merge_adapters().unwrap();
    merged.save(&dir.path().join("merged")).unwrap();
    let mut opened = TorchPolicy::open(&dir.path().join("merged"), &common::options()).unwrap();
    let found = sums(&mut opened, "qwen3");
    assert!(apart(&found, &expected) < APART, "{}", apart(&found, &expected));
}

#[test]
fn an_adapter_as_the_base_gets_no_second_one() {
    let dir = adapter("all-linear");
    let lora = EngineOptions { lora: Some(Default::default()), ..options() };
    let message = TorchProvider::new(dir.path(), lora).err().unwrap().to_string();
    assert!(message.contains("is an adapter, which goes on training as it is"), "{message}");
}
