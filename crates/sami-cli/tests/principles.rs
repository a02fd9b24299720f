//! `sami principles` against a server that is told what to say, and a checkpoint that says nothing of use.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::server::{self, Reply, Seen};
use common::{World, text};
use sami_constitution::{ContrastFile, PrincipleSet};
use serde_json::{Value, json};

const KEY: &str = "sk-not-to-be-seen-anywhere";

/// Gives these answers in turn, then the last one forever; an empty one is a 500.
fn serve(answers: &'static [&'static str]) -> (String, Seen) {
    let mut given = 0;
    server::serve(move |_| {
        let says = answers.get(given).or(answers.last()).unwrap();
        given += 1;
        if says.is_empty() { Reply(500, "", "{}".into()) } else { Reply::says(says) }
    })
}

#[test]
fn a_servers_principles_become_a_file_and_contrasts() {
    let world = World::new();
    let (url, seen) = serve(&[
        "",
        "Of course!\n\n**Principles**\n1. **Concise**: Summaries should be short.\n2. **Comprehensive**: Summaries should cover all of it.",
        "1. [not concise]: Summaries should ramble on.\n2. [not comprehensive]: Summaries should leave much out.",
    ]);
    world.write("key", KEY);
    let arguments = format!(
        "--server {url} --server-model judge-7b --key-file key --answers answers.jsonl --task tldr --out made/p.toml \
         --constitutions contrasts --transcript talk.md"
    );
    let out: Value = serde_json::from_str(&world.succeed(&format!("--json principles {arguments}"))).unwrap();
    assert_eq!((&out["answers"], &out["constitutions"], &out["missing"]), (&json!(2), &json!(3), &json!([])));
    let set = PrincipleSet::load(&world.path("made/p.toml")).unwrap();
    assert_eq!(set.principles()[1].antitheses, ["Summaries should leave much out."]);
    let file = world.read("made/p.toml");
    let first = "# Principles and antitheses, written by judge-7b (temperature 0, 2 answers).\n";
    assert!(file.starts_with(first) && file.contains("# Task: summarize posts from Reddit."), "{file}");
    let contrasts = ContrastFile::load_dir(&world.path("contrasts")).unwrap();
    assert_eq!(contrasts.len(), 3);
    assert_eq!(
        contrasts[0].positive.render(),
        "1. Summaries should be short.\n2. Summaries should cover all of it."
    );
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen[0].0.contains("POST /v1/chat/completions") && seen[0].0.contains(KEY));
        assert_eq!((&seen[0].1["temperature"], &seen[0].1["model"]), (&json!(0.0), &json!("judge-7b")));
        assert_eq!(seen[2].1["messages"].as_array().unwrap().len(), 3);
    }
    let talk = world.read("talk.md");
    assert!(talk.contains("## Asked") && talk.contains("still lacks the antithesis of concise"), "{talk}");
    // Once more: every answer is there already, and nobody is asked.
    let again = world.sami(&format!("principles {arguments}"));
    assert!(
        again.status.success()
            && text(&again.stderr).contains("0 requests (0 retries), 2 answers from the cache"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(seen.lock().unwrap().len(), 3);
    for name in ["made/p.toml", "answers.jsonl", "talk.md", "contrasts/0.json"] {
        assert!(!world.read(name).contains(KEY), "{name}");
    }
    assert!(!text(&again.stderr).contains(KEY) && !text(&again.stdout).contains(KEY));
}

#[test]
fn base_models_behind_a_server_continue_a_text() {
    let world = World::new();
    let (url, seen) =
        serve(&[" Answers should be short.\n\nAntitheses\n1. [not brief]: Answers should ramble on.\n"]);
    world.succeed(&format!(
        "principles --plain --server {url} --server-model base --principles brief --about chat --out p.toml"
    ));
    let set = PrincipleSet::load(&world.path("p.toml")).unwrap();
    assert_eq!(set.principles()[0].statements, ["Answers should be short."]);
    let seen = seen.lock().unwrap();
    assert!(seen[0].0.contains("POST /v1/completions"));
    assert!(seen[0].1["prompt"].as_str().unwrap().ends_with("\n\nPrinciples\n1. [brief]:"));
}

#[test]
fn a_thought_that_was_cut_off_is_no_answer() {
    let world = World::new();
    for text in [
        "<think> 1. [brief]: Answers should be short.",
        "[THINK]\n1. [brief]: Answers should be short.\n2. [not",
    ] {
        let (url, seen) = server::serve(move |_| {
            let choice = json!({"message": {"content": text}, "finish_reason": "length"});
            Reply(200, "", json!({"choices": [choice]}).to_string())
        });
        let output = world.sami(&format!(
            "principles --server {url} --server-model m --principles brief --about chat --out p.toml"
        ));
        let error = crate::text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("answer 1 of the principle writer is a thought without an end"), "{error}");
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert!(!world.path("p.toml").exists());
    }
}

#[test]
fn a_temperature_that_a_server_refuses_is_left_to_it_and_written_down() {
    let world = World::new();
    let (url, seen) = server::serve(|body| match body.get("temperature") {
        Some(_) => {
            let message = "invalid temperature: only 1 is allowed for this model";
            Reply(
                400,
                "",
                json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string(),
            )
        }
        None => {
            Reply::says("1. [brief]: Answers should be short.\n2. [not brief]: Answers should ramble on.")
        }
    });
    world.succeed(&format!(
        "principles --server {url} --server-model m --principles brief --about chat --out p.toml"
    ));
    assert_eq!(seen.lock().unwrap().len(), 2);
    let file = world.read("p.toml");
    let first = "# Principles and antitheses, written by m (left to the server: temperature, 1 answers).\n";
    assert!(file.starts_with(first), "{file}");
}

#[test]
fn a_checkpoint_that_says_nothing_of_use_is_told_and_its_words_are_kept() {
    let world = World::new();
    let output = world
        .sami("principles --model model --max-new-tokens 8 --attempts 2 --out p.toml --transcript talk.md");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let expected = "error: the principle writer gave 2 answers and still left out the definition of helpful, the \
                    definition of harmless, the antithesis of helpful, the antithesis of harmless; write what is missing by hand";
    assert!(error.contains(expected), "{error}");
    assert!(!world.path("p.toml").exists());
    assert_eq!(world.read("talk.md").matches("## Answered").count(), 2);
}

#[test]
fn what_is_held_out_goes_to_files_of_its_own() {
    let world = World::new();
    world.write(
        "all.toml",
        "[[principle]]\nname = \"kind\"\nstatements = [\"Be kind.\", \"Be warm.\"]\nantitheses = [\"Be rude.\", \"Be cold.\"]\n\
         [[principle]]\nname = \"brief\"\nstatements = [\"Be brief.\", \"Be short.\"]\nantitheses = [\"Ramble.\", \"Babble.\"]\n",
    );
    let hold = "--hold-out brief --hold-out-wordings 1 --held-out test.toml";
    world.succeed(&format!("principles --edited all.toml {hold} --out train.toml"));
    let load = |name: &str| PrincipleSet::load(&world.path(name)).unwrap();
    assert_eq!(load("train.toml").principles()[0].statements, ["Be kind."]);
    assert_eq!(load("test.toml").principles()[0].statements, ["Be brief.", "Be short."]);
    assert_eq!(load("test.paraphrases.toml").principles()[0].antitheses, ["Be cold."]);
    let refused =
        world.sami("principles --edited all.toml --hold-out sad --held-out test.toml --out train.toml");
    assert_eq!(refused.status.code(), Some(2));
    let error = text(&refused.stderr);
    assert!(error.contains("principle sad is to be held out, but the set has none of this name"), "{error}");
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_asked() {
    let world = World::new();
    world.write("bare.toml", "name = \"bare\"\n[prompts]\nsampling = '{{ constitution }}{{ query }}'\ntraining = '{{ constitution }}{{ query }}'\n");
    let cases = [
        ("principles --out p.toml", "required"),
        ("principles --server http://localhost:1/v1 --out p.toml", "--server-model"),
        ("principles --server localhost:1 --server-model x --out p.toml", "must begin with http://"),
        (
            "principles --server http://localhost:1/v1 --server-model x --key-env SAMI_NO_KEY --out p.toml",
            "SAMI_NO_KEY holds no key",
        ),
        (
            "principles --model model --task bare.toml --out p.toml",
            "--principles: task bare has no [writer] table",
        ),
        ("principles --model model --task nowhere.toml --out p.toml", "nowhere.toml: No such file"),
        (
            "principles --model model --principles not-kind --out p.toml",
            "principle name \"not-kind\" cannot be used",
        ),
    ];
    for (arguments, expected) in cases {
        let output = world.sami(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert!(error.contains(expected), "{arguments}: {error}");
    }
}
