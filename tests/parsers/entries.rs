//! Everything that reads foreign bytes, one function each: whatever comes, it is read or refused with a message, and what was
//! read keeps its promises. The fuzz targets throw a fuzzer's bytes at them; `tests/parsers` throws
//! proptest's, and every input that once failed.

use std::fs;
use std::path::{Path, PathBuf};

use super::readers::constitution::{ContrastFile, PrincipleSet, Task, WriterBuilder};
use super::readers::data::{
    LineReader, OnBadLine, PairIndex, PairRecord, QueryFormat, QueryIndex, ResponseFilter, RunDir,
    read_pairs, read_prompts, read_queries,
};
use super::readers::driver::recipe::{Override, parse, render};

/// A reader by name.
pub(crate) type Entry = (&'static str, fn(&Path, &[u8]));

/// All of them. The path is a directory that nobody else uses.
pub(crate) const ENTRIES: [Entry; 16] = [
    ("recipe", recipe),
    ("override", override_of_a_recipe),
    ("principles", principles),
    ("task", task),
    ("lines", lines),
    ("queries_auto", |dir, bytes| queries(dir, bytes, QueryFormat::Auto)),
    ("queries_array", queries_array),
    ("queries_hh_rlhf", |dir, bytes| queries(dir, bytes, QueryFormat::HhRlhf)),
    ("queries_jsonl", |dir, bytes| queries(dir, bytes, QueryFormat::Jsonl)),
    ("queries_tldr", |dir, bytes| queries(dir, bytes, QueryFormat::Tldr)),
    ("queries_parquet", queries_parquet),
    ("pairs", pairs),
    ("state", state),
    ("responses", responses),
    ("contrast_file", contrast_file),
    ("writer_answer", writer_answer),
];

fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a temporary file");
    path
}

/// A refusal must say where and why.
pub(crate) fn says_something(message: &str) {
    assert!(message.len() > 8, "{message:?} says nothing");
}

fn recipe(_: &Path, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(Path::new("r.toml"), text) {
        Ok(recipe) => {
            let again = render(&recipe).expect("a valid recipe is TOML");
            assert_eq!(*parse(Path::new("r.toml"), &again).expect("what was rendered"), *recipe);
        }
        Err(error) => says_something(&error.to_string()),
    }
}

fn override_of_a_recipe(_: &Path, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Override::parse(text) {
        says_something(&error.to_string());
    }
}

fn principles(dir: &Path, bytes: &[u8]) {
    match PrincipleSet::load(&file(dir, "principles.toml", bytes)) {
        Ok(set) => assert!(!set.principles().is_empty()),
        Err(error) => says_something(&error.to_string()),
    }
}

fn task(dir: &Path, bytes: &[u8]) {
    if let Err(error) = Task::load(&file(dir, "task.toml", bytes)) {
        says_something(&error.to_string());
    }
}

fn lines(dir: &Path, bytes: &[u8]) {
    let path = file(dir, "lines", bytes);
    let mut number = 0;
    let lines = match LineReader::open(&path) {
        Ok(lines) => lines,
        Err(error) => return says_something(&error.to_string()),
    };
    for line in lines {
        let Ok(line) = line else { return };
        assert!(line.number > number, "lines are numbered in order");
        number = line.number;
        if let Err(problem) = line.text {
            says_something(&problem.to_string());
        }
    }
}

fn queries(dir: &Path, bytes: &[u8], format: QueryFormat) {
    let files = [file(dir, "queries.jsonl", bytes)];
    for on_bad_line in [OnBadLine::Stop, OnBadLine::Skip] {
        let whole = match read_queries(&files, format, on_bad_line) {
            Ok(whole) => whole,
            Err(error) => {
                says_something(&error.to_string());
                continue;
            }
        };
        if let Ok(prompts) = read_prompts(&files[0], format) {
            assert!(prompts.len() >= whole.queries.len());
        }
        // Held or read again, in whatever order: the same.
        let backwards: Vec<usize> = (0..whole.queries.len()).rev().collect();
        for held in [usize::MAX, 0] {
            let index =
                QueryIndex::open_holding(&files, format, on_bad_line, held).expect("it was read before");
            let mut read = index.read(&backwards).expect("it has not changed");
            read.reverse();
            assert_eq!(read, whole.queries);
        }
    }
}

/// The elements of one JSON array.
fn queries_array(dir: &Path, bytes: &[u8]) {
    queries(dir, &[b"[", bytes].concat(), QueryFormat::Auto);
}

/// Behind the mark of a Parquet file; without the feature `parquet` all of them are refused.
fn queries_parquet(dir: &Path, bytes: &[u8]) {
    let mut file = b"PAR1".to_vec();
    file.extend(bytes.iter().skip(4));
    queries(dir, &file, QueryFormat::Auto);
}

fn pairs(dir: &Path, bytes: &[u8]) {
    let path = file(dir, "pairs.jsonl", bytes);
    match read_pairs(&path) {
        Ok(records) => {
            let kept: Vec<_> = records.into_iter().filter(PairRecord::is_kept).collect();
            let mut index = PairIndex::open(&path).expect("it was read before");
            assert_eq!(index.len(), kept.len());
            for (position, record) in kept.iter().enumerate().rev() {
                assert_eq!(index.read(position).expect("it has not changed"), *record);
            }
        }
        Err(error) => says_something(&error.to_string()),
    }
}

fn state(dir: &Path, bytes: &[u8]) {
    file(dir, "state.json", bytes);
    let run = RunDir::new(dir);
    match run.read_state() {
        Ok(Some(state)) => {
            run.write_state(&state).expect("a temporary file");
            assert_eq!(run.read_state().expect("what was written"), Some(state));
        }
        Ok(None) => panic!("the file is there"),
        Err(error) => says_something(&error.to_string()),
    }
}

fn responses(_: &Path, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for task in [Task::dialogue(), Task::tldr()] {
        let filter = ResponseFilter::new(task.rules().clone()).expect("embedded rules");
        let processed = filter.process(&text);
        // Token ids are kept on this promise.
        assert!(processed.edited || processed.text == text);
    }
}

fn contrast_file(_: &Path, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ContrastFile::from_json(text) {
        Ok(file) => {
            let again = file.to_json().expect("what was read can be written");
            assert_eq!(ContrastFile::from_json(&again).expect("what was written"), file);
        }
        Err(error) => says_something(&error.to_string()),
    }
}

fn writer_answer(_: &Path, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let builder = WriterBuilder {
        task: "answer".into(),
        principles: vec!["helpful".into(), "harmless".into()],
        attempts: 1,
        ..WriterBuilder::default()
    };
    let writer = builder.check().expect("these settings are fine");
    if let Err(error) = writer.write(|_| Ok::<_, std::io::Error>(text.clone())) {
        says_something(&error.to_string());
    }
}
