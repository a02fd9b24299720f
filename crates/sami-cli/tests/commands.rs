//! Every command, through the binary.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use approx::assert_abs_diff_eq;
use common::{World, matrix, text};
use serde_json::{Value, json};

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// ln Σ exp.
fn log_sum(values: impl Iterator<Item = f64>) -> f64 {
    values.map(f64::exp).sum::<f64>().ln()
}

/// The line's figures, from its matrices by the formulas of DESIGN §3, written out for C × C.
fn check_score(line: &Value) {
    let (mean, sum, tokens) = (matrix(&line["mean"]), matrix(&line["sum"]), matrix(&line["tokens"]));
    let c = mean.len();
    let row = |m: &[Vec<f64>], j: usize| m[j][j] - log_sum(m[j].iter().copied());
    let col = |m: &[Vec<f64>], j: usize| m[j][j] - log_sum(m.iter().map(|row| row[j]));
    let over = |term: &dyn Fn(usize) -> f64| (0..c).map(term).sum::<f64>() / c as f64;
    let loss = -0.5 * (over(&|j| row(&mean, j)) + over(&|j| col(&mean, j)));
    assert_abs_diff_eq!(f(&line["loss"]), loss, epsilon = 1e-9);
    let (cap, mi) = ((c as f64).ln(), &line["mi"]);
    assert_abs_diff_eq!(f(&mi["constitutions"]), cap + over(&|j| col(&sum, j)), epsilon = 1e-9);
    assert_abs_diff_eq!(f(&mi["responses"]), cap + over(&|j| row(&sum, j)), epsilon = 1e-9);
    assert_abs_diff_eq!(
        f(&mi["two_sided"]),
        (f(&mi["constitutions"]) + f(&mi["responses"])) / 2.0,
        epsilon = 1e-9
    );
    for ((mean, sum), tokens) in mean.iter().flatten().zip(sum.iter().flatten()).zip(tokens.iter().flatten())
    {
        assert_abs_diff_eq!(mean * tokens, sum, epsilon = 1e-9);
    }
}

const GENERATE: &str =
    "generate --model model --data queries.jsonl --temperature 1 --max-new-tokens 8 --seed 3";

#[test]
fn generate_score_train_and_score_again() {
    let world = World::new();
    let report = world.json(&format!("{GENERATE} --queries 6 --out pairs.jsonl"));
    assert_eq!(report["kept"], 6);
    let pairs = world.lines("pairs.jsonl");
    assert!(pairs.len() >= 6 && pairs.iter().all(|pair| pair["prompts"].as_array().unwrap().len() == 2));
    // The same command has nothing left to do; a longer one goes on.
    let before = world.read("pairs.jsonl");
    world.succeed(&format!("{GENERATE} --queries 6 --out pairs.jsonl"));
    assert_eq!(world.read("pairs.jsonl"), before);

    let summary = world.json("score --model model --pairs pairs.jsonl --out scores.jsonl");
    let scores = world.lines("scores.jsonl");
    assert_eq!((scores.len(), summary["queries"].as_u64()), (6, Some(6)));
    scores.iter().for_each(check_score);
    let mean = |name: &str| scores.iter().map(|line| f(&line["mi"][name])).sum::<f64>() / 6.0;
    assert_abs_diff_eq!(f(&summary["mi"]["constitutions"]["mean"]), mean("constitutions"), epsilon = 1e-9);
    assert!(f(&summary["mi"]["constitutions"]["standard_error"]) > 0.0);
    let plain = world.succeed("score --model model --pairs pairs.jsonl --out scores.jsonl");
    assert!(plain.contains("nats") && plain.contains('±'), "{plain}");

    // Four pairs a step out of six: the second batch wraps around.
    let rms =
        "train --model model --pairs pairs.jsonl --steps 4 --batch-size 4 --lr 1e-4 --optimizer rmsprop";
    let train = rms.replace("1e-4 --optimizer rmsprop", "1e-3 --optimizer adamw");
    world.succeed(&format!("{train} --out trained"));
    let metrics = world.lines("trained/metrics.jsonl");
    assert_eq!(metrics.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(
        metrics.iter().all(|line| f(&line["seconds"]) > 0.0
            && line["queries"] == 4
            && line["loss"] == line["train/loss"])
    );
    let after = world.json("score --model trained --pairs pairs.jsonl --out after.jsonl");
    assert!(f(&after["loss"]["mean"]) < f(&summary["loss"]["mean"]) - 0.01, "{after} against {summary}");
    assert_eq!(world.json("inspect trained")["family"], world.json("inspect model")["family"]);

    // The first batch's loss is the mean of its sets' losses, and a micro-batch changes rounding only.
    world.succeed(&format!("{train} --out straight --no-shuffle"));
    world.succeed(&format!("{train} --out micro --no-shuffle --micro-batch 1"));
    let (straight, micro) = (world.lines("straight/metrics.jsonl"), world.lines("micro/metrics.jsonl"));
    let first = scores[..4].iter().map(|line| f(&line["loss"])).sum::<f64>() / 4.0;
    assert_abs_diff_eq!(f(&straight[0]["loss"]), first, epsilon = 1e-6);
    for (a, b) in straight.iter().zip(&micro) {
        assert_abs_diff_eq!(f(&a["loss"]), f(&b["loss"]), epsilon = 1e-5);
    }
    assert_ne!(straight[0]["loss"], metrics[0]["loss"], "--no-shuffle takes other pairs first");
    world.succeed(&format!("{rms} --no-shuffle --out rms"));
    let rms = world.lines("rms/metrics.jsonl");
    assert_eq!(rms[0]["loss"], straight[0]["loss"]);
    assert_ne!(rms[1]["loss"], straight[1]["loss"]);
}

#[test]
fn the_papers_json_scores_like_our_lines() {
    let world = World::new();
    let prompts = ["Be brief. Hello! Assistant:", "Be long. Hello! Assistant:", "Be odd. Hello! Assistant:"];
    let responses = [" Hi.", " A very good morning to you.", " Seventeen."];
    let entries: Vec<_> = prompts
        .iter()
        .zip(responses)
        .map(|(prompt, response)| json!({"prompt": prompt, "response": response, "example_id": 0}))
        .collect();
    world.write("paper.json", &json!({"0": entries, "1": entries[..2]}).to_string());
    let ours = json!({
        "id": "0", "query": "Hello!", "prompts": prompts,
        "constitutions": [{"id": "a", "text": ""}, {"id": "b", "text": ""}, {"id": "c", "text": ""}],
        "responses": responses.iter().enumerate().map(|(k, text)| json!({"constitution": k, "text": text})).collect::<Vec<_>>(),
    });
    world.write("ours.jsonl", &format!("{ours}\n"));
    world.succeed("score --model model --pairs paper.json --out paper.jsonl");
    world.succeed("score --model model --pairs ours.jsonl --out ours-scores.jsonl");
    let (paper, ours) = (world.lines("paper.jsonl"), world.lines("ours-scores.jsonl"));
    assert_eq!((paper.len(), ours.len()), (2, 1));
    assert_eq!(matrix(&paper[0]["tokens"]), matrix(&ours[0]["tokens"]));
    for (a, b) in matrix(&paper[0]["sum"]).iter().flatten().zip(matrix(&ours[0]["sum"]).iter().flatten()) {
        assert_abs_diff_eq!(a, b, epsilon = 1e-4);
    }
    check_score(&paper[0]);
    assert_eq!(matrix(&paper[1]["mean"]).len(), 2);
}

#[test]
fn sample_takes_strings_and_objects_and_repeats_itself() {
    let world = World::new();
    world.write("prompts.jsonl", "\"How do I \"\n{\"prompt\": \"How do I \"}\n{\"prompt\": \"Tell me\"}\n");
    let sample = "sample --model model --prompts prompts.jsonl --max-new-tokens 5";
    world.succeed(&format!("{sample} --out greedy.jsonl"));
    let greedy = world.lines("greedy.jsonl");
    assert_eq!(greedy.len(), 3);
    assert_eq!(greedy[0], greedy[1]);
    assert_eq!(greedy[2]["prompt"], "Tell me");
    assert!(
        greedy.iter().all(|line| line["text"].is_string() && line["tokens"].as_array().unwrap().len() <= 5)
    );
    for (seed, out) in [(1, "a.jsonl"), (1, "b.jsonl"), (2, "c.jsonl")] {
        world.succeed(&format!("{sample} --temperature 1 --top-p 0.9 --seed {seed} --out {out}"));
    }
    assert_eq!(world.read("a.jsonl"), world.read("b.jsonl"));
    assert_ne!(world.read("a.jsonl"), world.read("c.jsonl"));
    // Equal prompts have their own streams.
    assert_ne!(world.lines("a.jsonl")[0]["tokens"], world.lines("a.jsonl")[1]["tokens"]);
}

#[test]
fn run_resumes_and_reports_as_json() {
    let world = World::new();
    world.recipe();
    let report = world.json("run recipe.toml --out run");
    assert_eq!(report["checkpoints"].as_array().unwrap().len(), 3);
    assert_eq!(report["evaluations"].as_array().unwrap().len(), 4);
    assert_eq!(world.lines("run/iteration-3/metrics.jsonl").len(), 6);
    assert_eq!(world.json("run recipe.toml --out run"), report);
    assert!(world.succeed("inspect run/iteration-3/checkpoint").to_lowercase().contains("mistral"));
    world.write("recipe.toml", &world.read("recipe.toml").replace("seed = 5", "seed = 6"));
    let output = world.sami("run recipe.toml --out run");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("made by another recipe: seed differ"), "{}", text(&output.stderr));
}

#[test]
fn doctor_and_help_answer() {
    let world = World::new();
    assert!(world.json("doctor").is_object());
    assert!(!world.succeed("doctor").is_empty());
    for command in [
        "run",
        "recipe",
        "recipe check",
        "recipe show",
        "generate",
        "train",
        "score",
        "sample",
        "inspect",
        "export",
        "status",
        "completions",
        "doctor",
    ] {
        let help = world.succeed(&format!("{command} --help"));
        assert!(help.contains("Example:\n  sami ") || help.contains("Examples:\n  sami "), "{help}");
    }
    assert!(world.succeed("--version").starts_with("sami "));
}

#[test]
fn shipped_recipes_are_checked_and_shown() {
    let world = World::new();
    let recipes = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
    let checked = world.json(&format!("recipe check {recipes}"));
    assert!(checked["checked"].as_array().unwrap().len() >= 7, "{checked}");
    world.recipe();
    let shown = world.succeed("recipe show recipe.toml --set training.lora.rank=4 --set name=mine");
    for line in ["name = \"mine\"", "rank = 4", "weight_decay", "[guards]", "batch_size = 2"] {
        assert_eq!(shown.contains(line), line != "weight_decay", "{line}: {shown}");
    }
    // What is shown is a recipe that says the same.
    world.write("shown.toml", &shown);
    assert_eq!(world.succeed("recipe show shown.toml"), shown);
    let json = world.json("recipe show recipe.toml --set sampling.top_k=5");
    assert_eq!(json["sampling"]["top_k"], 5);
}

#[test]
fn a_run_has_a_status_and_a_model_to_export() {
    let world = World::new();
    world.recipe();
    let run = "run recipe.toml --out run --set training.iterations=1 --set training.lora.rank=2 --no-guards";
    let output = world.sami(&format!("{run} --quiet"));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let status = world.json("status run");
    assert_eq!((&status["finished"], &status["in_use"]), (&json!(true), &Value::Null));
    assert_eq!(status["models"][1]["steps"], 2);
    assert_eq!(status["models"][1]["finished"], json!(["generate", "train", "evaluate"]));
    assert!(status["models"][1]["evaluation"]["mi"]["constitutions"]["mean"].is_number());
    assert!(world.succeed("status run").contains("iteration 1: "));

    // Adapters are evaluated as the models that they are.
    let models = world.json("eval mi run --reference last=run/final --evidence 1");
    assert_eq!(models[1]["all"]["mi"], models[2]["all"]["mi"]);
    assert_ne!(models[0]["all"]["mi"], models[1]["all"]["mi"]);

    // The final model is an adapter; exported, it is a checkpoint that scores the same.
    assert!(
        world.path("run/final/adapter_config.json").is_file() && world.path("run/final/README.md").is_file()
    );
    let exported = world.json("export run/final --out merged --max-shard 0.00002");
    assert_eq!(exported["merged"], true);
    assert!(
        world.path("merged/model.safetensors.index.json").is_file()
            && world.path("merged/config.json").is_file()
    );
    for (model, out) in [("run/final", "a.jsonl"), ("merged", "b.jsonl"), ("model", "c.jsonl")] {
        world.succeed(&format!("score --model {model} --pairs run/iteration-1/pairs.jsonl --out {out}"));
    }
    let sums = |name: &str| -> Vec<f64> {
        let lines = world.lines(name);
        lines.iter().flat_map(|line| matrix(&line["sum"]).concat()).collect()
    };
    let (adapter, merged, base) = (sums("a.jsonl"), sums("b.jsonl"), sums("c.jsonl"));
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart(&adapter, &merged) < 1e-3, "{}", apart(&adapter, &merged));
    assert!(apart(&adapter, &base) > 10.0 * apart(&adapter, &merged), "training changed nothing");
    world.succeed("export merged --out half --dtype bf16");
    assert!(world.read("half/config.json").contains("bfloat16"));
    world.succeed("inspect half");
}

#[test]
fn shells_get_completions() {
    let world = World::new();
    for (shell, part) in
        [("bash", "complete -F _sami"), ("zsh", "#compdef sami"), ("fish", "complete -c sami")]
    {
        let script = world.succeed(&format!("completions {shell}"));
        assert!(script.contains(part) && script.contains("no-guards"), "{shell}");
    }
}
