//! The walk of `fixtures/walk_tldr.sh`, shortened: every stage through the command, with a server that really generates.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

mod common;

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Output};

use common::server::{Reply, serve};
use common::{World, text};
use sami_policy::{SampleRequest, Sampler, SamplingParams, SamplingParamsBuilder, StreamKey};
use sami_torch::{EngineOptions, TorchPolicy};
use serde_json::{Value, json};

/// Few enough for seconds: 2 held out, and twice as many as the last iteration's 12.
const POSTS: usize = 26;

thread_local! {
    /// The served model lives on the server's thread.
    static MODEL: RefCell<Option<TorchPolicy>> = const { RefCell::new(None) };
}

/// Completions by the checkpoint at `model`, conversations by script: a random model can write no principles, and has no opinions.
fn answer(model: &Path, body: &Value) -> Reply {
    if let Some(turn) = body["messages"][0]["content"].as_str() {
        let Some((_, after)) = turn.split_once("Summary A: ") else {
            return Reply::says(
                "Principles\n1. [concise]: Keep it brief, always.\n2. [comprehensive]: Say all of it.\n\n\
                 Antitheses\n1. [not concise]: Ramble on and on.\n2. [not comprehensive]: Leave most of it out.",
            );
        };
        let (a, rest) = after.split_once("Summary B: ").unwrap();
        let b = rest.split("\n\nFirst compare").next().unwrap();
        let choice = if a.trim().len() <= b.trim().len() { "A" } else { "B" };
        return Reply::says(&format!("Comparison: it is shorter.\nFinal Response: {choice}"));
    }
    let sampled = MODEL.with_borrow_mut(|policy| {
        let policy =
            policy.get_or_insert_with(|| TorchPolicy::open(model, &EngineOptions::default()).unwrap());
        let params = SamplingParamsBuilder {
            max_new_tokens: body["max_tokens"].as_u64().unwrap() as usize,
            temperature: body["temperature"].as_f64().unwrap(),
            ..SamplingParams::builder()
        };
        let stream = StreamKey::new(body["seed"].as_u64().unwrap(), 0, 0, 0);
        let request = SampleRequest { prompt: body["prompt"].as_str().unwrap().to_owned(), stream };
        policy.sample(&[request], &params.check().unwrap()).unwrap().remove(0).unwrap()
    });
    let choice = json!({"text": sampled.text, "finish_reason": "length"});
    Reply(200, "", json!({"choices": [choice]}).to_string())
}

fn walk(world: &World, url: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/walk_tldr.sh");
    let mut command = Command::new("bash");
    command.arg(script).args([url, "served", "model", "posts.json", "out"]).current_dir(world.path(""));
    command.env("SAMI", env!("CARGO_BIN_EXE_sami")).env("OMP_NUM_THREADS", "1").env_remove("SAMI_LOG");
    for (name, value) in [("HELD_OUT", "2"), ("TOKENS", "5"), ("BATCH", "2"), ("TASK", "task.toml")] {
        command.env(name, value);
    }
    command.output().unwrap()
}

#[test]
fn from_principles_to_the_report() {
    let world = World::new();
    let column = |make: &dyn Fn(usize) -> String| -> Value {
        (0..POSTS).map(|n| (n.to_string(), json!(make(n)))).collect::<serde_json::Map<_, _>>().into()
    };
    let post = |n: usize| {
        format!("POST: My neighbour's {n} geese got into my beans, and now we are not on speaking terms.")
    };
    let file = json!({"question": column(&post), "constitution": column(&|_| "1. Be brief.".into()), "response": column(&|_| "x".into())});
    world.write("posts.json", &file.to_string());
    // The task of summaries, but for the filters that a random model never passes.
    let task = include_str!("../../sami-constitution/src/defaults/tldr.toml");
    let filters = task.find("reject_containing").unwrap();
    world.write("task.toml", &format!("{}reject_equal = true\n", &task[..filters]));

    let model = world.path("model");
    let (url, seen) = serve(move |body| answer(&model, body));
    let output = walk(&world, &url);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");

    assert_eq!(world.read("out/constitutions/0.json").matches("Keep it brief, always.").count(), 1);
    let pairs = world.lines("out/pairs.jsonl");
    assert_eq!(pairs.len(), POSTS);
    assert!(pairs.iter().all(|pair| pair["constitutions"][0]["id"] == "comprehensive+concise"));
    assert!(said.contains("connection           "), "{said}");
    // What was trained on met word for word as it was written.
    let [brief, ramble] = ["1. Keep it brief, always.", "1. Ramble on and on."];
    let [whole, little] = ["2. Say all of it.", "2. Leave most of it out."];
    let texts = [(brief, whole), (ramble, whole), (brief, little), (ramble, little)]
        .map(|(first, second)| format!("{first}\n{second}"));
    for iteration in 1..=3 {
        for pair in world.lines(&format!("out/run/iteration-{iteration}/pairs.jsonl")) {
            assert_eq!(pair["constitutions"][0]["text"], texts[0]);
            assert!(texts[1..].iter().any(|text| pair["constitutions"][1]["text"] == *text));
        }
    }
    // Held-out posts met all four.
    let held_out = world.lines("out/run/eval/mi/iteration-3/pairs.jsonl");
    assert!(
        held_out.len() == 2
            && held_out.iter().all(|pair| pair["constitutions"].as_array().unwrap().len() == 4)
    );
    let rates: Value = serde_json::from_str(&world.read("out/run/eval/win-rate/summary.json")).unwrap();
    assert_eq!(rates.as_array().unwrap().len(), 3);
    let page = world.read("out/run/report.html");
    assert!(page.contains("TL;DR walk") && page.contains("<title>Win rate against the base model</title>"));

    // Again: it is all there, and nobody is asked.
    let asked = seen.lock().unwrap().len();
    assert!(asked > 2 * POSTS, "{asked}");
    let output = walk(&world, &url);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(seen.lock().unwrap().len(), asked);
}
