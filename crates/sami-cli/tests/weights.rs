//! Weight files with a peculiarity, through the command: scored as transformers scores them (fixtures/make_weights.py), or
//! refused by name.
#![allow(missing_docs, clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{World, matrix, text};
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

/// A copy of a fixture's checkpoint in the world's directory `name`.
fn copy(world: &World, model: &str, name: &str) -> PathBuf {
    let to = world.path(name);
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(format!("{FIXTURES}/parity/{model}/checkpoint")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

/// Changes the header and the data of a safetensors file.
fn change(path: &Path, edit: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    edit(&mut header, &mut data);
    let header = header.to_string();
    fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()).unwrap();
}

/// Where a tensor's bytes lie in the data.
fn place(header: &Value, tensor: &str) -> std::ops::Range<usize> {
    let offsets: [usize; 2] = serde_json::from_value(header[tensor]["data_offsets"].clone()).unwrap();
    offsets[0]..offsets[1]
}

/// `sami score` against transformers; what the command said beside it.
fn scores_as_transformers(world: &World, model_dir: &str, case: &str) -> String {
    let all: Value = serde_json::from_slice(&fs::read(format!("{FIXTURES}/weights.json")).unwrap()).unwrap();
    let case = &all["cases"][case];
    let pairs = format!("{FIXTURES}/parity/{}/pairs-c2.jsonl", case["model"].as_str().unwrap());
    fs::copy(pairs, world.path("pairs.jsonl")).unwrap();
    let output = world
        .sami(&format!("score --model {model_dir} --pairs pairs.jsonl --out {model_dir}.scores --dtype f32"));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = world.lines(&format!("{model_dir}.scores"));
    let expected = case["sums"].as_array().unwrap();
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        for (row, expected) in matrix(&line["sum"]).iter().zip(matrix(expected)) {
            for (sum, expected) in row.iter().zip(expected) {
                assert!((sum - expected).abs() <= 1e-4, "{model_dir}: {sum} {expected}");
            }
        }
    }
    said
}

#[test]
fn the_head_of_the_file_is_used_and_not_lost() {
    let world = World::new();
    let dir = copy(&world, "llama-tied", "own-head");
    change(&dir.join("model.safetensors"), |header, data| {
        let embed = "model.embed_tokens.weight";
        let row = 2 * 32;
        let turned: Vec<u8> = data[place(header, embed)].chunks(row).rev().flatten().copied().collect();
        let mut head = header[embed].clone();
        head["data_offsets"] = json!([data.len(), data.len() + turned.len()]);
        data.extend(turned);
        header["lm_head.weight"] = head;
    });
    let said = scores_as_transformers(&world, "own-head", "tied, another head");
    assert!(
        said.contains("config.json ties the head to the embedding, but lm_head.weight is another"),
        "{said}"
    );
    // Exported it is an ordinary untied model.
    world.succeed("export own-head --out exported");
    let config: Value = serde_json::from_str(&world.read("exported/config.json")).unwrap();
    assert_eq!(config["tie_word_embeddings"], false);
    let said = scores_as_transformers(&world, "exported", "tied, another head");
    assert!(!said.contains("ties the head"), "{said}");
    assert!(world.succeed("inspect own-head").contains("head            its own"));
}

#[test]
fn a_stale_index_is_named_and_not_read() {
    let world = World::new();
    copy(&world, "mistral-window", "sharded");
    world.succeed("export sharded --out both --max-shard 1");
    change(&world.path("both/model.safetensors"), |header, data| {
        let at = place(header, "lm_head.weight");
        let row = at.len() / 384;
        let turned: Vec<u8> = data[at.clone()].chunks(row).rev().flatten().copied().collect();
        data[at].copy_from_slice(&turned);
    });
    for entry in fs::read_dir(world.path("sharded")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("model") {
            fs::copy(entry.path(), world.path("both").join(entry.file_name())).unwrap();
        }
    }
    let said = scores_as_transformers(&world, "both", "a single file beside an index");
    assert!(
        said.contains("model.safetensors and model.safetensors.index.json are two sets of weights"),
        "{said}"
    );
}

#[test]
fn names_of_wrapped_models_and_a_value_head() {
    let world = World::new();
    let dir = copy(&world, "mistral-f32", "wrapped");
    change(&dir.join("model.safetensors"), |header, data| {
        let named = std::mem::take(header.as_object_mut().unwrap()).into_iter();
        *header = named
            .map(|(name, tensor)| match name.as_str() {
                "__metadata__" => (name, tensor),
                _ => (format!("module._orig_mod.{name}"), tensor),
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        header["v_head.summary.weight"] =
            json!({"dtype": "F32", "shape": [1, 32], "data_offsets": [data.len(), data.len() + 128]});
        data.extend([0; 128]);
    });
    let said = scores_as_transformers(&world, "wrapped", "a value head");
    assert!(
        said.contains("left out, since a language model has no such head: v_head.summary.weight"),
        "{said}"
    );
}

#[test]
fn damaged_and_foreign_weights_are_refused_by_name() {
    let world = World::new();
    let damaged = |name: &str, number: f32| {
        let dir = copy(&world, "mistral-f32", name);
        change(&dir.join("model.safetensors"), |header, data| {
            let at = place(header, "model.embed_tokens.weight").start + 4 * (300 * 32 + 5);
            data[at..at + 4].copy_from_slice(&number.to_le_bytes());
        });
    };
    damaged("nan", f32::NAN);
    damaged("huge", 1e22);
    let bare = |name: &str, file: &str| {
        let dir = copy(&world, "mistral-f32", name);
        fs::rename(dir.join("model.safetensors"), dir.join(file)).unwrap();
    };
    bare("pickled", "pytorch_model.bin");
    bare("mistrals", "consolidated.safetensors");
    fs::create_dir(world.path("llamas")).unwrap();
    world.write("llamas/model-Q4.gguf", "GGUF");
    fs::copy(format!("{FIXTURES}/parity/mistral-f32/pairs-c2.jsonl"), world.path("pairs.jsonl")).unwrap();
    for (name, expected) in [
        (
            "nan",
            "tensor model.embed_tokens.weight holds NaN at [300, 5] (1 of its 12288 numbers are not finite)",
        ),
        (
            "huge",
            "tensor model.embed_tokens.weight holds 1.000e22 at [300, 5]; no weight of a trained model is",
        ),
        ("pickled", "M.from_pretrained('pickled', dtype='auto').save_pretrained('pickled')"),
        ("mistrals", "consolidated.safetensors is weights in Meta's or Mistral's own layout"),
        ("llamas", "model-Q4.gguf is GGUF, llama.cpp's format"),
    ] {
        for command in ["score --pairs pairs.jsonl --out", "train --pairs pairs.jsonl --steps 1 --out"] {
            let output = world.sami(&format!("{command} {name}.out --model {name}"));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            // Long lines are wrapped where they are shown.
            assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(expected), "{said}");
        }
    }
}
