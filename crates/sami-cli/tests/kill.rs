//! kill -9 at any moment, then the same command: the same bytes as an uninterrupted run. With real processes.
//!
//! ```text
//! SAMI_KILLS=1000 cargo test -p sami-cli --test kill                              as many kills
//! SAMI_SOAK_MINUTES=120 cargo test -p sami-cli --test kill random -- --nocapture  two hours of the sandbox's recipe, a line per run
//! ```
//!
//! `SAMI_SOAK_SEED` draws other moments, `SAMI_SOAK_DIR` is where the directories are and stay.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::time::{Duration, Instant};

use common::kills::{draws, interrupt_after, kill_when, spawn};
use common::{World, assert_same, snapshot, text};

/// Small, so that being killed is most of what happens.
fn recipe(world: &World) {
    let text = "seed = 5\n[model]\nbase = \"model\"\ndtype = \"f32\"\n[data]\nfiles = [\"queries.jsonl\"]\n\
        [sampling]\nmax_new_tokens = 4\ntemperature = 1.0\nchunk = 2\n\
        [training]\niterations = 2\nbatch_size = 2\nlearning_rate = 1e-3\nbeta = 0.1\n[evaluation]\nqueries = 3\n\
        [guards]\naction = \"warn\"\nqueries = 2\n";
    world.write("recipe.toml", text);
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// The world to run in, and the command without its directory: a tiny recipe, or for hours of it the sandbox's, shortened.
fn long_or_short(hours: bool) -> (World, &'static str) {
    if !hours {
        let world = World::new();
        recipe(&world);
        return (world, "run recipe.toml --out");
    }
    let sandbox = "run recipes/sandbox/dialogue.toml --set training.save_state_every=1 --set training.batch_size=16 \
        --set training.batches=1 --set sampling.chunk=4 --set sampling.max_new_tokens=48 \
        --set evaluation.queries=12 --set guards.queries=4 --set guards.action=warn --out";
    (World::sandbox(std::env::var_os("SAMI_SOAK_DIR").map(Into::into)), sandbox)
}

#[test]
#[allow(clippy::print_stderr, reason = "a line for each run says how far hours of work have come")]
fn killed_at_random_the_same_bytes() {
    let minutes = setting("SAMI_SOAK_MINUTES");
    let (world, run) = long_or_short(minutes.is_some());
    let begun = Instant::now();
    world.succeed(&format!("{run} whole"));
    let whole = begun.elapsed();
    let expected = snapshot(&world.path("whole"));
    eprintln!("uninterrupted: {:.1} s, {} files", whole.as_secs_f64(), expected.len());

    let (end, wanted) = (Duration::from_secs(minutes.unwrap_or(0) * 60), setting("SAMI_KILLS").unwrap_or(50));
    let first = setting("SAMI_SOAK_SEED").unwrap_or(7);
    let (mut all, mut runs) = (0, 0);
    while all < wanted || begun.elapsed() < end {
        let mut draws = draws(first + runs);
        let (mut kills, mut interrupts) = (0, 0);
        // A process that is killed at once gets nowhere, so the patience grows until the run ends.
        let mut patience = whole.mul_f64(0.25);
        loop {
            let mut child = spawn(world.command(&format!("{run} run")));
            let moment = patience.mul_f64(draws.next().unwrap() * 1.6 + 0.05);
            let gently = draws.next().unwrap() < 0.1;
            let ended = if gently {
                interrupt_after(&mut child, moment)
            } else {
                kill_when(&mut child, moment, &|| false)
            };
            if ended {
                break;
            }
            *(if gently { &mut interrupts } else { &mut kills }) += 1;
            patience = patience.mul_f64(1.06);
        }
        all += kills;
        let (seed, seconds) = (first + runs, begun.elapsed().as_secs_f64());
        eprintln!("seed {seed}: {kills} kills, {interrupts} interruptions; {all} kills after {seconds:.0} s");
        assert_same(&snapshot(&world.path("run")), &expected, &format!("seed {seed}"));
        std::fs::remove_dir_all(world.path("run")).unwrap();
        runs += 1;
    }
    assert!(runs >= 2, "one run took all {all} kills");
}

#[test]
fn killed_at_every_boundary_the_same_bytes() {
    let world = World::new();
    recipe(&world);
    world.succeed("run recipe.toml --out whole");
    let expected = snapshot(&world.path("whole"));
    // In the order of their appearance; a process is killed when it has made the next one.
    let mut boundaries = vec!["lock".to_owned(), "recipe.toml".into(), "constitutions.json".into()];
    for iteration in 0..=2 {
        if iteration > 0 {
            let names =
                ["pairs.jsonl", "guards.json", "metrics.jsonl", "training-state/step-1", "checkpoint"];
            boundaries.extend(names.map(|name| format!("iteration-{iteration}/{name}")));
        }
        let names = ["pairs.jsonl", "scores.jsonl", "summary.json", "guards.json"];
        boundaries.extend(names.map(|name| format!("eval/iteration-{iteration}/{name}")));
    }
    boundaries.push("final".into());
    let mut missed = Vec::new();
    for boundary in &boundaries {
        let path = world.path("run").join(boundary);
        if path.exists() {
            missed.push(boundary.as_str());
            continue;
        }
        let mut child = spawn(world.command("run recipe.toml --out run"));
        let patience = Duration::from_secs(120);
        assert!(!kill_when(&mut child, patience, &|| path.exists()) || boundary == "final", "{boundary}");
        assert!(path.exists() || boundary.contains("training-state"), "{boundary} never came");
    }
    // Files that are made in the same moment cannot be told apart by a process that looks on.
    assert!(missed.len() <= boundaries.len() / 3, "{missed:?}");
    world.succeed("run recipe.toml --out run");
    assert_same(&snapshot(&world.path("run")), &expected, "every boundary");
}

#[test]
fn killed_training_alone_ends_with_the_same_bytes() {
    let world = World::new();
    world.succeed("generate --model model --data queries.jsonl --queries 6 --max-new-tokens 4 --temperature 1 --out p.jsonl");
    let train = "train --model model --pairs p.jsonl --steps 8 --batch-size 2 --lr 1e-3 --schedule linear --warmup-steps 2";
    let begun = Instant::now();
    world.succeed(&format!("{train} --out whole"));
    let whole = begun.elapsed();
    let expected = snapshot(&world.path("whole"));
    let (mut kills, mut draws) = (0, draws(11));
    let mut patience = whole.mul_f64(0.4);
    loop {
        let mut child = spawn(world.command(&format!("{train} --out run")));
        if kill_when(&mut child, patience.mul_f64(draws.next().unwrap() + 0.5), &|| false) {
            break;
        }
        kills += 1;
        patience = patience.mul_f64(1.1);
    }
    assert!(kills >= 1, "never killed");
    assert_same(&snapshot(&world.path("run")), &expected, "train");
    // Finished: the same command says the same; another learning rate is refused.
    assert_eq!(world.json(&format!("{train} --out run"))["steps"].as_array().unwrap().len(), 8);
    let output = world.sami(&format!("{train} --beta 0.5 --out run"));
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("was made with other settings: beta, engine differ"), "{message}");
    assert_same(&snapshot(&world.path("run")), &expected, "refused");
}
