//! `sami eval`, `sami probe` and `sami report`, through the binary, on a small run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

mod common;

use common::server::{Reply, serve};
use common::{World, text};
use serde_json::{Value, json};

/// A server whose only opinion is that the first response is better. Returns its address.
fn partial_judge() -> String {
    serve(|_| Reply::says("Comparison: the first.\nFinal Response: A")).0
}

fn refused(world: &World, arguments: &str, expected: &str) {
    let output = world.sami(arguments);
    let message = text(&output.stderr);
    assert!(output.status.code() == Some(2) && message.contains(expected), "sami {arguments}\n{message}");
}

#[test]
fn a_judge_that_takes_no_temperature_judges_at_its_own_and_the_report_says_so() {
    let world = World::new();
    let columns = |make: &dyn Fn(usize) -> String| -> Value {
        (0..3).map(|n| (n.to_string(), json!(make(n)))).collect::<serde_json::Map<_, _>>().into()
    };
    for (file, response) in [("candidate.json", "Short."), ("baseline.json", "Quite a bit longer.")] {
        let file_of = json!({
            "question": columns(&|n| format!("POST: Post number {n}.")),
            "constitution": columns(&|_| "1. Be brief.".into()),
            "response": columns(&|n| format!("{response} {n}")),
        });
        world.write(file, &file_of.to_string());
    }
    let filter = json!({"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}});
    let (server, _) = serve(move |body| {
        let asked = body["messages"][0]["content"].as_str().unwrap();
        if body.get("temperature").is_some() {
            let error =
                json!({"message": "Unsupported parameter: 'temperature' is not supported with this model."});
            return Reply(400, "", json!({"error": error}).to_string());
        }
        if asked.contains("Post number 2") {
            return Reply(400, "", filter.to_string());
        }
        let first = asked.find("Short.").unwrap() < asked.find("Quite").unwrap();
        Reply::says(if first { "Final Response: A > B" } else { "Final Response: \\text{B}" })
    });
    let found = world.json(&format!(
        "eval win-rate --candidate candidate.json --baseline baseline.json --task tldr --verdicts verdicts.jsonl \
         --server {server} --server-model m"
    ));
    let judge = found["comparisons"][0]["judge"].as_str().unwrap();
    assert_eq!(judge, "m (tldr), left to the server: temperature");
    let verdicts: Vec<_> = world
        .lines("verdicts.jsonl")
        .iter()
        .map(|line| line["verdict"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(verdicts.iter().filter(|verdict| *verdict == "failed").count(), 2, "{verdicts:?}");
    let reasons: Vec<_> = world
        .lines("verdicts.jsonl")
        .iter()
        .filter_map(|line| line["reason"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(reasons, ["status 400 after 1 attempts: Content Exists Risk"; 2]);
}

#[test]
fn a_run_is_evaluated_judged_and_reported() {
    let world = World::new();
    refused(&world, "eval mi run", "give the directory of a run");
    refused(&world, "report run", "run is no run: it has no recipe.toml");
    let recipe = std::fs::read_to_string(world.recipe()).unwrap();
    world.write("recipe.toml", &recipe.replace("[training]", "[training]\niterations = 2"));
    world.succeed("run recipe.toml --out run");
    refused(
        &world,
        "eval win-rate run --server http://localhost:1/v1 --server-model m",
        "run `sami eval mi` first",
    );

    // The five held-out queries of the recipe, under all four constitutions of two principles.
    let models = world.json("eval mi run --reference other=run/iteration-2/checkpoint --evidence 1");
    let models = models.as_array().unwrap();
    let names: Vec<_> = models.iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["iteration-0", "iteration-1", "iteration-2", "other"]);
    for model in models {
        assert_eq!((model["asked"].as_u64(), model["constitutions"].as_u64()), (Some(5), Some(4)), "{model}");
        let cap = model["all"]["mi"]["cap"].as_f64().unwrap();
        assert!((cap - 4.0_f64.ln()).abs() < 1e-12);
        assert!(model["principles"].as_array().unwrap().len() == 2);
    }
    // The reference is iteration 2's own checkpoint, and the draws are the same.
    assert_eq!(models[2]["all"], models[3]["all"]);
    assert_eq!(models[0]["change_from_base"], Value::Null);
    let trained: Vec<Value> =
        (1..=2).flat_map(|i| world.lines(&format!("run/iteration-{i}/pairs.jsonl"))).collect();
    for pair in world.lines("run/eval/mi/iteration-2/pairs.jsonl") {
        assert!(trained.iter().all(|other| other["query"] != pair["query"]), "{pair}");
    }
    for evidence in world.lines("run/eval/mi/iteration-2/evidence.jsonl") {
        for word in evidence["words"].as_array().unwrap() {
            let total: f64 =
                word["log_posterior"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap().exp()).sum();
            assert!((total - 1.0).abs() < 1e-9);
        }
    }
    // Nothing is done twice, and other queries are not mixed in.
    let scores =
        std::fs::metadata(world.path("run/eval/mi/iteration-1/scores.jsonl")).unwrap().modified().unwrap();
    world.succeed("eval mi run");
    let again =
        std::fs::metadata(world.path("run/eval/mi/iteration-1/scores.jsonl")).unwrap().modified().unwrap();
    assert_eq!(scores, again);
    refused(&world, "eval mi run --queries 3", "holds answers to 5 queries, and 3 are asked for; remove it");
    refused(&world, "eval mi run --reference iteration-9=model", "cannot name a reference");

    // A judge that goes by places alone: both orders show it, and the rate is chance.
    let server = partial_judge();
    let judge = format!("--server {server} --server-model partial");
    let found = world.json(&format!("eval win-rate run {judge}"));
    let comparisons = found["comparisons"].as_array().unwrap();
    // Two iterations against the base, and three models against the reference.
    assert_eq!(comparisons.len(), 5);
    for comparison in comparisons {
        assert_eq!(comparison["uncorrected"]["rate"], 0.5, "{comparison}");
        assert_eq!(
            (&comparison["position"]["second"], &comparison["position"]["consistent"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(comparison["constitution"], "harmless+helpful");
    }
    let verdicts = "run/eval/win-rate/iteration-2-against-iteration-0.jsonl";
    assert_eq!(world.lines(verdicts).len(), 10);
    let alone = world.json(&format!("eval win-rate --verdicts {verdicts} --other-judge {verdicts}"));
    assert_eq!(alone["comparisons"][0]["uncorrected"], comparisons[1]["uncorrected"]);
    assert_eq!(alone["agreement"]["share"], 1.0);

    let written = world.json("report run");
    assert_eq!(written["missing"], json!([]));
    let html = world.read("run/report.html");
    for title in ["Mutual information", "Win rate against the base model", "Win rate against other", "Loss"] {
        assert!(html.contains(&format!("<title>{title}</title>")), "{title}");
    }
    assert!(!html.contains("http://localhost") && !html.contains("<script"));
    for file in written["figures"].as_array().unwrap().iter().chain(written["events"].as_array().unwrap()) {
        assert!(std::fs::metadata(world.path(file.as_str().unwrap())).unwrap().len() > 100, "{file}");
    }
}

/// The paper's files, two judges' verdicts, and what is refused.
#[test]
fn files_of_responses_and_verdicts_are_compared() {
    let world = World::new();
    let columns = |response: &str| json!({"question": {"0": "POST: A post."}, "constitution": {"0": "1. Be brief."}, "response": {"0": response}});
    world.write("candidate.json", &columns("Short.").to_string());
    world.write("baseline.json", &columns("Quite a bit longer.").to_string());
    let server = partial_judge();
    let judge = format!("--server {server} --server-model m --task tldr --verdicts verdicts.jsonl");
    let found =
        world.json(&format!("eval win-rate --candidate candidate.json --baseline baseline.json {judge}"));
    assert_eq!(found["comparisons"][0]["uncorrected"]["tally"]["wins"], 1);
    assert_eq!(found["comparisons"][0]["corrected"], Value::Null);
    refused(
        &world,
        "eval win-rate --candidate candidate.json --baseline baseline.json --verdicts v.jsonl",
        "nobody is named to make them",
    );
    refused(&world, "eval win-rate --verdicts candidate.json", "candidate.json, line 1: ");
    refused(
        &world,
        "eval win-rate --candidate queries.jsonl --baseline baseline.json --verdicts v.jsonl --server http://h/v1 --server-model m",
        "queries.jsonl, line 1: ",
    );
}

/// Ties, answers without a verdict and failed calls are counted apart, and only failed calls are made again.
#[test]
fn what_is_no_verdict_is_counted_and_never_half() {
    let world = World::new();
    let columns = |make: &dyn Fn(usize) -> String| -> Value {
        (0..6).map(|n| (n.to_string(), json!(make(n)))).collect::<serde_json::Map<_, _>>().into()
    };
    for (file, response) in [("candidate.json", "Short."), ("baseline.json", "Quite a bit longer.")] {
        let (posts, rules) =
            (columns(&|n| format!("POST: Post number {n}.")), columns(&|_| "1. Be brief.".into()));
        let responses = columns(&|n| format!("{response} {n}"));
        let file_of = json!({"question": posts, "constitution": rules, "response": responses});
        world.write(file, &file_of.to_string());
    }
    let mut ill = 2;
    let (server, seen) = serve(move |body| {
        let asked = body["messages"][0]["content"].as_str().unwrap();
        let short_is_first = asked.find("Short.").unwrap() < asked.find("Quite").unwrap();
        let [better, worse] = if short_is_first { ["A", "B"] } else { ["B", "A"] };
        let number: usize = asked.split("Post number ").nth(1).unwrap()[..1].parse().unwrap();
        match number {
            0 | 1 => Reply::says(&format!("Comparison: brief.\nFinal Response: {better}")),
            2 => Reply::says("Comparison: the same.\nFinal Response: Tie"),
            3 => Reply::says(&format!("Comparison: long.\nFinal Response: {worse}")),
            4 => Reply::says("Both have their merits."),
            _ if ill > 0 => {
                ill -= 1;
                Reply(400, "", "the prompt is too long".into())
            }
            _ => Reply::says(&format!("Final Response: {better}")),
        }
    });
    let job = format!(
        "eval win-rate --candidate candidate.json --baseline baseline.json --task tldr --verdicts verdicts.jsonl --concurrency 1 \
         --server {server} --server-model m"
    );
    let shown = world.succeed(&job);
    // (1 + 1 + ½ + 0) / 4
    assert!(shown.contains("uncorrected       0.625 ± 0.239  Wilson ["), "{shown}");
    let tally = "verdicts          4 won, 2 lost, 2 ties (0 contests of equal texts), 2 without a verdict, 2 failed; 2 contests left out";
    assert!(shown.contains(tally), "{shown}");
    let lines = world.lines("verdicts.jsonl");
    let reasons: Vec<_> = lines.iter().filter_map(|line| line["reason"].as_str()).collect();
    assert!(
        reasons.len() == 2 && reasons[0].contains("status 400 after 1 attempts: the prompt is too long"),
        "{reasons:?}"
    );
    let answers: Vec<_> = lines.iter().filter_map(|line| line["answer"].as_str()).collect();
    assert_eq!(answers, ["Both have their merits."; 2]);
    assert_eq!(seen.lock().unwrap().len(), 12);

    let shown = world.succeed(&job);
    // (1 + 1 + ½ + 0 + 1) / 5
    assert!(shown.contains("uncorrected       0.700 ± 0.200  Wilson ["), "{shown}");
    assert!(shown.contains("6 won, 2 lost, 2 ties (0 contests of equal texts), 2 without a verdict, 0 failed; 1 contests left out"));
    assert_eq!(seen.lock().unwrap().len(), 14);
    let shown = world.succeed(&format!("{job} --ties excluded"));
    // (1 + 1 + 0 + 1) / 4
    assert!(shown.contains("uncorrected       0.750 ± 0.250  Wilson ["), "{shown}");
}

#[test]
fn a_probe_of_a_random_model_finds_no_connection() {
    let world = World::new();
    let common = "probe --model model --data queries.jsonl --queries 8 --max-new-tokens 6 --batch-size 16";
    let found = world.json(common);
    assert_eq!((found["queries"].as_u64(), found["batch_size"].as_u64()), (Some(8), Some(16)));
    assert!(found["mi"]["mean"].as_f64().unwrap() < 0.02, "{found}");
    assert_ne!(found["connection"], "strong", "{found}");
    assert!(found["signal_to_noise"].as_f64().unwrap() >= 0.0);
    assert_eq!(found["principles"].as_array().unwrap().len(), 2);
    let output = world.succeed(&format!("{common} --no-gradient"));
    assert!(output.contains("noise floor") && !output.contains("gradient"), "{output}");
    // The same seed, the same figures.
    assert_eq!(world.json(&format!("{common} --no-gradient"))["mi"], found["mi"]);
}

/// A chat template that every tokenizer can spell.
const CHAT: &str = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn an_instruct_model_is_a_line_of_reference_in_its_own_format() {
    let world = World::new();
    let recipe = std::fs::read_to_string(world.recipe()).unwrap();
    world.write("recipe.toml", &recipe.replace("[training]", "[training]\niterations = 1"));
    world.succeed("run recipe.toml --out run");
    refused(
        &world,
        "eval mi run --instruct chat=model --evidence 1",
        "--instruct: model has no chat template; a base model reads the prompts as they are, with --reference",
    );
    world.write("model/chat_template.jinja", CHAT);
    let models = world.json("eval mi run --instruct chat=model --evidence 1");
    let chat = &models.as_array().unwrap()[2];
    assert_eq!((&chat["name"], &chat["asked"]), (&json!("chat"), &json!(5)));
    // The same weights and draws as the base, asked otherwise.
    assert_ne!(chat["all"]["mi"], models[0]["all"]["mi"]);
    let pairs = world.lines("run/eval/mi/chat/pairs.jsonl");
    let prompts = pairs[0]["prompts"].as_array().unwrap();
    assert!(prompts.iter().all(|prompt| {
        let prompt = prompt.as_str().unwrap();
        prompt.starts_with("Answer the human as an assistant") && !prompt.ends_with("Assistant:")
    }));
    assert!(!world.lines("run/eval/mi/chat/evidence.jsonl").is_empty());
    refused(&world, "eval mi run --instruct x=model --reference x=model", "\"x\" names two models");

    world.json("report run");
    let html = world.read("run/report.html");
    assert!(html.contains("chat"), "the reference line has its name");

    // Raw, the same checkpoint continues; in its format, it answers.
    world.write("prompts.jsonl", "\"How do gnomes garden?\"\n");
    let sample = "sample --model model --prompts prompts.jsonl --max-new-tokens 6";
    world.succeed(&format!("{sample} --out raw.jsonl"));
    world.succeed(&format!("{sample} --chat --out answered.jsonl"));
    assert_ne!(world.lines("raw.jsonl")[0]["text"], world.lines("answered.jsonl")[0]["text"]);
}

#[test]
fn a_checkpoint_judges_and_is_not_believed_when_it_babbles() {
    let world = World::new();
    let columns = |response: &str| json!({"question": {"0": "POST: A post."}, "constitution": {"0": "1. Be brief."}, "response": {"0": response}});
    world.write("candidate.json", &columns("Short.").to_string());
    world.write("baseline.json", &columns("Quite a bit longer.").to_string());
    let judge =
        "eval win-rate --candidate candidate.json --baseline baseline.json --task tldr --max-new-tokens 8";
    // A random model never gives a verdict, as a base model and in a chat format: that is counted, and is no half win.
    for (out, template) in [("base.jsonl", false), ("chat.jsonl", true)] {
        if template {
            world.write("model/chat_template.jinja", CHAT);
        }
        let output = world.sami(&format!("{judge} --judge-model model --verdicts {out}"));
        let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(
            shown.contains("no contest counts: 0 wins, 0 losses, 0 ties, 2 answers without a verdict"),
            "{shown}"
        );
        let verdicts = world.lines(out);
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts.iter().all(|one| one["verdict"] == "unparsable"), "{verdicts:?}");
    }
    assert_ne!(world.lines("base.jsonl")[0]["answer"], world.lines("chat.jsonl")[0]["answer"]);
    refused(
        &world,
        &format!("{judge} --verdicts v.jsonl --judge-model model --judge sandbox"),
        "cannot be used with",
    );
    refused(&world, &format!("{judge} --verdicts v.jsonl --judge-model nowhere"), "nowhere");
}
