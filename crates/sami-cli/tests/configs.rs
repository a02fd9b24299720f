//! Configurations that people have, through the command: scores are those of transformers
//! (fixtures/configs/expected.json), and what is refused is refused by name.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::path::{Path, PathBuf};

use common::{World, matrix, text};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A world with a fixture's checkpoint in `NAME`, its fields dropped and set, and one contrast set in
/// `NAME.jsonl`.
fn add(world: &World, name: &str, base: &str, drop: &Value, set: &Value) {
    let from = fixtures().join("parity").join(base);
    std::fs::create_dir(world.path(name)).unwrap();
    for entry in std::fs::read_dir(from.join("checkpoint")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), world.path(name).join(entry.file_name())).unwrap();
    }
    let mut config = read_json(&from.join("checkpoint/config.json"));
    let fields = config.as_object_mut().unwrap();
    for field in drop.as_array().into_iter().flatten() {
        fields.remove(field.as_str().unwrap());
    }
    fields.extend(set.as_object().unwrap().clone());
    world.write(&format!("{name}/config.json"), &config.to_string());
    let pairs = std::fs::read_to_string(from.join("pairs-c2.jsonl")).unwrap();
    world.write(&format!("{name}.jsonl"), pairs.split_inclusive('\n').next().unwrap());
}

#[test]
fn scores_are_those_of_transformers() {
    let world = World::new();
    let file = read_json(&fixtures().join("configs/expected.json"));
    for (index, name) in [
        "qwen2-tied: layer_types [\"full_attention\", \"sliding_attention\"], use_sliding_window true, \
         sliding_window 16",
        "mistral-f32: rope: scaling, parameters, theta",
        "qwen3: rope: llama3 in both dialects",
        "mixtral: one expert a token",
    ]
    .into_iter()
    .enumerate()
    {
        let case = file["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let model = format!("model-{index}");
        add(&world, &model, case["base"].as_str().unwrap(), &case["drop"], &case["set"]);
        world.succeed(&format!("score --model {model} --pairs {model}.jsonl --out {model}.scores.jsonl"));
        let sums = matrix(&world.lines(&format!("{model}.scores.jsonl"))[0]["sum"]).concat();
        let expected = matrix(&case["sums"]).concat();
        assert_eq!(sums.len(), expected.len());
        for (ours, expected) in sums.iter().zip(&expected) {
            assert!((ours - expected).abs() <= 1e-4, "{name}: {ours}, not {expected}");
        }
    }
}

#[test]
fn inspect_shows_what_the_configuration_means() {
    let world = World::new();
    add(
        &world,
        "qwen",
        "qwen2-tied",
        &Value::Null,
        &json!({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 16,
            "use_sliding_window": true, "rope_scaling": {"type": "linear", "factor": 2.0},
            "attention_dropout": 0.1}),
    );
    let shown = world.succeed("inspect qwen");
    for line in [
        "rope            theta 10000, linear, factor 2.0\n",
        "attention       window of 16 tokens in layers 1 of 2, all earlier tokens in the others\n",
        "note            rope_scaling takes the place of rope_parameters as a whole",
        "note            attention_dropout is 0.1; training here goes without it\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let config = &world.json("inspect qwen")["config"];
    assert_eq!(config["windows"], json!([null, 16]));
    assert_eq!(config["rope_theta"], json!(10_000.0));
}

#[test]
fn what_disagrees_is_refused_with_its_field() {
    let world = World::new();
    for (index, (base, fields, expected)) in [
        (
            "mistral-window",
            json!({"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}),
            "field \"layer_types\" is [\"full_attention\",\"sliding_attention\",\"sliding_attention\"]",
        ),
        (
            "qwen3",
            json!({"layer_types": ["sliding_attention", "full_attention"]}),
            "there is no window for its sliding layers",
        ),
        ("llama-tied", json!({"model_type": "mistral"}), "expected the family that architectures names"),
        ("llama-tied", json!({"rms_norm_eps": null}), "field \"rms_norm_eps\" is null"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("model-{index}");
        add(&world, &name, base, &Value::Null, &fields);
        let output = world.sami(&format!("score --model {name} --pairs {name}.jsonl --out s.jsonl"));
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(&format!("{name}/config.json: field ")), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn noise_of_training_is_said_where_training_begins() {
    let world = World::new();
    add(&world, "llama", "llama-tied", &Value::Null, &json!({"attention_dropout": 0.1}));
    let note = "llama/config.json: attention_dropout is 0.1; training here goes without it";
    let scored = world.sami("score --model llama --pairs llama.jsonl --out s.jsonl");
    assert!(scored.status.success() && !text(&scored.stderr).contains("attention_dropout"), "{scored:?}");
    let trained = world.sami("train --model llama --pairs llama.jsonl --out t --steps 1 --batch-size 1");
    assert!(trained.status.success() && text(&trained.stderr).contains(note), "{trained:?}");
}

#[test]
fn both_dialects_at_once_are_said() {
    let world = World::new();
    add(
        &world,
        "qwen",
        "qwen2-tied",
        &Value::Null,
        &json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
    );
    let scored = world.sami("score --model qwen --pairs qwen.jsonl --out s.jsonl");
    let note =
        "qwen/config.json: rope_scaling takes the place of rope_parameters as a whole, as in transformers";
    assert!(scored.status.success() && text(&scored.stderr).contains(note), "{scored:?}");
}
