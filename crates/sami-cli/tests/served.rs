//! Stage 2 with a server for a model: what is asked, what it costs, and what is said when it fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

mod common;

use common::server::{Reply, serve, serve_as};
use common::{World, text};
use serde_json::{Value, json};

const KEY: &str = "sk-not-to-be-seen-anywhere";

/// A summary that depends on the prompt, so that no two are the same.
fn summary(body: &Value) -> String {
    let prompt = body["prompt"].as_str().unwrap();
    format!(" is about {} letters.", prompt.len() * 7 + prompt.bytes().map(usize::from).sum::<usize>() % 97)
}

/// Three posts in the paper's format.
/// A file of `count` posts.
fn posts(world: &World, count: usize) {
    let text = |n: usize| format!("POST: My neighbour keeps {n} geese, and they {}", "honk ".repeat(n + 2));
    let column = |make: &dyn Fn(usize) -> String| -> Value {
        (0..count).map(|n| (n.to_string(), json!(make(n)))).collect::<serde_json::Map<_, _>>().into()
    };
    let file = json!({"question": column(&text), "constitution": column(&|_| "1. Be brief.".into()), "response": column(&|_| "x".into())});
    world.write("posts.json", &file.to_string());
}

const TLDR: &str =
    "generate --data posts.json --format tldr --task tldr --max-new-tokens 9 --chunk 2 --seed 4";

#[test]
fn a_server_answers_and_an_interrupted_job_costs_nothing_twice() {
    let world = World::new();
    posts(&world, 3);
    world.write("key", KEY);
    // Three answers, then a refusal that repeats the key; later it is well again.
    let mut given = 0;
    let (url, seen) = serve(move |body| {
        given += 1;
        match given {
            4..=5 => Reply(403, "", format!("no more for {KEY}")),
            _ => Reply::says(&summary(body)),
        }
    });
    let job = format!(
        "{TLDR} --server {url} --server-model m --key-file key --answers answers.jsonl --concurrency 1 --out pairs.jsonl"
    );
    let mut command = world.command(&job);
    // Everything that could be logged.
    let output = command.env("SAMI_LOG", "trace").output().unwrap();
    let said = format!("{}{}", text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("status 403 after 1 attempts: no more for …"), "{said}");
    assert!(!said.contains(KEY), "the key is in what was logged");
    assert!(said.contains("4 requests (0 retries), 0 answers from the cache"), "{said}");
    // The first chunk of two queries was not whole, so nothing of it is in the file; three answers are kept.
    assert_eq!(world.read("answers.jsonl").lines().count(), 3);

    // Again: what was paid for is there. The fifth request is refused once more.
    assert_eq!(world.sami(&job).status.code(), Some(1));
    assert_eq!(seen.lock().unwrap().len(), 5);
    let report = world.json(&job);
    assert_eq!((&report["sampled"], &report["kept"]), (&json!(3), &json!(3)));
    assert_eq!(report["token_ids"], json!({"sampled": 0, "retokenised": 6}));
    // Six prompts, two refusals: not one request more.
    assert_eq!(seen.lock().unwrap().len(), 8);
    let pairs = world.lines("pairs.jsonl");
    for pair in &pairs {
        for response in pair["responses"].as_array().unwrap() {
            assert!(response["text"].as_str().unwrap().starts_with(" The post is about "), "{response}");
            assert_eq!(response["token_ids"], Value::Null);
        }
    }
    for file in ["pairs.jsonl", "answers.jsonl"] {
        assert!(!world.read(file).contains(KEY), "{file}");
    }
    {
        let seen = seen.lock().unwrap();
        assert!(seen[0].0.starts_with("POST /v1/completions") && seen[0].0.contains(KEY));
        assert!(seen[0].1["prompt"].as_str().unwrap().ends_with("Summary: The post"));
        assert_eq!((&seen[0].1["max_tokens"], &seen[0].1["temperature"]), (&json!(9), &json!(0.0)));
    }
    // Once more, without the pairs: all from the cache, to the same bytes.
    let before = world.read("pairs.jsonl");
    std::fs::remove_file(world.path("pairs.jsonl")).unwrap();
    let output = world.sami(&job);
    assert!(text(&output.stderr).contains("0 requests (0 retries), 6 answers from the cache"));
    assert_eq!(world.read("pairs.jsonl"), before);
    assert_eq!(seen.lock().unwrap().len(), 8);
    // The model at hand scores them, although another one wrote them.
    let scores = world.json("score --model model --pairs pairs.jsonl --out scores.jsonl");
    assert_eq!(scores["queries"], 3);
}

#[test]
fn vllms_token_ids_come_along() {
    let world = World::new();
    let models = json!({"data": [{"id": "m", "owned_by": "vllm"}]});
    let mut given = 0;
    let (url, seen) = serve_as(Some(models), move |_| {
        given += 1;
        let text = format!(" answer {given}");
        let choice = json!({"text": text, "finish_reason": "stop", "stop_reason": null, "token_ids": [40 + given, 50, 2]});
        Reply(200, "", json!({"choices": [choice]}).to_string())
    });
    let job = format!(
        "generate --server {url} --server-model m --data queries.jsonl --queries 2 --temperature 1 --concurrency 1 --out pairs.jsonl"
    );
    let report = world.json(&job);
    assert_eq!(report["token_ids"], json!({"sampled": 4, "retokenised": 0}));
    // Without the end-of-sequence token, which the paper's code masks.
    assert_eq!(world.lines("pairs.jsonl")[0]["responses"][0]["token_ids"], json!([41, 50]));
    assert!(seen.lock().unwrap().iter().all(|(_, body)| body["return_token_ids"] == json!(true)));
}

#[test]
fn what_a_server_does_wrong_is_said() {
    let world = World::new();
    posts(&world, 3);
    let fails = |arguments: &str, code: i32, expected: &str| {
        let output = world.sami(&format!("{TLDR} --server-model m --out p.jsonl {arguments}"));
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(expected), "{message}");
    };
    let (url, _) = serve(|_| Reply(429, "Retry-After: 7200\r\n", String::new()));
    fails(
        &format!("--server {url}"),
        1,
        "the server asks to wait 7200 s, longer than retry_after_cap (600 s)",
    );
    let (url, _) = serve(|_| Reply(200, "", json!({"choices": []}).to_string()));
    fails(&format!("--server {url}"), 1, "the answer is no completion: it has no choice");
    let (url, seen) = serve(|body| Reply::says(&summary(body)));
    fails(&format!("--server {url} --max-requests 3 --concurrency 1"), 1, "the cap of 3 requests is reached");
    assert_eq!(seen.lock().unwrap().len(), 3);
    let spend = "--max-spend 0.001 --prompt-price 1000 --response-price 1000";
    fails(
        &format!("--server {url} {spend}"),
        1,
        "0.0000 of at most 0.0010 are spent, and the next request may cost",
    );
    assert_eq!(seen.lock().unwrap().len(), 3);
    fails("--server localhost:8000", 2, "must begin with http://");
    fails(
        &format!("--server {url} --key-env SAMI_NO_SUCH_VARIABLE"),
        2,
        "SAMI_NO_SUCH_VARIABLE holds no key",
    );
    fails(&format!("--server {url} --model model"), 2, "cannot be used with");
    let neither = world.sami(&TLDR.replace("--seed 4", "--out p.jsonl"));
    assert_eq!(neither.status.code(), Some(2));
    assert!(!world.path("p.jsonl").exists() || world.read("p.jsonl").is_empty());
}

#[test]
fn rejected_sets_are_counted_by_reason() {
    let world = World::new();
    posts(&world, 3);
    // Two responses to each of three posts: one set of equal ones, one that does not end and repeats the format, one good.
    let texts = [" is sad.", " is sad.", " is about", " is [insert title].", " is sad.", " is merry."];
    let mut given = 0;
    let (url, _) = serve(move |_| {
        given += 1;
        Reply::says(texts[given - 1])
    });
    let job = format!("{TLDR} --server {url} --server-model m --concurrency 1 --out pairs.jsonl");
    let report = world.json(&job);
    assert_eq!((&report["sampled"], &report["kept"]), (&json!(3), &json!(1)));
    assert_eq!(report["rejected"], json!({"format-leftover": 1, "identical": 1, "unfinished": 1}));
    let reasons: Vec<_> = world.lines("pairs.jsonl").iter().map(|pair| pair["rejected"].clone()).collect();
    assert_eq!(reasons, [json!(["identical"]), json!(["format-leftover", "unfinished"]), Value::Null]);
    // As text; the pairs are there, so nobody is asked.
    let shown = world.succeed(&job);
    assert!(shown.contains("format-leftover 1, identical 1, unfinished 1"), "{shown}");
}

#[test]
fn what_queries_meet_can_be_chosen() {
    let world = World::new();
    world.succeed("principles --edited principles.toml --out p.toml --constitutions contrasts".replace(
        "principles.toml",
        world
            .write(
                "edited.toml",
                "[[principle]]\nname = \"brief\"\nstatements = [\"Be brief.\"]\nantitheses = [\"Ramble.\"]\n\
                 [[principle]]\nname = \"kind\"\nstatements = [\"Be kind.\"]\nantitheses = [\"Be rude.\"]\n",
            )
            .to_str()
            .unwrap(),
    ).as_str());
    let generate =
        "generate --model model --data queries.jsonl --temperature 1 --max-new-tokens 5 --queries 6";
    world.succeed(&format!("{generate} --contrasts contrasts --out chosen.jsonl"));
    for pair in world.lines("chosen.jsonl") {
        assert_eq!(pair["constitutions"][0]["text"], "1. Be brief.\n2. Be kind.");
    }
    let own = |id: &Value| {
        let article =
            |stance: &str| json!([{"principle": "p", "stance": stance, "text": format!("{stance} of {id}")}]);
        json!({"query": id, "constitutions": [article("principle"), article("antithesis")]}).to_string()
            + "\n"
    };
    let ids: Vec<Value> = world.lines("chosen.jsonl").iter().map(|pair| pair["id"].clone()).collect();
    world.write("own.jsonl", &ids[..5].iter().map(own).collect::<String>());
    let output = world.sami(&format!("{generate} --per-query own.jsonl --out own-pairs.jsonl"));
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("has no constitutions of its own; add a line for it"), "{message}");
    let five = generate.replace("--queries 6", "--queries 5 --chunk 5");
    world.succeed(&format!("{five} --per-query own.jsonl --out own-pairs.jsonl"));
    for pair in world.lines("own-pairs.jsonl") {
        let text = pair["constitutions"][0]["text"].as_str().unwrap();
        assert!(text.contains(&format!(" of {}", pair["id"])), "{pair}");
    }
    for (arguments, expected) in [
        ("--contrasts contrasts --against-all", "cannot be used with"),
        (
            "--contrasts contrasts --n-constitutions 3",
            "3 constitutions per query are asked for, and there are 2",
        ),
        ("--contrasts nowhere", "nowhere: No such file"),
    ] {
        let output = world.sami(&format!("{generate} {arguments} --out x.jsonl"));
        let message = text(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains(expected), "{arguments}: {message}");
    }
}

#[test]
fn one_refused_prompt_leaves_the_others_as_they_are() {
    let world = World::new();
    posts(&world, 3);
    let filter = json!({"error": {"code": "content_filter", "message": "The prompt was filtered."}});
    let (url, seen) = serve(move |body| {
        let prompt = body["prompt"].as_str().unwrap();
        // The second post.
        if prompt.contains("keeps 1 geese") {
            Reply(400, "", filter.to_string())
        } else {
            Reply::says(&summary(body))
        }
    });
    let job = format!("{TLDR} --server {url} --server-model m --concurrency 1 --out pairs.jsonl");
    let report = world.json(&job);
    assert_eq!((&report["sampled"], &report["kept"]), (&json!(3), &json!(2)));
    assert_eq!(report["rejected"], json!({"server-refused": 1}));
    let pairs = world.lines("pairs.jsonl");
    let refusals: Vec<_> = pairs.iter().map(|pair| pair["refusal"].as_str()).collect();
    let words = "status 400 after 1 attempts: The prompt was filtered.";
    assert_eq!(refusals, [None, Some(words), None]);
    assert_eq!(seen.lock().unwrap().len(), 6);
    // One that refuses every prompt is an error.
    let (url, seen) = serve(|_| Reply(400, "", json!({"error": {"message": "no such model"}}).to_string()));
    let output =
        world.sami(&format!("{TLDR} --server {url} --server-model m --concurrency 1 --out none.jsonl"));
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("came to nothing, the first one so: status 400 after 1 attempts: no such model"),
        "{message}"
    );
    assert!(seen.lock().unwrap().len() <= 5);
}

#[test]
fn a_parameter_of_the_responses_is_asked_for_or_the_job_ends() {
    let world = World::new();
    posts(&world, 3);
    let (url, seen) = serve(|body| match body.get("temperature") {
        Some(_) => {
            let message = "Unsupported value: 'temperature' does not support 0 with this model.";
            let error = json!({"message": message, "param": "temperature", "code": "unsupported_value"});
            Reply(400, "", json!({"error": error}).to_string())
        }
        None => Reply::says(&summary(body)),
    });
    let job = format!("{TLDR} --server {url} --server-model m --concurrency 1 --out pairs.jsonl");
    let output = world.sami(&job);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("the server refuses temperature = 0.0, and its own default would"), "{message}");
    assert_eq!(seen.lock().unwrap().len(), 1);
    // Neutral values that a server does not know are left out and said.
    let (url, seen) = serve(|body| match body.get("top_k") {
        Some(_) => {
            Reply(400, "", json!({"error": "Unrecognized request argument supplied: top_k"}).to_string())
        }
        None => Reply::says(&summary(body)),
    });
    let job = format!("{TLDR} --server {url} --server-model m --concurrency 1 --out pairs.jsonl");
    let output = world.sami(&format!("--json {job}"));
    let message = text(&output.stderr);
    assert!(output.status.success() && message.contains("refuses the parameter top_k"), "{message}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["left_to_server"], json!(["top_k"]));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 7);
    assert!(seen[0].1["top_p"] == json!(1.0) && seen[6].1["min_p"] == json!(0.0));
}

#[test]
fn vllms_token_ids_are_held_against_a_tokenizer() {
    let world = World::new();
    posts(&world, 4);
    let tokenizer = sami_torch::Tokenizer::open(&world.path("model")).unwrap();
    let eos = tokenizer.eos()[0];
    let (size, mut given) = (tokenizer.vocab_size(), 0);
    let (url, _) = serve_as(Some(json!({"data": [{"id": "m", "owned_by": "vllm"}]})), move |body| {
        given += 1;
        let prompt = tokenizer.encode_prompt(body["prompt"].as_str().unwrap(), "prompt").unwrap();
        let mut ids = tokenizer.encode_prompt("words about letters", "words").unwrap().split_off(2);
        let mut text = tokenizer.decode_after(prompt.last().copied(), &ids).unwrap();
        ids.push(eos);
        match given {
            1 => ids[0] = u32::try_from(size).unwrap(),
            3 => {
                ids.pop();
            }
            5 => text.push_str(" and more"),
            _ => {}
        }
        let choice = json!({"text": text, "finish_reason": "stop", "stop_reason": null, "token_ids": ids});
        Reply(200, "", json!({"choices": [choice]}).to_string())
    });
    let job =
        format!("{TLDR} --server {url} --server-model m --concurrency 1 --tokenizer model --out pairs.jsonl");
    let report = world.json(&job);
    assert_eq!(report["token_ids"]["sampled"], json!(5), "{report}");
    let pairs = world.lines("pairs.jsonl");
    let refusals: Vec<_> = pairs.iter().filter_map(|pair| pair["refusal"].as_str()).collect();
    assert_eq!(refusals.len(), 3);
    let expected = [
        format!("the server's token ids: {size} is beyond the {size} tokens of the vocabulary"),
        "the server's token ids: the response is whole, and its last token ".to_owned(),
        "the server's token ids: they are ".to_owned(),
    ];
    for (refusal, expected) in refusals.iter().zip(&expected) {
        assert!(refusal.starts_with(expected.as_str()), "{refusal}");
    }
}
