//! Every pool of threads has the number that was asked for, and idle threads sleep.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::World;
use serde_json::json;

/// What a process was seen to have.
struct Seen {
    /// Threads of the crew.
    crew: usize,
    /// Threads in all, the crew's included; those that ended count too.
    all: usize,
    environment: String,
}

/// Looks at a process until it has computed for a while, and ends it.
fn watch(mut child: Child) -> Seen {
    let proc = format!("/proc/{}", child.id());
    let (mut crew, mut all) = (BTreeSet::new(), BTreeSet::new());
    let mut environment = Vec::new();
    for _ in 0..600 {
        sleep(Duration::from_millis(20));
        let Ok(tasks) = fs::read_dir(format!("{proc}/task")) else { break };
        for task in tasks.flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            all.insert(task.file_name());
            if name.starts_with("sami-torch") {
                crew.insert(task.file_name());
            }
        }
        environment = fs::read(format!("{proc}/environ")).unwrap_or(environment);
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    let environment = String::from_utf8_lossy(&environment).replace('\0', "\n");
    Seen { crew: crew.len(), all: all.len(), environment }
}

#[test]
fn all_pools_have_the_number_of_the_flag_or_of_the_environment() {
    let world = World::new();
    let prompts: String = (0..64).map(|at| json!(format!("Question {at}?")).to_string() + "\n").collect();
    world.write("prompts.jsonl", &prompts);
    let job = "sample --model model --prompts prompts.jsonl --max-new-tokens 60 --out samples.jsonl";
    let seen = |more: &str, variable: Option<&str>| {
        let mut command = world.command(&format!("{job}{more}"));
        for name in
            ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_DYNAMIC", "OMP_WAIT_POLICY"]
        {
            command.env_remove(name);
        }
        command.stderr(Stdio::null()).stdout(Stdio::null());
        if let Some(number) = variable {
            command.env("OMP_NUM_THREADS", number);
        }
        watch(command.spawn().unwrap())
    };
    // The command's own, the one that waits for Ctrl-C, and one of rayon's; the crew needs none of its own.
    let alone = [seen(" --threads 1", None), seen("", Some("1")), seen(" --threads 1", Some("7"))];
    for (case, Seen { crew, all, environment }) in alone.iter().enumerate() {
        assert!(*crew == 0 && (1..=3).contains(all), "case {case}: {crew} in the crew, {all} in all");
        for variable in
            ["OMP_WAIT_POLICY=PASSIVE", "OMP_NUM_THREADS=1", "RAYON_NUM_THREADS=1", "MKL_NUM_THREADS=1"]
        {
            assert!(environment.lines().any(|line| line == variable), "case {case}: {variable}");
        }
    }
    // Beside the crew's five: the two, five of rayon's, and at most four that help the main thread inside operations.
    for (case, Seen { crew, all, .. }) in
        [seen(" --threads 5", None), seen("", Some("5")), seen(" --threads 5", Some("1"))].iter().enumerate()
    {
        assert!(*crew == 5 && *all <= 5 + 2 + 5 + 4, "case {case}: {crew} in the crew, {all} in all");
    }
    assert!(world.read("samples.jsonl").lines().count() == 64, "the job ended on its own");
    let said = |threads: &str| world.succeed(&format!("doctor --threads {threads}"));
    assert!(said("3").contains("threads       3\n") && said("1").contains("threads       1\n"));
}
