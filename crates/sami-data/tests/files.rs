//! Files that must survive: atomic writes, torn lines, run directories and their locks.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::io;

use common::Files;
use sami_data::{JsonlAppender, RunDir, RunStage, State, StepMetrics, atomic_write};

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let files = Files::new();
    let path = files.path("deep/er/file.txt");
    atomic_write(&path, |writer| writer.write_all(b"first")).unwrap();
    let error = atomic_write(&path, |writer| {
        writer.write_all(&[b'x'; 100_000])?;
        Err(io::Error::other("no more"))
    });
    assert_eq!(error.unwrap_err().to_string(), format!("{}: no more", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), b"first");
    atomic_write(&path, |writer| writer.write_all(b"second")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"second");
    // No temporary file stays behind.
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn written_files_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    let path = files.path("file");
    atomic_write(&path, |writer| writer.write_all(b"x")).unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_file_torn_at_any_byte_goes_on_after_its_last_whole_line() {
    let files = Files::new();
    let path = files.path("lines.jsonl");
    let mut appender = JsonlAppender::open(&path).unwrap();
    for text in ["one", "zwei ß", "three"] {
        appender.append(text).unwrap();
    }
    appender.sync().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        let mut appender = JsonlAppender::open(&path).unwrap();
        assert_eq!(appender.lines(), lines);
        appender.append("new").unwrap();
        assert_eq!(appender.lines(), lines + 1);
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<_> =
            ["\"one\"", "\"zwei ß\"", "\"three\""][..lines].iter().copied().chain(["\"new\""]).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_resumed_file_keeps_exactly_the_lines_that_count() {
    let files = Files::new();
    let path = files.write("lines.jsonl", "1\n2\n3\n4");
    let error = JsonlAppender::open_at(&path, 4).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{} has 3 whole lines, but 4 were written; restore it, or begin anew in another directory",
            path.display()
        )
    );
    // A refusal changes nothing.
    assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n3\n4");
    JsonlAppender::open_at(&path, 2).unwrap().append(&7).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n7\n");
    JsonlAppender::open_at(&path, 0).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[test]
fn a_run_directory_has_this_layout() {
    let run = RunDir::new("RUN");
    let paths = [run.recipe(), run.constitutions(), run.state(), run.eval(), run.report(), run.lock_file()];
    let names = ["recipe.toml", "constitutions.json", "state.json", "eval", "report.html", "lock"];
    assert_eq!(paths.map(|path| path.display().to_string()), names.map(|name| format!("RUN/{name}")));
    let iteration = run.iteration(2);
    let paths = [iteration.pairs(), iteration.metrics(), iteration.checkpoint()];
    let names = ["pairs.jsonl", "metrics.jsonl", "checkpoint"];
    assert_eq!(
        paths.map(|path| path.display().to_string()),
        names.map(|name| format!("RUN/iteration-2/{name}"))
    );
}

#[test]
fn the_state_is_kept_and_foreign_ones_are_refused() {
    let files = Files::new();
    let run = RunDir::new(files.path("run"));
    assert_eq!(run.read_state().unwrap(), None);
    let mut state = State::default();
    state.finish(1, RunStage::Generate);
    state.finish(1, RunStage::Generate);
    state.finish(1, RunStage::Train);
    run.write_state(&state).unwrap();
    let read = run.read_state().unwrap().unwrap();
    assert_eq!(read, state);
    assert_eq!(read.finished().len(), 2);
    assert!(read.is_finished(1, RunStage::Train) && !read.is_finished(2, RunStage::Generate));
    files.write("run/state.json", r#"{"format": 2, "everything": "new"}"#);
    let error = run.read_state().unwrap_err().to_string();
    let path = run.state();
    assert_eq!(
        error,
        format!(
            "{} has format 2, and this version reads format 1; use the version that made it, or another directory",
            path.display()
        )
    );
    files.write("run/state.json", "{");
    let error = run.read_state().unwrap_err().to_string();
    assert_eq!(error, format!("{}: EOF while parsing an object at line 1 column 1", path.display()));
}

#[test]
fn a_run_belongs_to_one_process_at_a_time() {
    let files = Files::new();
    let run = RunDir::new(files.path("run"));
    let lock = run.lock().unwrap();
    let error = run.lock().unwrap_err().to_string();
    let (root, pid) = (run.root().display(), std::process::id());
    assert_eq!(
        error,
        format!(
            "{root} is in use by another process (process {pid}); wait for it to end, or choose another directory"
        )
    );
    drop(lock);
    drop(run.lock().unwrap());
    // A lock file that a killed process left is no obstacle.
    assert!(run.lock_file().is_file());
    run.lock().unwrap();
}

#[test]
fn a_step_is_one_flat_line_but_for_the_information() {
    let line = serde_json::to_value(StepMetrics { step: 3, loss: 0.5, ..StepMetrics::default() }).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "accuracy_col",
        "accuracy_row",
        "fraction_changed",
        "grad_norm",
        "iteration",
        "loss",
        "lr_factor",
        "mi",
        "queries",
        "seconds",
        "step",
        "tokens",
        "update_kept",
        "update_norm",
    ];
    assert_eq!(keys, expected);
    assert_eq!(line["mi"]["two_sided"], 0.0);
}
