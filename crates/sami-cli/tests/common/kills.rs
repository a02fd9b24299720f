//! Processes that are killed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts the command, with nothing to read from it.
pub fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// SIGKILL after `patience`, or as soon as `now` says so; whether the process had ended by itself before.
pub fn kill_when(child: &mut Child, patience: Duration, now: &dyn Fn() -> bool) -> bool {
    if ended_within(child, patience, now) {
        return true;
    }
    child.kill().unwrap();
    child.wait().unwrap().success()
}

/// Ctrl-C after `patience`; whether the process had ended by itself before, or had nothing left to do.
pub fn interrupt_after(child: &mut Child, patience: Duration) -> bool {
    if ended_within(child, patience, &|| false) {
        return true;
    }
    // Fails where the process has just ended by itself.
    let _ = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).stderr(Stdio::null()).status();
    child.wait().unwrap().success()
}

fn ended_within(child: &mut Child, patience: Duration, now: &dyn Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        if Instant::now() >= deadline || now() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Numbers in [0, 1) that are the same in every test run.
pub fn draws(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    })
}
