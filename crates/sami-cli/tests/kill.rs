//! kill -9 at any moment, then the same command: the same bytes as an uninterrupted run. With real processes.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{World, assert_same, snapshot};

#[test]
fn killed_runs_end_with_the_same_bytes() {
    let world = World::new();
    world.recipe();
    let begun = Instant::now();
    world.succeed("run recipe.toml --out whole");
    let whole = begun.elapsed();
    let expected = snapshot(&world.path("whole"));

    let spawn = |out: &str| {
        let mut command = world.command(&format!("run recipe.toml --out {out}"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut killed = 0;
    let kills = 8;
    for number in 1..=kills {
        let out = format!("killed-{number}");
        let mut child = spawn(&out);
        std::thread::sleep(whole.mul_f64(f64::from(number) / f64::from(kills + 1)));
        // SIGKILL.
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        world.succeed(&format!("run recipe.toml --out {out}"));
        assert_same(&snapshot(&world.path(&out)), &expected, &out);
    }
    assert!(killed >= kills / 2, "only {killed} of {kills} were killed before they ended");

    // One run, killed again and again, a little later each time.
    let mut patience = whole.mul_f64(0.3).max(Duration::from_millis(300));
    let mut rounds = 0;
    loop {
        let mut child = spawn("often");
        let deadline = Instant::now() + patience;
        let finished = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.success();
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                break false;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if finished {
            break;
        }
        rounds += 1;
        assert!(rounds < 100, "no end in sight");
        patience = patience.mul_f64(1.05);
    }
    assert_same(&snapshot(&world.path("often")), &expected, "often");
}
