//! One query that the model cannot take among several: it is left out, counted and named, and the others go
//! on; with --strict it is an error.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

mod common;

use common::{World, assert_same, snapshot, text};
use serde_json::{Value, json};

/// More words than the model has positions.
fn long() -> String {
    "What is the name of the day after today? ".repeat(400)
}

/// Too long for the model, in the words of the engine.
const TOO_LONG: &str = "tokens long, but the model was made for";
const BEYOND: &str = "is outside the model's vocabulary of 512";

/// A model whose tokenizer knows one more token than the model, and queries of which the second is too long and
/// the third holds that token.
fn world() -> World {
    let world = World::new();
    let mut tokenizer: Value = serde_json::from_str(&world.read("model/tokenizer.json")).unwrap();
    tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({
        "id": 600, "content": "<far>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": false,
    }));
    world.write("model/tokenizer.json", &tokenizer.to_string());
    let texts = ["How do I plant a tree?", &long(), "Is <far> far?", "What is tea?", "Where is the sea?"];
    let lines = texts
        .iter()
        .enumerate()
        .map(|(number, text)| json!({"id": format!("q:{number}"), "query": text}).to_string() + "\n");
    world.write("asked.jsonl", &lines.collect::<String>());
    world
}

fn pair(id: &str, prompt: &str, ids: &Value) -> String {
    json!({
        "id": id, "query": "Why?", "constitutions": [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}],
        "prompts": ["A: Why?", prompt],
        "responses": [
            {"constitution": 0, "text": " Because.", "token_ids": ids},
            {"constitution": 1, "text": " It is so."},
        ],
    })
    .to_string()
        + "\n"
}

/// Five pairs; the second is too long under its second constitution, the fourth has a token that the model does
/// not know.
fn pairs(world: &World) {
    let lines = [
        pair("p1", "B: Why?", &Value::Null),
        pair("p2", &long(), &Value::Null),
        pair("p3", "B: What?", &Value::Null),
        pair("p4", "B: Why?", &json!([600])),
        pair("p5", "B: How?", &Value::Null),
    ];
    world.write("pairs.jsonl", &lines.concat());
    world.write("good.jsonl", &[&lines[0][..], &lines[2], &lines[4]].concat());
    world.write("bad.jsonl", &[&lines[1][..], &lines[3], &lines[1].replace("p2", "p6")].concat());
}

/// Runs a command that must be refused, and returns its message.
fn refused(world: &World, arguments: &str) -> String {
    let output = world.sami(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "sami {arguments}\n{message}");
    message
}

fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["id"].as_str().unwrap()).collect()
}

const GENERATE: &str =
    "generate --model model --data asked.jsonl --format jsonl --max-new-tokens 4 --temperature 1 --chunk 2";

#[test]
fn generate_keeps_refused_queries_with_their_reason() {
    let world = world();
    let found = world.json(&format!("{GENERATE} --out pairs.jsonl"));
    assert_eq!((&found["sampled"], &found["refused"]), (&json!(5), &json!(2)), "{found}");
    assert_eq!(found["rejected"]["prompt-refused"], json!(2));
    let lines = world.lines("pairs.jsonl");
    assert_eq!(ids(&lines), ["q:0", "q:1", "q:2", "q:3", "q:4"]);
    for (number, reason) in [(1, TOO_LONG), (2, BEYOND)] {
        assert_eq!(lines[number]["rejected"], json!(["prompt-refused"]));
        assert!(lines[number]["refusal"].as_str().unwrap().contains(reason), "{}", lines[number]);
    }
    assert!(lines[0].get("refusal").is_none());

    // Cut anywhere, the same bytes.
    let whole = world.read("pairs.jsonl");
    for cut in [whole.len() / 3, whole.len() - 10] {
        world.write("pairs.jsonl", &whole[..cut]);
        world.json(&format!("{GENERATE} --out pairs.jsonl"));
        assert_eq!(world.read("pairs.jsonl"), whole, "{cut}");
    }
    // Whoever reads the file leaves them out.
    world.succeed("score --model model --pairs pairs.jsonl --out scores.jsonl");
    assert!(!ids(&world.lines("scores.jsonl")).contains(&"q:1"));

    let message = refused(&world, &format!("{GENERATE} --out strict.jsonl --strict"));
    assert!(message.contains("query q:1 is refused, and strict allows none to be left out: the prompt"));
    assert!(message.contains(TOO_LONG), "{message}");
    assert!(!world.path("strict.jsonl").exists());
    // Also where an earlier call has left it out already.
    assert!(refused(&world, &format!("{GENERATE} --out pairs.jsonl --strict")).contains("query q:1 "));
}

#[test]
fn too_few_usable_queries_are_said_before_sampling() {
    let world = world();
    let message = refused(&world, &format!("{GENERATE} --out pairs.jsonl --queries 4"));
    assert!(message.contains("4 more queries are needed, and the model can take 3 of those that are left"));
    assert!(message.contains("it refuses 2, most often like q:1: the prompt"), "{message}");
    assert!(!world.path("pairs.jsonl").exists());

    // More room for answers than the model has positions refuses everything.
    let all = GENERATE.replace("--max-new-tokens 4", "--max-new-tokens 100000");
    let message = refused(&world, &format!("{all} --out pairs.jsonl"));
    assert!(message.contains("all 5 queries are refused") && message.contains("q:0: the prompt with 100000"));
    assert!(message.contains("lower max_new_tokens"), "{message}");
}

#[test]
fn sample_writes_why_a_prompt_has_no_text() {
    let world = world();
    let lines = ["Hello", &long(), "<far>", "Good day"].map(|prompt| json!(prompt).to_string() + "\n");
    world.write("prompts.jsonl", &lines.concat());
    let sample = "sample --model model --prompts prompts.jsonl --max-new-tokens 4";
    let found = world.json(&format!("{sample} --out samples.jsonl"));
    assert_eq!((&found["samples"], &found["refused"]), (&json!(2), &json!(2)));
    let lines = world.lines("samples.jsonl");
    assert_eq!(lines.len(), 4);
    assert!(lines[1]["refused"].as_str().unwrap().contains(TOO_LONG), "{}", lines[1]["refused"]);
    assert!(lines[2]["refused"].as_str().unwrap().contains(BEYOND), "{}", lines[2]);
    assert!(lines[3]["text"].is_string() && lines[3].get("refused").is_none());
    let said = world.succeed(&format!("{sample} --out samples.jsonl"));
    assert!(
        said.contains("2 samples in samples.jsonl; 2 prompts were refused, their lines say why"),
        "{said}"
    );

    let message = refused(&world, &format!("{sample} --out strict.jsonl --strict"));
    assert!(message.contains("prompt 2 is refused") && !world.path("strict.jsonl").exists(), "{message}");
    let message = refused(
        &world,
        &format!("{sample} --out none.jsonl --max-new-tokens 100000").replace("--max-new-tokens 4 ", ""),
    );
    assert!(message.contains("all 4 queries are refused"), "{message}");
}

#[test]
fn score_lists_the_pairs_that_it_leaves_out() {
    let world = world();
    pairs(&world);
    let found = world.json("score --model model --pairs pairs.jsonl --out scores.jsonl");
    assert_eq!((&found["queries"], &found["refused"]), (&json!(3), &json!(2)));
    assert_eq!(ids(&world.lines("scores.jsonl")), ["p1", "p3", "p5"]);
    let list = world.lines("scores.refused.jsonl");
    assert_eq!(ids(&list), ["p2", "p4"]);
    assert!(list[0]["refused"].as_str().unwrap().contains(TOO_LONG), "{}", list[0]["refused"]);
    assert!(list[1]["refused"].as_str().unwrap().contains(BEYOND), "{}", list[1]);
    let said = world.succeed("score --model model --pairs pairs.jsonl --out scores.jsonl");
    assert!(said.contains("left out             2, scores.refused.jsonl says why"), "{said}");

    let message = refused(&world, "score --model model --pairs pairs.jsonl --out strict.jsonl --strict");
    assert!(message.contains("query p2 is refused") && !world.path("strict.jsonl").exists(), "{message}");
    let message = refused(&world, "score --model model --pairs bad.jsonl --out bad-scores.jsonl");
    assert!(message.contains("all 3 queries are refused") && message.contains("p2: set p2"), "{message}");
    // The list of an earlier call does not outlive its reason.
    world.succeed("score --model model --pairs good.jsonl --out scores.jsonl");
    assert!(!world.path("scores.refused.jsonl").exists());
}

#[test]
fn train_checks_all_pairs_before_the_first_step() {
    let world = world();
    pairs(&world);
    let train = "train --model model --steps 1 --batch-size 1 --no-shuffle --lr 1e-3";
    // The single step sees p1 alone, and yet the others are named.
    let found = world.json(&format!("{train} --pairs pairs.jsonl --out trained"));
    assert_eq!(found["refused"], json!(2));
    assert_eq!(ids(&world.lines("trained/refused.jsonl")), ["p2", "p4"]);
    let message = refused(&world, &format!("{train} --pairs pairs.jsonl --out strict --strict"));
    assert!(message.contains("query p2 is refused"), "{message}");
    assert!(refused(&world, &format!("{train} --pairs bad.jsonl --out bad")).contains("all 3 queries"));

    // As if they had never been there.
    let train = train.replace("--steps 1 --batch-size 1", "--steps 3 --batch-size 2");
    world.succeed(&format!("{train} --pairs pairs.jsonl --out some"));
    world.succeed(&format!("{train} --pairs good.jsonl --out good"));
    let weights = |dir: &str| std::fs::read(world.path(dir).join("model.safetensors")).unwrap();
    assert!(weights("some") == weights("good"));
}

#[test]
fn a_probe_counts_and_names_them() {
    let world = world();
    let probe = "probe --model model --data asked.jsonl --format jsonl --max-new-tokens 4 --no-gradient";
    let found = world.json(probe);
    assert_eq!(found["rejected"]["prompt-refused"], json!(2), "{found}");
    let list = found["refused"].as_array().unwrap();
    assert_eq!(ids(list), ["q:1", "q:2"]);
    assert!(list[0]["refused"].as_str().unwrap().contains(TOO_LONG));
    assert!(refused(&world, &format!("{probe} --strict")).contains("query q:1 is refused"));
    let message = refused(&world, &probe.replace("--max-new-tokens 4", "--max-new-tokens 100000"));
    assert!(message.contains("all 5 queries are refused"), "{message}");
}

#[test]
fn a_run_replaces_them_and_its_evaluation_leaves_them_out() {
    let world = world();
    let recipe = std::fs::read_to_string(world.recipe()).unwrap();
    world.write("recipe.toml", &recipe.replace("[training]", "[training]\niterations = 1"));
    // A third of the queries, so that held-out ones are among them, and others that are asked.
    let mut lines: Vec<String> = world.read("queries.jsonl").lines().map(str::to_owned).collect();
    // Each of its own: a query that stands twice is asked once.
    for (number, line) in lines.iter_mut().enumerate().step_by(3) {
        let text = format!("\n\nHuman: {number}. {}\n\nAssistant: Yes.", long());
        *line = json!({"chosen": text}).to_string();
    }
    world.write("queries.jsonl", &(lines.join("\n") + "\n"));
    let found = world.json("run recipe.toml --out run");
    let pairs = world.lines("run/iteration-1/pairs.jsonl");
    let refusals = pairs.iter().filter(|pair| pair.get("refusal").is_some()).count();
    assert!(refusals > 0, "none of the bad queries was asked");
    assert_eq!(found["refused"]["prompt-refused"], json!(refusals), "{found}");
    let kept = pairs.iter().filter(|pair| pair.get("rejected").is_none()).count();
    assert_eq!(kept, 4, "refused queries are replaced by others");
    let held_out = world.lines("run/eval/iteration-0/pairs.jsonl");
    let held_out = held_out.iter().filter(|pair| pair.get("refusal").is_some()).count();
    assert!(held_out > 0 && held_out < 5);

    // Stopped and continued, the same bytes.
    let whole = snapshot(&world.path("run"));
    for name in ["run/state.json", "run/report.html"] {
        let _ = std::fs::remove_file(world.path(name));
    }
    for name in ["run/iteration-1", "run/final"] {
        std::fs::remove_dir_all(world.path(name)).unwrap();
    }
    world.succeed("run recipe.toml --out run");
    assert_same(&snapshot(&world.path("run")), &whole, "continued");

    let models = world.json("eval mi run --evidence 1");
    for model in models.as_array().unwrap() {
        assert_eq!((&model["asked"], &model["rejected"]["prompt-refused"]), (&json!(5), &json!(held_out)));
    }
    std::fs::remove_dir_all(world.path("run/eval/mi")).unwrap();
    assert!(refused(&world, "eval mi run --strict").contains("is refused, and strict allows none"));
    world.succeed("report run");
    assert!(world.read("run/report.html").contains("prompt-refused"));

    assert!(refused(&world, "run recipe.toml --out strict --strict").contains("is refused, and strict"));
    let message = refused(&world, "run recipe.toml --out none --set sampling.max_new_tokens=100000");
    assert!(message.contains("all 5 queries are refused"), "{message}");
}

#[test]
fn a_run_that_was_stopped_at_its_first_stage_is_no_bad_file() {
    let world = World::new();
    world.recipe();
    world.succeed("run recipe.toml --out run --set training.iterations=1");
    std::fs::remove_dir_all(world.path("run/iteration-1/checkpoint")).unwrap();
    std::fs::remove_file(world.path("run/state.json")).unwrap();
    for left in ["", "{\"id\": \"to"] {
        world.write("run/iteration-1/pairs.jsonl", left);
        world.write("run/eval/iteration-0/pairs.jsonl", left);
        let message = refused(&world, "eval mi run");
        assert!(message.contains("the run has not answered all of its held-out queries yet"), "{message}");
        assert!(message.contains("let `sami run` go on with it"), "{message}");
        // With queries of its own the base can be asked.
        let models = world.json("eval mi run --data queries.jsonl --queries 3 --evidence 0");
        assert_eq!(models.as_array().unwrap().len(), 1);
        std::fs::remove_dir_all(world.path("run/eval/mi")).unwrap();
    }
}
