//! Configurations that people have, against transformers (fixtures/configs/expected.json, made by
//! fixtures/make_configs.py): each is read as transformers reads it, to the same log-probabilities,
//! or refused by the name of the field.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::*;
use sami_policy::ContrastPolicy;
use sami_torch::{ModelConfig, TorchPolicy};
use serde_json::{Map, Value, json};

/// Nats per response.
const LIMIT: f64 = 1e-4;

fn cases() -> (Value, Vec<Value>) {
    let mut file = json(&fixtures().join("../configs/expected.json"));
    let cases = std::mem::take(file["cases"].as_array_mut().unwrap());
    (file["bases"].take(), cases)
}

/// The case's `config.json`.
fn changed(case: &Value) -> Value {
    let base = case["base"].as_str().unwrap();
    let mut config = json(&fixture(base).join("checkpoint/config.json"));
    let fields = config.as_object_mut().unwrap();
    for field in case["drop"].as_array().into_iter().flatten() {
        fields.remove(field.as_str().unwrap()).unwrap();
    }
    fields.extend(case["set"].as_object().cloned().unwrap_or_default());
    config
}

/// What transformers found: the case's own, else that of its base.
fn found<'a>(case: &'a Value, bases: &'a Value, part: &str) -> Option<&'a Value> {
    match case.get(part)? {
        Value::String(_) => Some(&bases[case["base"].as_str().unwrap()][part]),
        own => Some(own),
    }
}

/// A checkpoint with the base's files and this configuration.
fn checkpoint(base: &str, config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(base).join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("config.json") {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::write(dir.path().join("config.json"), config).unwrap();
    dir
}

fn score(dir: &Path, base: &str) -> Result<Vec<f64>, sami_torch::Error> {
    let mut policy = TorchPolicy::open(dir, &options())?;
    let set = sets(base, "pairs-c2.jsonl").remove(0);
    Ok(flat(&policy.score(&[set])?[0].sum_logps))
}

#[test]
fn settings_are_those_of_transformers() {
    let (bases, cases) = cases();
    let mut seen = 0;
    for case in cases.iter().filter(|case| case.get("refused").is_none()) {
        let Some(own) = case.get("settings") else { continue };
        let mut expected: Map<String, Value> =
            bases[case["base"].as_str().unwrap()]["settings"].as_object().unwrap().clone();
        expected.extend(own.as_object().cloned().unwrap_or_default());
        let config = match ModelConfig::parse(&changed(case)) {
            Ok(config) => serde_json::to_value(config).unwrap(),
            // Defaults that do not go together; transformers fails on them when it makes the model.
            Err(_) if case.get("sums").is_none() => continue,
            Err(error) => panic!("{}: {error}", case["name"]),
        };
        for (field, expected) in expected {
            let same = match (config[&field].as_f64(), expected.as_f64()) {
                (Some(ours), Some(expected)) => ours == expected,
                _ => config[&field] == expected,
            };
            assert!(same, "{}: {field} is {}, not {expected}", case["name"], config[&field]);
        }
        seen += 1;
    }
    assert!(seen > 500, "{seen}");
}

#[test]
fn scores_are_those_of_transformers() {
    let (bases, cases) = cases();
    // Scores follow from the configuration alone: each one is computed once.
    let mut known: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut seen = 0;
    for case in cases.iter().filter(|case| case.get("refused").is_none()) {
        let Some(expected) = found(case, &bases, "sums") else { continue };
        let base = case["base"].as_str().unwrap();
        let value = changed(case);
        let config = ModelConfig::parse(&value).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        let key = format!("{base} {config:?}");
        let ours = known.entry(key).or_insert_with(|| {
            let dir = checkpoint(base, &value.to_string());
            score(dir.path(), base).unwrap_or_else(|error| panic!("{}: {error}", case["name"]))
        });
        let expected: Vec<f64> = expected
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .map(|v| v.as_f64().unwrap())
            .collect();
        assert_eq!(ours.len(), expected.len());
        for (ours, expected) in ours.iter().zip(&expected) {
            assert!((ours - expected).abs() <= LIMIT, "{}: {ours}, not {expected}", case["name"]);
        }
        seen += 1;
    }
    assert!(seen > 500 && known.len() > 50, "{seen} {}", known.len());
}

#[test]
fn what_is_refused_is_refused_by_name() {
    let (_, cases) = cases();
    let mut seen = 0;
    for case in &cases {
        let Some(field) = case.get("refused").and_then(Value::as_str) else { continue };
        let message = match ModelConfig::parse(&changed(case)) {
            Ok(_) => panic!("{} is read, and should be refused for {field}", case["name"]),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(&format!("field \"{field}\" ")), "{}: {message}", case["name"]);
        seen += 1;
    }
    assert!(seen > 300, "{seen}");
}

/// Tensors that do not fit, in transformers and here.
#[test]
fn defaults_that_do_not_fit_the_weights_are_refused() {
    let (_, cases) = cases();
    let unreadable = |case: &&Value| case.get("refused").is_none() && case.get("sums").is_none();
    let mut seen = 0;
    for case in cases.iter().filter(unreadable) {
        let base = case["base"].as_str().unwrap();
        let dir = checkpoint(base, &changed(case).to_string());
        assert!(score(dir.path(), base).is_err(), "{} is read", case["name"]);
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn a_byte_order_mark_and_numbers_that_json_lacks_do_no_harm_where_nobody_reads() {
    let base = "llama-tied";
    let expected = score(&fixture(base).join("checkpoint"), base).unwrap();
    let text = fs::read_to_string(fixture(base).join("checkpoint/config.json")).unwrap();
    let with_numbers = text.replacen('{', "{\"colour\": NaN, \"shades\": [Infinity, -Infinity],", 1);
    let dir = checkpoint(base, &format!("\u{feff}{with_numbers}"));
    for file in ["generation_config.json", "tokenizer_config.json"] {
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).unwrap().replacen('{', "{\"colour\": NaN,", 1);
        fs::write(path, format!("\u{feff}{text}")).unwrap();
    }
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, format!("\u{feff}{}", fs::read_to_string(&path).unwrap())).unwrap();
    assert_eq!(score(dir.path(), base).unwrap(), expected);
    let stop = sami_torch::inspect(dir.path()).unwrap().stop_tokens;
    assert_eq!(stop.iter().map(|token| token.id).collect::<Vec<_>>(), [2]);

    // What is saved can be read by everybody.
    let saved = tempfile::tempdir().unwrap();
    let policy = TorchPolicy::open(dir.path(), &options()).unwrap();
    sami_policy::TrainablePolicy::save(&policy, saved.path()).unwrap();
    assert_eq!(json(&saved.path().join("config.json"))["colour"], json!({"__float__": "NaN"}));

    let dir = checkpoint(base, &text.replace("1e-05", "NaN"));
    let message = score(dir.path(), base).unwrap_err().to_string();
    let expected =
        "config.json: field \"rms_norm_eps\" is {\"__float__\":\"NaN\"}; expected a positive number";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn noise_of_training_is_noted_and_changes_no_score() {
    let mut config = json(&fixture("mixtral").join("checkpoint/config.json"));
    config["attention_dropout"] = json!(0.1);
    config["router_jitter_noise"] = json!(0.01);
    let read = ModelConfig::parse(&config).unwrap();
    assert_eq!(read.notes, Vec::<String>::new());
    assert_eq!(
        read.training_notes,
        [
            "attention_dropout is 0.1; training here goes without it",
            "router_jitter_noise is 0.01; training here goes without it"
        ]
    );
    config["attention_dropout"] = json!("a little");
    let message = ModelConfig::parse(&config).unwrap_err().to_string();
    assert_eq!(message, "field \"attention_dropout\" is \"a little\"; expected a number");
}

#[test]
fn what_transformers_passes_over_is_noted() {
    let mut config = json(&fixture("llama-tied").join("checkpoint/config.json"));
    config["rope_parameters"] = json!({"rope_theta": 1e6, "rope_type": "default"});
    assert_eq!(ModelConfig::parse(&config).unwrap().notes, Vec::<String>::new());
    config["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
    config["architectures"] = json!(["LlamaForSequenceClassification"]);
    assert_eq!(
        ModelConfig::parse(&config).unwrap().notes,
        [
            "rope_scaling takes the place of rope_parameters as a whole, as in transformers; leave one out",
            "architectures names a classifier; it is read as a language model"
        ]
    );
}

#[test]
fn what_is_saved_speaks_one_dialect() {
    let mut config = json(&fixture("llama-tied").join("checkpoint/config.json"));
    config["rope_parameters"] = json!({"rope_theta": 1e6, "rope_type": "default"});
    config["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
    let dir = checkpoint("llama-tied", &config.to_string());
    let policy = TorchPolicy::open(dir.path(), &options()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    sami_policy::TrainablePolicy::save(&policy, saved.path()).unwrap();
    let config = json(&saved.path().join("config.json"));
    assert_eq!(config.get("rope_parameters"), None);
    let read = ModelConfig::parse(&config).unwrap();
    assert_eq!((read.rope_scaling, read.notes.len()), (policy.config().rope_scaling.clone(), 0));
}
