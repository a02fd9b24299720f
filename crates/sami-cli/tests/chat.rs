//! Instruct models: what the commands make of a user's turn, and where its answer ends, against transformers
//! (fixtures/chat, made by fixtures/make_chat.py).
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{World, matrix, text};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixtures().join("chat").join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Puts the checkpoint of mistral-f32 in the place of the world's model, and files over it.
fn model(world: &World, name: &str, over: Option<&str>) {
    let _ = fs::remove_dir_all(world.path(name));
    copy(&fixtures().join("parity/mistral-f32/checkpoint"), &world.path(name));
    if let Some(style) = over {
        fs::remove_file(world.path(name).join("generation_config.json")).unwrap();
        let config = world.path(name).join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(config, text.replace("\"eos_token_id\": 2,", "")).unwrap();
        copy(&fixtures().join("chat").join(style), &world.path(name));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &to) } else { fs::write(to, fs::read(&path).unwrap()).unwrap() }
    }
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| value.to_string() + "\n").collect()
}

#[test]
fn answers_and_scores_are_those_of_transformers_in_every_style() {
    let world = World::new();
    for case in cases("answers.jsonl") {
        let style = case["style"].as_str().unwrap();
        model(&world, "model", Some(style));
        let prompts = case["prompts"].as_array().unwrap();
        world.write("prompts.jsonl", &lines(prompts));
        world.succeed(
            "sample --model model --chat --prompts prompts.jsonl --max-new-tokens 24 --out answers.jsonl",
        );
        let tokens: Vec<Value> =
            world.lines("answers.jsonl").into_iter().map(|line| line["tokens"].clone()).collect();
        assert_eq!(json!(tokens), case["greedy"], "{style}");

        let side = |id: &str| json!({"id": id, "text": id});
        let response = |(at, text): (usize, &Value)| json!({"constitution": at, "text": text});
        let responses: Vec<Value> =
            case["responses"].as_array().unwrap().iter().enumerate().map(response).collect();
        let pair = json!({"id": "q", "query": "", "constitutions": [side("a"), side("b")], "prompts": prompts,
            "chat": true, "responses": responses});
        world.write("pairs.jsonl", &lines(&[pair]));
        world.succeed("score --model model --pairs pairs.jsonl --out scores.jsonl");
        let (found, expected) = (matrix(&world.lines("scores.jsonl")[0]["sum"]), matrix(&case["sum_logps"]));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-4, "{style}: {found}, {expected}");
        }
    }
}

#[test]
fn a_text_ends_where_generate_ends_it_with_the_same_tokens() {
    let world = World::new();
    let mut said = String::new();
    for case in cases("stops.jsonl") {
        model(&world, "model", None);
        for (name, content) in case["files"].as_object().unwrap() {
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            world.write(&format!("model/{name}"), &text);
        }
        world.write("prompts.jsonl", &lines(&[case["prompt"].clone()]));
        let output = world
            .sami("sample --model model --prompts prompts.jsonl --max-new-tokens 24 --out samples.jsonl");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(world.lines("samples.jsonl")[0]["tokens"], case["tokens"], "{}", case["scenario"]);
        let inspected = world.json("inspect model");
        let stop = inspected["stop_tokens"].as_array().unwrap();
        let ids: Vec<&Value> = stop.iter().map(|one| &one["id"]).collect();
        assert_eq!(json!(ids), case["stop_ids"], "{}", case["scenario"]);
        match case["scenario"].as_str().unwrap() {
            "each another" => said = world.succeed("inspect model"),
            "all the same" => {
                let files = json!([
                    "generation_config.json",
                    "generation_config.json",
                    "config.json",
                    "tokenizer_config.json"
                ]);
                assert_eq!(stop[0]["named_by"], files);
            }
            "end of turn" => assert_eq!(stop[1]["named_by"], json!(["chat_template.jinja (end of turn)"])),
            "none" => assert!(world.succeed("inspect model").contains("no token: texts run to their limit")),
            "beyond the vocabulary" => {
                let words = text(&output.stderr);
                let id = "generation_config.json: eos_token_id 9999 is beyond the model's vocabulary of 384; no text ends with it";
                let token = "tokenizer_config.json: eos_token_id 384 is beyond the model's vocabulary of 384";
                assert!(words.contains(id) && words.contains(token), "{words}");
            }
            _ => {}
        }
    }
    let names = [
        "</s> (2), named by generation_config.json",
        ", named by config.json",
        ", named by tokenizer_config.json",
    ];
    assert!(names.iter().all(|name| said.contains(name)), "{said}");
}

/// A task whose prompts are as short as they can be.
const TASK: &str = "name = \"short\"\n[prompts]\nsampling = \"{{ constitution }}\\n{{ query }}\"\n\
    training = \"{{ constitution }}\\n{{ query }}\"\ninstruct = \"Mind this: {{ constitution }} {{ query }}\"\n";

/// A model whose tokenizer puts a BOS in front, which its chat template does not write; beside it the same without the
/// BOS and without the template, so that it reads a conversation as raw text.
fn instruct_world() -> World {
    let world = World::new();
    model(&world, "model", Some("chatml-bos"));
    copy(&world.path("model"), &world.path("bare"));
    let mut tokenizer: Value = serde_json::from_str(&world.read("bare/tokenizer.json")).unwrap();
    assert!(tokenizer["post_processor"].is_object());
    tokenizer["post_processor"] = Value::Null;
    world.write("bare/tokenizer.json", &tokenizer.to_string());
    let mut config: Value = serde_json::from_str(&world.read("bare/tokenizer_config.json")).unwrap();
    config.as_object_mut().unwrap().remove("chat_template").unwrap();
    world.write("bare/tokenizer_config.json", &config.to_string());
    world.write("task.toml", TASK);
    let query = |at: usize| json!({"query": format!("Question {at}: how do I grow beans?")});
    world.write("queries.jsonl", &lines(&(0..24).map(query).collect::<Vec<_>>()));
    world
}

/// Scores of pairs whose prompts are turns are those of the conversation as raw text, in the model that adds nothing.
fn assert_scored_as_conversations(world: &World, pairs: &str, scores: &str) {
    let mut records = world.lines(pairs);
    for record in &mut records {
        assert_eq!(record["chat"], json!(true));
        for prompt in record["prompts"].as_array_mut().unwrap() {
            let turn = prompt.as_str().unwrap();
            assert!(turn.starts_with("Mind this: "), "{turn}");
            *prompt = json!(format!("<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n"));
        }
        record.as_object_mut().unwrap().remove("chat");
    }
    world.write("written.jsonl", &lines(&records));
    world.succeed("score --model bare --pairs written.jsonl --out expected.jsonl");
    let (found, expected) = (world.lines(scores), world.lines("expected.jsonl"));
    assert!(!found.is_empty() && found.len() == expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let (found, expected) = (matrix(&found["sum"]), matrix(&expected["sum"]));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-4, "{found}, {expected}");
        }
    }
}

#[test]
fn one_pair_file_goes_from_generate_to_score_and_train_in_one_format() {
    let world = instruct_world();
    world.succeed(
        "generate --model model --instruct --data queries.jsonl --format jsonl --task task.toml --out pairs.jsonl \
         --queries 2 --max-new-tokens 8 --seed 3",
    );
    let pairs = world.lines("pairs.jsonl");
    world.succeed("score --model model --pairs pairs.jsonl --out scores.jsonl");
    assert_scored_as_conversations(&world, "pairs.jsonl", "scores.jsonl");
    world.succeed(
        "train --model model --pairs pairs.jsonl --out trained --steps 1 --batch-size 2 --no-shuffle",
    );
    let step = &world.lines("trained/metrics.jsonl")[0];
    let losses: Vec<f64> =
        world.lines("scores.jsonl").iter().map(|one| one["loss"].as_f64().unwrap()).collect();
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((step["train/loss"].as_f64().unwrap() - mean).abs() < 1e-5, "{step} {mean}");

    // Both kinds of prompts in one file are refused.
    let mut other = pairs[0].clone();
    other.as_object_mut().unwrap().remove("chat");
    other["id"] = json!("other");
    world.write("mixed.jsonl", &lines(&[pairs[0].clone(), other]));
    for command in ["score --out s.jsonl", "train --out t --steps 1"] {
        let output = world.sami(&format!("{command} --model model --pairs mixed.jsonl"));
        let words = text(&output.stderr);
        let expected =
            "--pairs: mixed.jsonl has 1 sets of prompts to continue and 1 of a user's turns (\"chat\": true)";
        assert!(!output.status.success() && words.contains(expected), "{words}");
    }
    let output = world.sami("score --model bare --pairs pairs.jsonl --out s.jsonl");
    let words = text(&output.stderr);
    assert!(words.contains("bare: no chat template here; a base model takes raw prompts"), "{words}");
    let output = world.sami(
        "generate --server http://localhost:1/v1 --server-model m --instruct --data queries.jsonl --format jsonl --out p.jsonl",
    );
    let words = text(&output.stderr);
    assert!(words.contains("--instruct: a server is sent prompts as text to continue"), "{words}");
}

#[test]
fn generate_samples_after_the_turn_that_a_chat_has() {
    let world = instruct_world();
    // One principle: no order of principles.
    world.write(
        "principles.toml",
        "[[principle]]\nname = \"brief\"\nstatements = [\"Be brief.\"]\nantitheses = [\"Be long.\"]\n",
    );
    world.succeed(
        "generate --model model --instruct --data queries.jsonl --format jsonl --task task.toml --principles principles.toml \
         --out pairs.jsonl --queries 2 --max-new-tokens 8",
    );
    let pairs = world.lines("pairs.jsonl");
    let prompts: Vec<Value> =
        pairs.iter().flat_map(|pair| pair["prompts"].as_array().unwrap().clone()).collect();
    world.write("prompts.jsonl", &lines(&prompts));
    world.succeed(
        "sample --model model --chat --prompts prompts.jsonl --max-new-tokens 8 --out answers.jsonl",
    );
    let sampled: Vec<Value> = pairs
        .iter()
        .flat_map(|pair| pair["responses"].as_array().unwrap().iter().map(|one| one["token_ids"].clone()))
        .collect();
    let answered: Vec<Value> =
        world.lines("answers.jsonl").into_iter().map(|line| line["tokens"].clone()).collect();
    // A response whose text was trimmed has no tokens of its own.
    let whole: Vec<(Value, Value)> =
        sampled.into_iter().zip(answered).filter(|(sampled, _)| !sampled.is_null()).collect();
    assert_eq!(whole.len(), 3);
    assert!(whole.iter().all(|(sampled, answered)| sampled == answered), "{whole:?}");
}

#[test]
fn a_run_of_an_instruct_model_and_its_evaluation_read_turns() {
    let world = instruct_world();
    world.write(
        "recipe.toml",
        "seed = 5\n[model]\nbase = \"model\"\ndtype = \"f32\"\n[data]\nfiles = [\"queries.jsonl\"]\nformat = \"jsonl\"\n\
         [task]\nfile = \"task.toml\"\ninstruct = true\n[sampling]\nmax_new_tokens = 6\ntemperature = 1.0\nchunk = 3\n\
         [training]\niterations = 1\nbatches = 1\nbatch_size = 2\nlearning_rate = 1e-3\n[evaluation]\nqueries = 3\n\
         [guards]\naction = \"off\"\n",
    );
    world.succeed("run recipe.toml --out run");
    let pairs = world.lines("run/iteration-1/pairs.jsonl");
    assert!(pairs.iter().all(|pair| pair["chat"] == json!(true)), "{pairs:?}");
    world.json("eval mi run --instruct again=model --evidence 1");
    for name in ["iteration-0", "again"] {
        let dir = format!("run/eval/mi/{name}");
        assert_scored_as_conversations(&world, &format!("{dir}/pairs.jsonl"), &format!("{dir}/scores.jsonl"));
    }
    // What the run trained still has its chat format.
    assert!(world.succeed("inspect run/iteration-1/checkpoint").contains("chat template   run/"));
    let found = world.json(
        "probe --model model --instruct --data queries.jsonl --format jsonl --task task.toml --queries 8 --max-new-tokens 24 --no-gradient",
    );
    let raw = world.json(
        "probe --model model --data queries.jsonl --format jsonl --task task.toml --queries 8 --max-new-tokens 24 --no-gradient",
    );
    assert_ne!(found["mi"], raw["mi"]);
}
