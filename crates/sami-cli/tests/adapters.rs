//! Adapters of PEFT at the level of the command: `sami score` and `sami export`, held against fixtures/adapters.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{World, text};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").canonicalize().unwrap()
}

/// Puts an adapter and the first contrast sets of its base into the world; returns what PEFT computes.
fn bring(world: &World, name: &str, field: Option<(&str, Value)>) -> Vec<f64> {
    let from = fixtures().join("adapters").join(name);
    std::fs::create_dir_all(world.path("adapter")).unwrap();
    std::fs::copy(from.join("adapter_model.safetensors"), world.path("adapter/adapter_model.safetensors"))
        .unwrap();
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let expected = &read(&fixtures().join("adapters/expected.json"))["adapters"][name];
    let base = fixtures().join("parity").join(expected["base"].as_str().unwrap());
    let mut config = read(&from.join("adapter_config.json"));
    config["base_model_name_or_path"] = base.join("checkpoint").to_str().unwrap().into();
    if let Some((field, value)) = field {
        config[field] = value;
    }
    world.write("adapter/adapter_config.json", &config.to_string());
    let pairs = std::fs::read_to_string(base.join("pairs-c2.jsonl")).unwrap();
    world.write("pairs.jsonl", &pairs.split_inclusive('\n').take(2).collect::<String>());
    expected["sums"].as_array().unwrap().iter().map(|sum| sum.as_f64().unwrap()).collect()
}

fn scores(world: &World, model: &str, out: &str) -> Vec<f64> {
    world.succeed(&format!("score --model {model} --pairs pairs.jsonl --out {out}"));
    let rows = |line: &Value| -> Vec<f64> {
        let rows = line["sum"].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap().iter().map(|sum| sum.as_f64().unwrap())).collect()
    };
    world.lines(out).iter().flat_map(rows).collect()
}

#[test]
fn adapters_score_and_export_as_in_peft() {
    let apart = |a: &[f64], b: &[f64]| -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    for name in ["lookahead", "patterns", "saved-embeddings-tied", "target-head-tied", "mixtral-experts"] {
        let world = World::new();
        let expected = bring(&world, name, None);
        let found = scores(&world, "adapter", "a.jsonl");
        assert!(apart(&found, &expected) < 1e-4, "{name}: {}", apart(&found, &expected));
        world.succeed("export adapter --out merged");
        let found = scores(&world, "merged", "b.jsonl");
        assert!(apart(&found, &expected) < 1e-4, "{name}, exported: {}", apart(&found, &expected));
        // A base whose head was tied has two tensors now where the adapter tells them apart, and says so.
        let config: Value = serde_json::from_str(&world.read("merged/config.json")).unwrap();
        let tied = name == "saved-embeddings-tied";
        assert_eq!(config["tie_word_embeddings"] == true, tied, "{name}");
    }
}

#[test]
fn adapters_that_mean_something_else_are_refused_by_name() {
    let cases = [
        ("init_lora_weights", "pissa".into(), "its initialisation changes the base's weights"),
        ("alora_invocation_tokens", [3, 5].as_slice().into(), "the adapter works only after certain tokens"),
        ("use_dora", true.into(), "the adapted weights' rows are scaled (DoRA)"),
        ("a_field_of_tomorrow", 1.into(), "it is not known here"),
        ("lora_alpha", 0.into(), "expected a positive number"),
    ];
    for (field, value, expected) in cases {
        let world = World::new();
        bring(&world, "patterns", Some((field, value)));
        for command in
            ["score --model adapter --pairs pairs.jsonl --out s.jsonl", "export adapter --out merged"]
        {
            let output = world.sami(command);
            let said = text(&output.stderr);
            assert!(
                !output.status.success() && said.contains(&format!("field \"{field}\" is")),
                "{command}: {said}"
            );
            assert!(said.contains(expected), "{command}: {said}");
        }
        assert!(!world.path("merged").exists());
    }
}

#[test]
fn an_adapter_beside_a_whole_model_is_not_passed_over() {
    let world = World::new();
    let expected = bring(&world, "patterns", None);
    let base = fixtures().join("parity/qwen3/checkpoint");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(base.join(file), world.path("adapter").join(file)).unwrap();
    }
    for (found, expected) in scores(&world, "adapter", "a.jsonl").iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn an_adapter_is_inspected_and_trained_on() {
    for (name, low_rank, whole) in [("patterns", 6, 0), ("whole-modules", 2, 11), ("tied-head", 2, 1)] {
        let world = World::new();
        bring(&world, name, None);
        let said = world.succeed("inspect adapter");
        let changes = format!("changes         {low_rank} modules by low rank, {whole} tensors whole");
        assert!(said.contains(&changes), "{name}: {said}");
        world.succeed("inspect adapter --plan");

        let before = scores(&world, "adapter", "before.jsonl");
        world.succeed(
            "train --model adapter --pairs pairs.jsonl --out trained --steps 1 --batch-size 2 --lr 1e-2",
        );
        assert!(world.path("trained/adapter_config.json").is_file(), "{name}");
        let trained = scores(&world, "trained", "trained.jsonl");
        assert!(before.iter().zip(&trained).all(|(before, trained)| before != trained), "{name}");
        world.succeed("export trained --out merged");
        for (found, expected) in scores(&world, "merged", "merged.jsonl").iter().zip(trained) {
            assert!((found - expected).abs() < 1e-4, "{name}: {found} {expected}");
        }
    }
}

#[test]
fn a_tokenizer_and_a_template_beside_an_adapter_do_not_go_unused_without_a_word() {
    let world = World::new();
    bring(&world, "lookahead", None);
    let base = fixtures().join("parity/qwen3/checkpoint/tokenizer.json");
    let tokenizer = std::fs::read_to_string(base).unwrap();
    world.write("adapter/tokenizer.json", &tokenizer);
    let score = "score --model adapter --pairs pairs.jsonl --out s.jsonl";
    let said = text(&world.sami(score).stderr).to_owned();
    assert!(!said.contains("is used") && !said.contains("not used"), "{said}");

    let mut other: Value = serde_json::from_str(&tokenizer).unwrap();
    other["normalizer"] = serde_json::json!({"type": "Lowercase"});
    world.write("adapter/tokenizer.json", &other.to_string());
    world.write("adapter/chat_template.jinja", "{{ messages[0].content }}");
    let said = text(&world.sami(score).stderr).to_owned();
    assert!(said.contains("adapter/tokenizer.json: not the tokenizer of the base; that of "), "{said}");
    assert!(said.contains("adapter/chat_template.jinja: this chat template is not used"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_that_is_gone_is_no_absent_file() {
    let world = World::new();
    let base = fixtures().join("parity/qwen3/checkpoint");
    std::fs::create_dir(world.path("linked")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(base.join(file), world.path("linked").join(file)).unwrap();
    }
    world.succeed("inspect linked");
    for file in ["tokenizer_config.json", "generation_config.json"] {
        let link = world.path("linked").join(file);
        std::os::unix::fs::symlink("../blobs/0", &link).unwrap();
        let output = world.sami("inspect linked");
        assert!(!output.status.success() && text(&output.stderr).contains(file), "{file}");
        std::fs::remove_file(link).unwrap();
    }
}
