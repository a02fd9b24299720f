//! Weight files as people have them: read as transformers reads them (fixtures/make_weights.py), or refused by name.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::weights::{Stored, Tensors, change, read, rename, write};
use common::*;
use safetensors::Dtype;
use sami_policy::ContrastPolicy;
use sami_policy::TrainablePolicy;
use sami_torch::{EngineOptions, TorchPolicy, inspect};
use serde_json::{Value, json};

const EMBED: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const SINGLE: &str = "model.safetensors";

/// What transformers made of a case.
fn case(name: &str) -> Value {
    json(&fixtures().join("../weights.json"))["cases"][name].clone()
}

/// Sums of log-probabilities of a model's sets, flat.
fn sums(dir: &Path, model: &str) -> Vec<f64> {
    let mut policy = TorchPolicy::open(dir, &options()).unwrap();
    let scored = policy.score(&sets(model, "pairs-c2.jsonl")).unwrap();
    scored.iter().flat_map(|logps| flat(&logps.sum_logps)).collect()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Scores equal transformers', and go on doing so after saving and opening again; the saved tensors have the model's names.
fn equals_transformers(dir: &Path, name: &str) {
    let case = case(name);
    let model = case["model"].as_str().unwrap();
    let expected: Vec<f64> = case["sums"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|set| set.as_array().unwrap())
        .flat_map(|row| row.as_array().unwrap())
        .map(|sum| sum.as_f64().unwrap())
        .collect();
    let got = sums(dir, model);
    assert!(apart(&got, &expected) <= 1e-4, "{name}: {got:?} {expected:?}");
    let saved = tempfile::tempdir().unwrap();
    let policy = TorchPolicy::open(dir, &options()).unwrap();
    policy.save(saved.path()).unwrap();
    assert_eq!(sums(saved.path(), model), got, "{name}");
    let mut names: Vec<String> = policy.config().tensors().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(stored(saved.path()).into_keys().collect::<Vec<_>>(), names, "{name}");
    let config = json(&saved.path().join("config.json"));
    assert_eq!(config["tie_word_embeddings"], policy.config().tie_word_embeddings, "{name}");
    assert_eq!(inspect(saved.path()).unwrap().remarks, [""; 0], "{name}");
}

/// Every tensor of a directory.
fn stored(dir: &Path) -> Tensors {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .flat_map(|p| read(&p))
        .collect()
}

fn remarks(dir: &Path) -> String {
    inspect(dir).unwrap().remarks.join("\n")
}

/// What opening it says; the same for `inspect`.
fn refusal(dir: &Path) -> String {
    let message = TorchPolicy::open(dir, &options()).err().unwrap().to_string();
    assert_eq!(inspect(dir).err().unwrap().to_string(), message);
    message
}

#[test]
fn the_head_of_the_file_counts_where_the_configuration_ties_it() {
    let dir = copy("llama-tied");
    change(dir.path(), |tensors| {
        tensors.insert(HEAD.into(), tensors[EMBED].turned());
    });
    equals_transformers(dir.path(), "tied, another head");
    assert!(
        remarks(dir.path()).contains(
            "config.json ties the head to the embedding, but lm_head.weight is another tensor; it is used as the head"
        ),
        "{}",
        remarks(dir.path())
    );

    let dir = copy("llama-tied");
    change(dir.path(), |tensors| {
        tensors.insert(HEAD.into(), tensors[EMBED].clone());
    });
    equals_transformers(dir.path(), "tied, the same head");
    assert!(inspect(dir.path()).unwrap().config.tie_word_embeddings);
    assert_eq!(remarks(dir.path()), "");

    let dir = copy("qwen2-tied");
    change(dir.path(), |tensors| {
        let embed = tensors.remove(EMBED).unwrap();
        tensors.insert(HEAD.into(), embed.turned());
    });
    equals_transformers(dir.path(), "tied, the head alone");

    // transformers draws a head at random here.
    assert_eq!(case("untied, without a head")["missing"], 1);
    let dir = copy("llama-tied");
    edit(dir.path(), "config.json", |config| config["tie_word_embeddings"] = json!(false));
    assert!(
        refusal(dir.path()).contains(
            "there is no lm_head.weight, and config.json does not tie the head to the embedding; if the embedding is \
             the head, say \"tie_word_embeddings\": true"
        ),
        "{}",
        refusal(dir.path())
    );
}

#[test]
fn a_model_whose_head_is_its_own_trains_both_tensors() {
    let dir = copy("llama-tied");
    change(dir.path(), |tensors| {
        tensors.insert(HEAD.into(), tensors[EMBED].turned());
    });
    let mut policy = TorchPolicy::open(dir.path(), &options()).unwrap();
    accumulate(&mut policy, &sets("llama-tied", "pairs-c2.jsonl"));
    policy.optimizer_step(1.0).unwrap();
    let saved = tempfile::tempdir().unwrap();
    policy.save(saved.path()).unwrap();
    let (before, after) = (stored(dir.path()), stored(saved.path()));
    for name in [EMBED, HEAD] {
        let wide = |stored: &Stored| -> Vec<f32> {
            stored.data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        };
        assert_ne!(wide(&before[name]), after[name].values(), "{name}");
    }
}

#[test]
fn of_two_sets_of_weights_the_one_that_transformers_reads_counts() {
    let dir = copy("mistral-window");
    let mut tensors = stored(dir.path());
    let head = tensors[HEAD].turned();
    tensors.insert(HEAD.into(), head);
    write(&dir.path().join(SINGLE), &tensors);
    equals_transformers(dir.path(), "a single file beside an index");
    let said = "model.safetensors and model.safetensors.index.json are two sets of weights; model.safetensors is \
                read, as transformers does: remove the one that is old";
    assert_eq!(remarks(dir.path()), said);

    // The same without the index.
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    equals_transformers(dir.path(), "a single file beside an index");
    assert!(
        remarks(dir.path())
            .starts_with("model.safetensors and model-00001-of-00004.safetensors are two sets of weights"),
        "{}",
        remarks(dir.path())
    );

    let dir = copy("mistral-f32");
    let mut tensors = read(&dir.path().join(SINGLE));
    let head = tensors[HEAD].turned();
    tensors.insert(HEAD.into(), head);
    write(&dir.path().join("other.safetensors"), &tensors);
    edit(dir.path(), "config.json", |config| config["transformers_weights"] = json!("other.safetensors"));
    equals_transformers(dir.path(), "a file that config.json names");
    edit(dir.path(), "config.json", |config| config["transformers_weights"] = json!("../other.safetensors"));
    let message = refusal(dir.path());
    assert!(message.contains("field \"transformers_weights\" is \"../other.safetensors\""), "{message}");

    // A tensor counts although the index does not name it.
    let dir = copy("qwen2-tied");
    let mut tensors = read(&dir.path().join(SINGLE));
    let names: Vec<String> = tensors.keys().cloned().collect();
    let head = tensors[EMBED].turned();
    tensors.insert(HEAD.into(), head);
    fs::remove_file(dir.path().join(SINGLE)).unwrap();
    let shard = "model-00001-of-00001.safetensors";
    write(&dir.path().join(shard), &tensors);
    let map: Value =
        names.into_iter().map(|name| (name, json!(shard))).collect::<serde_json::Map<_, _>>().into();
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    equals_transformers(dir.path(), "a head that the index does not name");
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let dir = copy("mistral-window");
    let path = |number: usize| dir.path().join(format!("model-0000{number}-of-00004.safetensors"));
    let holder = (1..=4).find(|&number| read(&path(number)).contains_key("model.norm.weight")).unwrap();
    let norm = read(&path(holder))["model.norm.weight"].clone();
    let other = if holder == 1 { 2 } else { 1 };
    let mut tensors = read(&path(other));
    tensors.insert("model.norm.weight".into(), norm);
    write(&path(other), &tensors);
    let message = refusal(dir.path());
    let file = |number: usize| format!("model.norm.weight in model-0000{number}-of-00004.safetensors");
    let (first, second) = (file(other.min(holder)), file(other.max(holder)));
    let said = format!("{first} and {second} are both tensor model.norm.weight of the model");
    assert!(message.contains(&said), "{message}");
}

/// Puts the experts of a mixture together as transformers 5 keeps them.
fn fuse(tensors: &mut Tensors) {
    let layers: Vec<String> = (0..2).map(|layer| format!("model.layers.{layer}")).collect();
    for layer in layers {
        let gate = tensors.remove(&format!("{layer}.block_sparse_moe.gate.weight")).unwrap();
        tensors.insert(format!("{layer}.mlp.gate.weight"), gate);
        for (fused, matrices) in [("gate_up_proj", ["w1", "w3"].as_slice()), ("down_proj", &["w2"])] {
            let mut data = Vec::new();
            let mut shape = Vec::new();
            for expert in 0..4 {
                for matrix in matrices {
                    let name = format!("{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight");
                    let part = tensors.remove(&name).unwrap();
                    data.extend(part.data);
                    shape = vec![4, part.shape[0] * matrices.len(), part.shape[1]];
                }
            }
            let stored = Stored { dtype: Dtype::BF16, shape, data };
            tensors.insert(format!("{layer}.mlp.experts.{fused}"), stored);
        }
    }
}

#[test]
fn experts_are_read_one_by_one_and_fused() {
    let dir = copy("mixtral");
    change(dir.path(), fuse);
    let names: Vec<Value> = read(&dir.path().join(SINGLE))
        .into_keys()
        .filter(|name| name.starts_with("model.layers.0.mlp."))
        .map(Value::from)
        .collect();
    assert_eq!(case("fused experts")["names"].as_array().unwrap(), &names);
    equals_transformers(dir.path(), "fused experts");
    assert_eq!(sums(dir.path(), "mixtral"), sums(&fixture("mixtral").join("checkpoint"), "mixtral"));

    let dir = copy("mixtral");
    rename(dir.path(), |name| name.replace("block_sparse_moe", "mlp"));
    equals_transformers(dir.path(), "experts under mlp");

    // A fused tensor of another shape, and one beside the single experts.
    let dir = copy("mixtral");
    change(dir.path(), |tensors| {
        fuse(tensors);
        let fused = tensors.get_mut("model.layers.0.mlp.experts.gate_up_proj").unwrap();
        fused.shape = vec![4, 24, 48];
    });
    let message = refusal(dir.path());
    assert!(
        message.contains(
            "tensor model.layers.0.mlp.experts.gate_up_proj has shape [4, 24, 48], but config.json says [4, 48, 24]"
        ),
        "{message}"
    );
}

#[test]
fn what_wrapped_a_model_does_not_matter() {
    for (name, rule) in [
        ("without model.", (|name| name.trim_start_matches("model.").to_owned()) as fn(&str) -> String),
        ("_orig_mod.", |name| format!("_orig_mod.{name}")),
        ("module.", |name| format!("module.{name}")),
        ("language_model.", |name| format!("language_model.{name}")),
        ("inside", |name| name.replace(".self_attn.", "._orig_mod.self_attn._fsdp_wrapped_module.")),
        ("two", |name| format!("module._orig_mod.{name}")),
        ("text part", |name| name.replace("model.", "model.language_model.")),
        ("peft", |name| format!("base_model.model.{name}")),
        ("lightning", |name| format!("model.{name}")),
    ] {
        let dir = copy("qwen3");
        rename(dir.path(), rule);
        let plain = sums(&fixture("qwen3").join("checkpoint"), "qwen3");
        assert_eq!(sums(dir.path(), "qwen3"), plain, "{name}");
        let saved = tempfile::tempdir().unwrap();
        TorchPolicy::open(dir.path(), &options()).unwrap().save(saved.path()).unwrap();
        let original = stored(&fixture("qwen3").join("checkpoint"));
        assert!(stored(saved.path()).keys().eq(original.keys()), "{name}");
    }
    equals_transformers(&fixture_of("without model."), "without model.");
    // transformers draws these at random, every one of them.
    for name in ["_orig_mod.", "module.", "language_model."] {
        assert_eq!((&case(name)["missing"], &case(name)["unexpected"]), (&json!(25), &json!(25)), "{name}");
    }
}

/// The checkpoint of a case that other tests have no use for.
fn fixture_of(case: &str) -> std::path::PathBuf {
    assert_eq!(case, "without model.");
    let dir = copy("qwen3");
    rename(dir.path(), |name| name.trim_start_matches("model.").to_owned());
    dir.keep()
}

#[test]
fn other_heads_and_buffers_are_left_out() {
    let dir = copy("mistral-f32");
    change(dir.path(), |tensors| {
        tensors.insert("v_head.summary.weight".into(), Stored::f32(&[1, 32], &[1.0; 32]));
        tensors.insert("model.rotary_emb.inv_freq".into(), Stored::f32(&[8], &[0.5; 8]));
        tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), Stored::f32(&[8], &[0.5; 8]));
    });
    equals_transformers(dir.path(), "a value head");
    assert_eq!(
        remarks(dir.path()),
        "left out, since a language model has no such head: v_head.summary.weight"
    );
    // A reward model has no other head.
    change(dir.path(), |tensors| {
        tensors.remove(HEAD);
        tensors.insert("score.weight".into(), Stored::f32(&[1, 32], &[1.0; 32]));
    });
    let message = refusal(dir.path());
    assert!(message.contains("a reward or value model has another head instead"), "{message}");
}

#[test]
fn other_floats_are_cast() {
    let dir = copy("mistral-f32");
    change(dir.path(), |tensors| {
        for stored in tensors.values_mut() {
            let wide = stored.values().into_iter().flat_map(|value| f64::from(value).to_le_bytes());
            *stored = Stored { dtype: Dtype::F64, shape: stored.shape.clone(), data: wide.collect() };
        }
    });
    equals_transformers(dir.path(), "f64");
    assert_eq!(
        sums(dir.path(), "mistral-f32"),
        sums(&fixture("mistral-f32").join("checkpoint"), "mistral-f32")
    );
    assert!(remarks(dir.path()).contains("21 tensors are F64 ("), "{}", remarks(dir.path()));

    let dir = copy("llama3-rope");
    change(dir.path(), |tensors| {
        for stored in tensors.values_mut() {
            let wide = stored.data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32());
            let data = wide.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect();
            *stored = Stored { dtype: Dtype::F16, shape: stored.shape.clone(), data };
        }
    });
    equals_transformers(dir.path(), "f16");
    // In bf16 what rounding takes away is kept, so saving in f32 gives the same numbers back.
    let options = EngineOptions { dtype: sami_torch::Dtype::Bf16, ..options() };
    let saved = tempfile::tempdir().unwrap();
    TorchPolicy::open(dir.path(), &options).unwrap().save(saved.path()).unwrap();
    for (name, stored) in read(&dir.path().join(SINGLE)) {
        let halves = stored.data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32());
        let expected: Vec<f32> = halves.collect();
        assert_eq!(read(&saved.path().join(SINGLE))[&name].values(), expected, "{name}");
    }
}

#[test]
fn safetensors_under_another_name_are_found() {
    assert_eq!(case("one shard of another name")["error"], "OSError");
    let plain = sums(&fixture("mistral-f32").join("checkpoint"), "mistral-f32");
    let dir = copy("mistral-f32");
    fs::rename(dir.path().join(SINGLE), dir.path().join("weights.safetensors")).unwrap();
    assert_eq!(sums(dir.path(), "mistral-f32"), plain);
    assert_eq!(
        remarks(dir.path()),
        "the weights are read from weights.safetensors; transformers asks for model.safetensors"
    );
    assert_eq!(inspect(dir.path()).unwrap().shards, ["weights.safetensors"]);
    // Saved so that transformers finds them.
    let saved = tempfile::tempdir().unwrap();
    TorchPolicy::open(dir.path(), &options()).unwrap().save(saved.path()).unwrap();
    assert!(saved.path().join(SINGLE).is_file());

    // All of a numbered set without its index; and a part of one.
    let dir = copy("mistral-window");
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    let window = sums(&fixture("mistral-window").join("checkpoint"), "mistral-window");
    assert_eq!(sums(dir.path(), "mistral-window"), window);
    let saved = tempfile::tempdir().unwrap();
    TorchPolicy::open(dir.path(), &options()).unwrap().save(saved.path()).unwrap();
    assert!(saved.path().join("model.safetensors.index.json").is_file());
    fs::remove_file(dir.path().join("model-00002-of-00004.safetensors")).unwrap();
    let message = refusal(dir.path());
    assert!(
        message.contains(
            "there are model-00001-of-00004.safetensors, model-00003-of-00004.safetensors, \
             model-00004-of-00004.safetensors; bring model.safetensors.index.json, and every file that it names"
        ),
        "{message}"
    );
}

#[test]
fn weights_in_another_format_are_named() {
    type Change = fn(&Path);
    let cases: [(Change, &[&str]); 12] = [
        (
            |dir| fs::write(dir.join("pytorch_model.bin"), "PK").unwrap(),
            &["pytorch_model.bin is PyTorch's own format", "M.from_pretrained('", "').save_pretrained('"],
        ),
        (
            |dir| fs::write(dir.join("pytorch_model.bin.index.json"), "{}").unwrap(),
            &["pytorch_model.bin.index.json is PyTorch's own format"],
        ),
        (
            |dir| fs::write(dir.join("m-Q4_K.gguf"), "GGUF").unwrap(),
            &["m-Q4_K.gguf is GGUF, llama.cpp's format"],
        ),
        (
            |dir| fs::write(dir.join("consolidated.safetensors"), "").unwrap(),
            &[
                "consolidated.safetensors is weights in Meta's or Mistral's own layout; take the same model in",
            ],
        ),
        (
            |dir| fs::write(dir.join("consolidated.00.pth"), "").unwrap(),
            &["consolidated.00.pth is weights in Meta's"],
        ),
        (
            |dir| fs::write(dir.join("tf_model.h5"), "").unwrap(),
            &["tf_model.h5 is weights of another framework"],
        ),
        (
            |dir| fs::write(dir.join("__0_0.distcp"), "").unwrap(),
            &["__0_0.distcp is a part of a distributed checkpoint of PyTorch"],
        ),
        (
            |dir| fs::write(dir.join("shard-00000-model-00001-of-00001.safetensors"), "").unwrap(),
            &[
                "is one process's part of a distributed checkpoint; transformers reads these before model.safetensors",
            ],
        ),
        (
            |dir| fs::write(dir.join(SINGLE), "version https://git-lfs.github.com/spec/v1\noid").unwrap(),
            &["model.safetensors is a pointer of Git LFS, not the file itself; fetch it: git lfs pull"],
        ),
        (
            |dir| fs::write(dir.join(SINGLE), "<!DOCTYPE html><p>Not found").unwrap(),
            &["model.safetensors is a web page; download the file itself"],
        ),
        (|dir| fs::write(dir.join(SINGLE), "GGUF\x03\0\0\0").unwrap(), &["model.safetensors is GGUF"]),
        (|_| {}, &["there is no model.safetensors and no model.safetensors.index.json here; bring the"]),
    ];
    for (change, expected) in cases {
        for with_config in [true, false] {
            let dir = copy("mistral-f32");
            fs::remove_file(dir.path().join(SINGLE)).unwrap();
            change(dir.path());
            let in_safetensors = fs::read_dir(dir.path())
                .unwrap()
                .any(|e| e.unwrap().file_name().to_string_lossy().starts_with("model.safetensors"));
            if !with_config {
                // Weights of other formats come without a config.json.
                fs::remove_file(dir.path().join("config.json")).unwrap();
                if in_safetensors
                    || expected[0].contains("one process")
                    || expected[0].starts_with("there is")
                {
                    continue;
                }
            }
            let message = refusal(dir.path());
            for expected in expected {
                assert!(message.contains(expected), "{message:?} should contain {expected:?}");
            }
        }
    }
    // The file itself in place of a directory.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.gguf");
    fs::write(&file, "GGUF").unwrap();
    assert!(refusal(&file).contains("m.gguf is GGUF, llama.cpp's format"), "{}", refusal(&file));
}

#[test]
fn names_that_do_not_fit_are_counted_and_guessed() {
    type Change = fn(&mut Tensors);
    let cases: [(Change, &str); 6] = [
        (
            |tensors| {
                let named = std::mem::take(tensors).into_iter();
                *tensors = named.map(|(name, t)| (format!("student.{name}"), t)).collect();
            },
            "21 are missing (model.embed_tokens.weight, model.layers.0.input_layernorm.weight, \
             model.layers.0.self_attn.q_proj.weight and 18 more); 21 are not known (student.lm_head.weight, \
             student.model.embed_tokens.weight, student.model.layers.0.input_layernorm.weight and 18 more); 21 of \
             those not known begin with \"student.\"; rename the tensors without it",
        ),
        (
            |tensors| {
                tensors.insert("model.layers.0.self_attn.q_proj.lora_A.default.weight".into(), one());
            },
            "1 is not known (model.layers.0.self_attn.q_proj.lora_A.default.weight); these are adapters beside the \
             weights that they change",
        ),
        (
            |tensors| {
                tensors.insert("model.layers.2.input_layernorm.weight".into(), one());
            },
            "the files hold 3 layers, but config.json says num_hidden_layers 2",
        ),
        (
            |tensors| {
                tensors.insert("model.layers.0.mlp.up_proj.weight_scale".into(), one());
            },
            "these weights are quantised; take the checkpoint that they were made from",
        ),
        (
            |tensors| {
                tensors.insert("vision_tower.patch.weight".into(), one());
            },
            "this is a model of images and text",
        ),
        (
            |tensors| {
                tensors.insert("model.layers.0.self_attn.q_proj.bias".into(), one());
            },
            "the tensors do not fit config.json: 1 is not known (model.layers.0.self_attn.q_proj.bias)",
        ),
    ];
    for (edit, expected) in cases {
        let dir = copy("mistral-f32");
        change(dir.path(), edit);
        let message = refusal(dir.path());
        assert!(message.contains(expected), "{message:?} should contain {expected:?}");
    }
}

fn one() -> Stored {
    Stored::f32(&[1], &[1.0])
}

/// Puts a number into a tensor of `mistral-f32`.
fn with_number(tensor: &str, at: usize, number: f32) -> tempfile::TempDir {
    let dir = copy("mistral-f32");
    change(dir.path(), |tensors| {
        let data = &mut tensors.get_mut(tensor).unwrap().data;
        data[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
    });
    dir
}

#[test]
fn numbers_that_no_model_has_are_refused_while_loading() {
    let open = |dir: &tempfile::TempDir, options: &EngineOptions| {
        TorchPolicy::open(dir.path(), options).err().unwrap().to_string()
    };
    let bf16 = EngineOptions { dtype: sami_torch::Dtype::Bf16, ..options() };
    // Row 300 of the embedding is used by no text here.
    for options in [&options(), &bf16] {
        let message = open(&with_number(EMBED, 300 * 32 + 5, f32::NAN), options);
        assert!(
            message.contains(
                "model.safetensors: tensor model.embed_tokens.weight holds NaN at [300, 5] (1 of its 12288 numbers are \
                 not finite); the file is damaged"
            ),
            "{message}"
        );
        let message = open(&with_number("model.norm.weight", 31, f32::NEG_INFINITY), options);
        assert!(message.contains("tensor model.norm.weight holds -inf at [31]"), "{message}");
        let message = open(&with_number(HEAD, 33, -3e20), options);
        assert!(
            message.contains("tensor lm_head.weight holds -3.000e20 at [1, 1]; no weight of a"),
            "{message}"
        );
    }
    // What a weight may be: the largest number of f16, denormals, negative zero.
    for number in [65504.0, -65504.0, 1e-45, -0.0] {
        TorchPolicy::open(with_number(EMBED, 300 * 32, number).path(), &options()).unwrap();
    }
    // A reference is looked at too.
    let damaged = with_number(EMBED, 300 * 32 + 5, f32::NAN);
    let policy = common::open("mistral-f32", &options());
    let message = policy.with_reference(damaged.path()).err().unwrap().to_string();
    assert!(message.contains("holds NaN at [300, 5]"), "{message}");
}

#[test]
fn logits_that_no_model_gives_are_refused() {
    use sami_policy::{SampleRequest, Sampler, SamplingParamsBuilder, StreamKey};
    let scaled = |factor: f32| {
        let dir = copy("mistral-f32");
        change(dir.path(), |tensors| {
            let head = tensors.get_mut(HEAD).unwrap();
            let values: Vec<f32> = head.values().iter().map(|value| value * factor).collect();
            *head = Stored::f32(&head.shape.clone(), &values);
        });
        TorchPolicy::open(dir.path(), &options()).unwrap()
    };
    let mut policy = scaled(2e4);
    let sets = sets("mistral-f32", "pairs-c2.jsonl");
    let message = policy.score(&sets).unwrap_err().to_string();
    assert!(
        message.starts_with("a log-probability of set ladder, constitution 0, response 0 is -"),
        "{message}"
    );
    assert!(
        message.contains("beyond ±8192 f32 does not hold a log-probability to a thousandth"),
        "{message}"
    );
    let request = SampleRequest { prompt: "Hello".into(), stream: StreamKey::new(0, 0, 0, 0) };
    let params = SamplingParamsBuilder { max_new_tokens: 2, ..Default::default() }.check().unwrap();
    let message = policy.sample(std::slice::from_ref(&request), &params).unwrap_err().to_string();
    assert!(message.starts_with("a logit of prompt 0 after 0 tokens is "), "{message}");
    // Sure of itself, and no fault.
    let mut policy = scaled(100.0);
    policy.score(&sets).unwrap();
    policy.sample(&[request], &params).unwrap();
}

#[test]
fn a_training_state_of_another_model_is_refused_and_changes_nothing() {
    let trained = |model: &str, kind: sami_torch::OptimizerKind| {
        let options = EngineOptions { optimizer: sami_torch::OptimizerConfig::new(kind, 1e-3), ..options() };
        let mut policy = common::open(model, &options);
        accumulate(&mut policy, &sets(model, "pairs-c2.jsonl"));
        policy.optimizer_step(1.0).unwrap();
        policy
    };
    use sami_torch::OptimizerKind::{AdamW, RmsProp};
    let state = tempfile::tempdir().unwrap();
    let mut policy = trained("mistral-f32", AdamW);
    policy.save_state(state.path()).unwrap();
    policy.load_state(state.path()).unwrap();

    let mut other = trained("mistral-f32", RmsProp);
    let before = other.weights().unwrap();
    let message = other.load_state(state.path()).unwrap_err().to_string();
    assert!(
        message.contains("the training state holds first.lm_head.weight, which nothing here needs"),
        "{message}"
    );
    assert_eq!(other.weights().unwrap(), before);

    let path = state.path().join("trainer.safetensors");
    let mut tensors = read(&path);
    // A vector where a matrix belongs would be copied into every row.
    tensors.insert("second.lm_head.weight".into(), Stored::f32(&[32], &[1.0; 32]));
    write(&path, &tensors);
    let before = policy.weights().unwrap();
    let message = policy.load_state(state.path()).unwrap_err().to_string();
    assert!(
        message.contains(
            "tensor second.lm_head.weight has shape [32], but what is trained here needs [384, 32]"
        ),
        "{message}"
    );
    assert_eq!(policy.weights().unwrap(), before);
    tensors.remove("second.lm_head.weight");
    write(&path, &tensors);
    let message = policy.load_state(state.path()).unwrap_err().to_string();
    assert!(message.contains("the training state lacks second.lm_head.weight"), "{message}");
}

#[test]
fn a_policy_that_is_opened_with_a_reference_keeps_one() {
    let kl = |policy: &mut TorchPolicy| {
        let set = &sets("mistral-f32", "pairs-c2.jsonl")[..1];
        let scored = policy.contrast_step(set, &mut |_, logps| {
            let zeros = ndarray::Array2::zeros(logps.sum_logps.dim());
            Ok(sami_policy::SetGradient { sum_logps: zeros, kl: 1.0 })
        });
        scored.unwrap()[0].kl.unwrap()
    };
    let options = EngineOptions { keep_reference: true, ..options() };
    let mut policy = common::open("mistral-f32", &options);
    assert_eq!(kl(&mut policy), 0.0);
    accumulate(&mut policy, &sets("mistral-f32", "pairs-c2.jsonl"));
    policy.optimizer_step(100.0).unwrap();
    let moved = kl(&mut policy);
    assert!(moved > 1e-3, "{moved}");

    // Adapters, then merged: the reference stays the base.
    let options = EngineOptions { lora: Some(Default::default()), ..options };
    let mut policy = common::open("mistral-f32", &options);
    for _ in 0..3 {
        accumulate(&mut policy, &sets("mistral-f32", "pairs-c2.jsonl"));
        policy.optimizer_step(100.0).unwrap();
    }
    let adapted = kl(&mut policy);
    assert!(adapted > 1e-3, "{adapted}");
    let merged = kl(&mut policy.merge_adapters().unwrap());
    assert!((merged - adapted).abs() < 1e-4 * adapted, "{merged} {adapted}");
}
