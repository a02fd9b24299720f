//! A full disk, a directory that cannot be written, another process, Ctrl-C: a clear message, and nothing damaged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{World, assert_same, snapshot, text};

/// The command with files limited to `blocks` of 512 bytes: a write beyond that fails as on a full disk.
fn limited(world: &World, blocks: usize, arguments: &str) -> Command {
    let sami = world.command(arguments);
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(sami.get_program()).args(sami.get_args());
    command.current_dir(world.path("")).env("OMP_NUM_THREADS", "1").env_remove("SAMI_LOG");
    command
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let world = World::new();
    world.recipe();
    world.succeed("run recipe.toml --out whole");
    let expected = snapshot(&world.path("whole"));
    // The smallest limits end the run early, larger ones in the first pairs, in a state or in a checkpoint.
    for (out, blocks) in [("one", 1), ("four", 4), ("twelve", 12), ("fifty", 50)] {
        let arguments = format!("run recipe.toml --out {out}");
        let output = limited(&world, blocks, &arguments).output().unwrap();
        let message = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{:?} {message}", output.status);
        assert!(message.contains(&format!("{out}/")), "{message}");
        assert!(message.contains("File too large") && !message.contains("panicked"), "{message}");
        world.succeed(&arguments);
        assert_same(&snapshot(&world.path(out)), &expected, out);
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let world = World::new();
    world.recipe();
    world.write("file", "mine");
    for out in ["file", "file/run", "/sys/sami-run"] {
        let output = world.sami(&format!("run recipe.toml --out {out}"));
        let message = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{out}: {:?} {message}", output.status);
        assert!(message.contains(out) && !message.contains("panicked"), "{out}: {message}");
    }
    assert_eq!(world.read("file"), "mine");
}

/// Waits until `sami status` says that a process has the run.
fn wait_until_in_use(world: &World, out: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let output = world.sami(&format!("--json status {out}"));
        if output.status.success() && text(&output.stdout).contains("\"in_use\":\" (process ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no process took {out}");
}

#[test]
fn a_run_in_use_is_refused_and_ctrl_c_ends_it_in_order() {
    let world = World::new();
    let text_of = world.read(world.recipe().file_name().unwrap().to_str().unwrap());
    world.write(
        "recipe.toml",
        &text_of.replace("batch_size = 2", "batch_size = 4\nbatches = 20\niterations = 1"),
    );
    // Twenty large steps on a random model: its text may well collapse.
    let run = "run recipe.toml --out run --no-guards";
    let mut command = world.command(run);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_in_use(&world, "run");

    let second = world.sami(run);
    assert_eq!(second.status.code(), Some(2));
    let message = text(&second.stderr);
    let expected = format!("run is in use by another process (process {}); wait for it to end", child.id());
    assert!(message.contains(&expected), "{message}");

    // Ctrl-C: the step or chunk in progress is finished and kept.
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("finishing the work in progress"), "{message}");
    assert!(message.contains("the same command goes on from there"), "{message}");
    assert!(world.succeed("status run").contains("interrupted; the command that began it goes on"));

    world.succeed(run);
    assert!(world.succeed("status run").contains(": finished"));
    world.succeed("run recipe.toml --out whole --no-guards");
    assert_same(&snapshot(&world.path("run")), &snapshot(&world.path("whole")), "interrupted");
}

#[test]
fn an_interrupted_evaluation_keeps_its_scores_and_goes_on() {
    let world = World::new();
    let recipe = world.read(world.recipe().file_name().unwrap().to_str().unwrap());
    world.write("recipe.toml", &recipe.replace("queries = 5", "queries = 120"));
    world.succeed("run recipe.toml --out run --no-guards --set training.iterations=1");
    let evaluate = "eval mi run";
    world.succeed(evaluate);
    let expected = snapshot(&world.path("run/eval/mi"));

    std::fs::remove_dir_all(world.path("run/eval/mi")).unwrap();
    let scores = world.path("run/eval/mi/iteration-0/scores.jsonl");
    let lines = || std::fs::read_to_string(&scores).map_or(0, |text| text.lines().count());
    let child = world.command(evaluate).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while lines() == 0 {
        assert!(Instant::now() < deadline, "no score was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("the same command goes on from there"), "{message}");
    assert!(lines() > 0 && !world.path("run/eval/mi/iteration-1/summary.json").exists());

    world.succeed(evaluate);
    assert_same(&snapshot(&world.path("run/eval/mi")), &expected, "interrupted");
}
