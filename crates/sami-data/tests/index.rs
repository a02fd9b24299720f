//! Files that are read in another order than theirs, without being held.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sami_data::{
    DataError, OnBadLine, PairConstitution, PairIndex, PairRecord, PairResponse, QueryFormat, QueryIndex,
    Rejection, read_pairs, read_queries,
};
use tempfile::tempdir;

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    std::fs::write(dir.join(name), text).unwrap();
    dir.join(name)
}

fn gzip(dir: &Path, name: &str, text: &str) -> PathBuf {
    let mut encoder = GzEncoder::new(std::fs::File::create(dir.join(name)).unwrap(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    dir.join(name)
}

#[test]
fn an_index_gives_what_reading_gives() {
    let dir = tempdir().unwrap();
    // Duplicates, bad lines, ids of their own, a byte order mark, CRLF, two files of one name, gzip.
    let first = "\u{feff}{\"query\": \"one\"}\r\n{\"query\": \"two\", \"id\": \"x\"}\r\nnot json\r\n{\"query\": \"one\"}\r\n\r\n{\"prompt\": \"three\"}\r\n";
    std::fs::create_dir(dir.path().join("b")).unwrap();
    let files = [
        write(dir.path(), "a.jsonl", first),
        gzip(&dir.path().join("b"), "a.jsonl.gz", "{\"query\": \"two\"}\n{\"query\": \"four\"}\n"),
    ];
    let whole = read_queries(&files, QueryFormat::Jsonl, OnBadLine::Skip).unwrap();
    assert_eq!(whole.queries.len(), 4);
    for held in [usize::MAX, 0] {
        let index = QueryIndex::open_holding(&files, QueryFormat::Jsonl, OnBadLine::Skip, held).unwrap();
        assert_eq!((index.len(), index.report()), (4, &whole.report), "{held}");
        let order = [3, 0, 2, 1];
        let expected: Vec<_> = order.iter().map(|&position| whole.queries[position].clone()).collect();
        assert_eq!(index.read(&order).unwrap(), expected, "{held}");
        assert_eq!(index.read(&[]).unwrap(), []);
        assert!(matches!(index.read(&[4]), Err(DataError::Changed { .. })));
    }
    let error = QueryIndex::open(&files, QueryFormat::Jsonl, OnBadLine::Stop).unwrap_err();
    assert!(error.to_string().ends_with("a.jsonl, line 3: expected ident (column 2)"), "{error}");
}

#[test]
fn posts_and_dialogues_are_indexed_too() {
    let dir = tempdir().unwrap();
    let posts = r#"{"question": {"0": "POST: a", "1": "POST: b", "2": "POST: a"}}"#;
    let turns = "{\"chosen\": \"\\n\\nHuman: Hi\\n\\nAssistant: Yes\"}\n{\"chosen\": \"\\n\\nHuman: Ho\\n\\nAssistant: No\"}\n";
    for (name, text, format) in
        [("p.json", posts, QueryFormat::Tldr), ("d.jsonl", turns, QueryFormat::HhRlhf)]
    {
        let file = [write(dir.path(), name, text)];
        let whole = read_queries(&file, format, OnBadLine::Stop).unwrap();
        assert_eq!(whole.queries.len(), 2, "{name}");
        let index = QueryIndex::open_holding(&file, format, OnBadLine::Stop, 0).unwrap();
        assert_eq!(
            index.read(&[1, 0]).unwrap(),
            [whole.queries[1].clone(), whole.queries[0].clone()],
            "{name}"
        );
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_noticed() {
    let dir = tempdir().unwrap();
    let file = [write(dir.path(), "a.jsonl", "{\"query\": \"one\"}\n{\"query\": \"two\"}\n")];
    let index = QueryIndex::open_holding(&file, QueryFormat::Jsonl, OnBadLine::Stop, 0).unwrap();
    write(dir.path(), "a.jsonl", "{\"query\": \"one\"}\n");
    let error = index.read(&[1]).unwrap_err().to_string();
    assert!(error.contains("a.jsonl is no longer what it was when it was read first"), "{error}");
    write(dir.path(), "a.jsonl", "{\"query\": \"one\"}\n{}\n");
    assert!(matches!(index.read(&[1]), Err(DataError::Line { line: 2, .. })));
}

fn record(number: usize, rejected: bool) -> PairRecord {
    let side = |id: &str| PairConstitution { id: id.into(), text: String::new() };
    let response = |constitution| PairResponse {
        constitution,
        text: format!(" answer {number} – {}", "é".repeat(number % 7)),
        token_ids: None,
        finish: None,
    };
    PairRecord {
        id: format!("q{number}"),
        query: format!("Question {number}?"),
        constitutions: vec![side("a"), side("b")],
        prompts: vec!["A:".into(), "B:".into()],
        responses: vec![response(0), response(1)],
        rejected: if rejected { vec![Rejection::Identical] } else { Vec::new() },
        refusal: None,
    }
}

#[test]
fn kept_pairs_are_found_in_any_order() {
    let dir = tempdir().unwrap();
    let records: Vec<_> = (0..50).map(|number| record(number, number % 3 == 0)).collect();
    let text: String = records.iter().map(|one| serde_json::to_string(one).unwrap() + "\n").collect();
    let kept: Vec<_> = records.into_iter().filter(PairRecord::is_kept).collect();
    // A last line without its newline counts: it is whole.
    let plain = write(dir.path(), "p.jsonl", text.trim_end());
    let packed = gzip(dir.path(), "p.jsonl.gz", &text);
    for path in [&plain, &packed] {
        let mut index = PairIndex::open(path).unwrap();
        assert_eq!((index.len(), index.rejected()), (33, 17));
        for position in (0..33).rev().chain(0..33) {
            assert_eq!(index.read(position).unwrap(), kept[position]);
        }
        assert!(matches!(index.read(33), Err(DataError::Changed { .. })));
    }
    let mut index = PairIndex::open(&plain).unwrap();
    write(dir.path(), "p.jsonl", &text.replace("Question 1", "Q 1"));
    assert!(matches!(index.read(20), Err(DataError::Changed { .. })));
}

#[test]
fn the_papers_json_is_held() {
    let dir = tempdir().unwrap();
    let text = r#"{"0": [{"prompt": "A", "response": "x"}, {"prompt": "B", "response": "y"}], "1": [{"prompt": "A", "response": "z"}, {"prompt": "B", "response": "w"}]}"#;
    let path = write(dir.path(), "p.json", text);
    let mut index = PairIndex::open(&path).unwrap();
    assert_eq!([index.read(1).unwrap(), index.read(0).unwrap()].as_slice(), {
        let mut all = read_pairs(&path).unwrap();
        all.reverse();
        all
    });
}
