//! How records lie in a file, and files that are of another kind.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::{Files, gzip};
use proptest::prelude::*;
use sami_data::{OnBadLine, PairIndex, QueryFormat, QueryIndex, read_pairs, read_prompts, read_queries};
use serde_json::{Value, json};

fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(bytes.as_ref(), 3).unwrap()
}

fn records() -> Vec<Value> {
    ["a", "b }]\",[{", "c\n\"x\": {\n", "d"]
        .iter()
        .map(|query| json!({"query": query, "n": [1, {}]}))
        .collect()
}

/// The same records in every layout.
fn layouts() -> Vec<(&'static str, Vec<u8>)> {
    let records = records();
    let lines: Vec<_> = records.iter().map(Value::to_string).collect();
    let pretty: Vec<_> = records.iter().map(|one| serde_json::to_string_pretty(one).unwrap()).collect();
    let lines = lines.join("\n");
    vec![
        ("lines", lines.clone().into_bytes()),
        ("blank lines", format!("\n{}\n \t\n\n", lines.replace('\n', "\n\n")).into_bytes()),
        ("array", serde_json::to_vec(&records).unwrap()),
        (
            "pretty array",
            format!("\u{feff}\n {}\r\n\n", serde_json::to_string_pretty(&records).unwrap()).into_bytes(),
        ),
        ("array of lines", format!("[\n{}\n]", lines.replace('\n', ",\r\n")).into_bytes()),
        ("pretty values", pretty.join("\n").into_bytes()),
        (
            "pretty values, BOM, CRLF",
            format!("\u{feff}{}\r\n", pretty.join("\n\n")).replace('\n', "\r\n").into_bytes(),
        ),
        ("gzip", gzip(&lines)),
        ("zstd", zstd(&lines)),
        ("zstd behind a frame to skip", [b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec(), zstd(&lines)].concat()),
        ("zstd in frames", [zstd(&lines[..20]), zstd(&lines[20..])].concat()),
        ("zstd array", zstd(serde_json::to_vec_pretty(&records).unwrap())),
    ]
}

#[test]
fn every_layout_gives_the_same_queries() {
    let expected: Vec<_> =
        records().iter().map(|one| one["query"].as_str().unwrap().trim().to_owned()).collect();
    for (name, bytes) in layouts() {
        let files = Files::new();
        let path = [files.write("data.json", bytes)];
        for format in [QueryFormat::Auto, QueryFormat::Jsonl] {
            let read = read_queries(&path, format, OnBadLine::Stop).unwrap();
            let texts: Vec<_> = read.queries.iter().map(|query| query.text.clone()).collect();
            assert_eq!(texts, expected, "{name}");
            let report = &read.report.files[0];
            assert_eq!((report.lines, report.queries), (4, 4), "{name}");
            assert_eq!(report.sha256, sami_data::sha256(&path[0]).unwrap(), "{name}");
            // Not held, in another order.
            let index = QueryIndex::open_holding(&path, format, OnBadLine::Stop, 0).unwrap();
            let mut again = index.read(&[3, 2, 1, 0]).unwrap();
            again.reverse();
            assert_eq!(again, read.queries, "{name}");
        }
        assert_eq!(read_prompts(&path[0], QueryFormat::Jsonl).unwrap().len(), 4, "{name}");
    }
}

#[test]
fn posts_are_told_from_records() {
    let files = Files::new();
    let posts = json!({"question": {"0": "POST: a", "1": "POST: b"}, "response": {"0": "x", "1": "y"}});
    for text in [posts.to_string(), serde_json::to_string_pretty(&posts).unwrap()] {
        let path = [files.write("posts.json", text)];
        let auto = read_queries(&path, QueryFormat::Auto, OnBadLine::Stop).unwrap();
        assert_eq!(auto, read_queries(&path, QueryFormat::Tldr, OnBadLine::Stop).unwrap());
        assert_eq!(auto.queries[1].id, "posts:1");
        let index = QueryIndex::open_holding(&path, QueryFormat::Auto, OnBadLine::Stop, 0).unwrap();
        assert_eq!(index.read(&[1, 0]).unwrap()[0], auto.queries[1]);
    }
}

#[test]
fn a_bad_record_is_named_by_its_place() {
    let refused = |text: &str| {
        let files = Files::new();
        let path = files.write("data.json", text);
        let error = read_queries(&[&path], QueryFormat::Auto, OnBadLine::Stop).unwrap_err().to_string();
        error.strip_prefix(path.to_str().unwrap()).unwrap().to_owned()
    };
    let empty = "the query is empty";
    assert_eq!(refused("\n{\"query\": \"a\"}\n\n{\"query\": \"\"}"), format!(", line 4: {empty}"));
    assert_eq!(
        refused("[\n{\"query\": \"a\"},\n\n{\"query\": \"\"}]"),
        format!(", record 2 (line 4): {empty}")
    );
    assert_eq!(refused("{\n\"query\": \"a\"}\n{\n\"query\": \"\"}"), format!(", record 2 (line 3): {empty}"));
    assert_eq!(refused("{\"question\": {\"0\": \"POST: \"}}"), ", record 1: the query is empty");
    let array = |what: &str| format!("the JSON array is damaged: {what}");
    let comma = array("a comma is missing, or one too many");
    let ends = array("the file ends before its array does");
    assert_eq!(refused("[{\"query\": \"a\"}, {\"query\": \"b\""), format!(", record 2 (line 1): {ends}"));
    assert_eq!(refused("[{\"query\": \"a\"}"), format!(", record 1 (line 1): {ends}"));
    assert_eq!(refused("[{\"query\": \"a\"},\n]"), format!(", record 2 (line 2): {comma}"));
    assert_eq!(refused("[{\"query\": \"a\"},,{}]"), format!(", record 2 (line 1): {comma}"));
    assert_eq!(refused("[{\"query\": \"a\"} {}]"), format!(", record 2 (line 1): {comma}"));
    assert_eq!(
        refused("[{\"query\": \"a\"}]\n[]"),
        format!(", record 2 (line 1): {}", array("something follows the array"))
    );
    assert_eq!(refused("[]"), " is empty; it should hold one JSON object per line");
    // A torn first line does not make the file one of values over several lines.
    assert!(refused("{\"query\": \"a\n{\"query\": \"b\"}\n").starts_with(", line 1: "));
    assert!(refused("{\n\"query\": \"a\",\n").starts_with(", record 1 (line 1): EOF while parsing"));
}

#[test]
fn files_of_another_kind_are_named() {
    let tar = [vec![b'x'; 257], b"ustar\0".to_vec(), vec![0; 300]].concat();
    let torch = [b"PK\x03\x04\0\0\0\0".as_slice(), b"archive/data.pkl", b"..."].concat();
    let cases: [(&[u8], &str); 24] = [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "a Git LFS pointer, not the data; fetch the data with `git lfs pull`",
        ),
        (
            b"/annex/objects/SHA256E-s1--1\n",
            "a git-annex pointer, not the data; fetch the data with `git annex get`",
        ),
        (
            b"\n<!DOCTYPE html>\n<html>",
            "an HTML page, not data; the download gave a web page, so look at its address",
        ),
        (
            b"<html lang=\"en\">",
            "an HTML page, not data; the download gave a web page, so look at its address",
        ),
        (b"<?xml version=\"1.0\"?>", "XML; write it as JSON lines"),
        (
            b"\xfd7zXZ\0\0\x04",
            "compressed by xz; decompress it with `xz -d`, or compress it with gzip or zstd",
        ),
        (b"BZh91AY&SY", "compressed by bzip2; decompress it with `bzip2 -d`, or use gzip or zstd"),
        (b"\x04\x22\x4d\x18\x64", "compressed by lz4; decompress it with `lz4 -d`, or use gzip or zstd"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it, and give the files in it"),
        (&tar, "a tar archive; unpack it with `tar -x`, and give the files in it"),
        (&torch, "a PyTorch file (a ZIP archive with a pickle), not data"),
        (b"PK\x03\x04\x14\0a.jsonl", "a ZIP archive; unpack it with `unzip`, and give the files in it"),
        (b"GGUF\x03\0\0\0", "a GGUF file, a model of llama.cpp, not data"),
        (b"\x40\x01\0\0\0\0\0\0{\"__metadata__\"", "a safetensors file, weights of a model, not data"),
        (b"\x80\x04\x95", "a Python pickle; write its records as JSON lines"),
        (b"ARROW1\0\0", "an Arrow file; write it as Parquet or JSON lines (`Dataset.to_json`)"),
        (
            b"\xff\xff\xff\xff\x70\0\0\0",
            "an Arrow file; write it as Parquet or JSON lines (`Dataset.to_json`)",
        ),
        (b"Obj\x01\x04", "an Avro file; write it as Parquet or JSON lines"),
        (b"SQLite format 3\0\x10", "an SQLite database; write its rows as JSON lines"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file; write it as Parquet or JSON lines"),
        (b"%PDF-1.7", "a PDF document, not data"),
        (b"ORC\x0a\x03", "an ORC file; write it as Parquet or JSON lines"),
        (b"{\0\"\0a\0", "text in UTF-16; convert it to UTF-8 (`iconv -f UTF-16 -t UTF-8`)"),
        (b"\xff\xfe{\0", "text in UTF-16; convert it to UTF-8 (`iconv -f UTF-16 -t UTF-8`)"),
    ];
    let files = Files::new();
    for (bytes, what) in cases {
        for bytes in [bytes.to_vec(), gzip(bytes), zstd(bytes)] {
            let path = files.write("data.jsonl", bytes);
            let message = format!("{} is {what}", path.display());
            let read = read_queries(&[&path], QueryFormat::Auto, OnBadLine::Skip).unwrap_err().to_string();
            assert_eq!(read, message);
            assert_eq!(read_prompts(&path, QueryFormat::Text).unwrap_err().to_string(), message);
            assert_eq!(read_pairs(&path).unwrap_err().to_string(), message);
        }
    }
}

#[test]
fn what_is_compressed_twice_is_named() {
    let files = Files::new();
    for bytes in [gzip(gzip("{}")), gzip(zstd("{}")), zstd(gzip("{}")), gzip("PAR1")] {
        let path = files.write("data.gz", bytes);
        let error = read_queries(&[&path], QueryFormat::Auto, OnBadLine::Stop).unwrap_err().to_string();
        let said = "is compressed twice, or a compressed Parquet file; decompress it once";
        assert_eq!(error, format!("{} {said}", path.display()));
    }
}

#[test]
fn a_merge_conflict_is_named() {
    let files = Files::new();
    let good = "{\"query\": \"a\"}";
    for (line, text) in [
        (2, format!("{good}\n<<<<<<< HEAD\n{good}\n=======\n{good}\n>>>>>>> theirs\n")),
        (1, format!("<<<<<<< HEAD\n{good}\n=======\n")),
        (3, format!("{good}\n{good}\n=======\n")),
    ] {
        let path = files.write("data.jsonl", text);
        let error = read_queries(&[&path], QueryFormat::Auto, OnBadLine::Stop).unwrap_err().to_string();
        let said = "it is a mark of a Git merge conflict; resolve the conflict in this file first";
        assert_eq!(error, format!("{}, line {line}: {said}", path.display()));
    }
    let path = files.write("data.json", "[\n{\"query\": \"a\"},\n<<<<<<< HEAD\n{\"query\": \"b\"}\n]");
    let error = read_queries(&[&path], QueryFormat::Auto, OnBadLine::Stop).unwrap_err().to_string();
    assert!(error.contains("record 2 (line 3): it is a mark of a Git merge conflict"), "{error}");
}

#[test]
fn damaged_zstd_is_the_last_line_s_problem() {
    let files = Files::new();
    let text = (0..40_000).map(|n| format!("{{\"query\": \"number {n} of many\"}}\n")).collect::<String>();
    let whole = zstd(text);
    let path = [files.write("data.jsonl.zst", &whole[..whole.len() - 3])];
    let error = read_queries(&path, QueryFormat::Auto, OnBadLine::Stop).unwrap_err().to_string();
    assert!(
        error.contains("the zstd data is damaged or cut off (incomplete frame); fetch the file again"),
        "{error}"
    );
    let read = read_queries(&path, QueryFormat::Auto, OnBadLine::Skip).unwrap();
    assert_eq!(read.report.files[0].skipped["damaged-zstd"], 1);
}

#[test]
fn pairs_are_read_from_every_compression() {
    let files = Files::new();
    let record = json!({
        "id": "q", "query": "Hi", "constitutions": [{"id": "a", "text": ""}, {"id": "b", "text": ""}],
        "prompts": ["A:", "B:"], "responses": [{"constitution": 0, "text": " x"}, {"constitution": 1, "text": " y"}],
    });
    let lines = format!("\u{feff}{record}\r\n\r\n{}\r\n", record.to_string().replace("\"q\"", "\"r\""));
    let entry = |n: usize| json!([{"prompt": "A:", "response": " x", "example_id": n}, {"prompt": "B:", "response": " y", "example_id": n}]);
    let paper = format!(
        "\u{feff}{}\r\n",
        serde_json::to_string_pretty(&json!({"0": entry(0), "1": entry(1)})).unwrap()
    );
    for text in [lines, paper] {
        for bytes in [text.clone().into_bytes(), gzip(&text), zstd(&text)] {
            let path = files.write("pairs", bytes);
            let records = read_pairs(&path).unwrap();
            assert_eq!(records.len(), 2);
            let mut index = PairIndex::open(&path).unwrap();
            assert_eq!(index.read(1).unwrap(), records[1]);
            assert_eq!(index.read(0).unwrap(), records[0]);
        }
    }
}

proptest! {
    #[test]
    fn any_values_come_back_from_any_layout(queries in prop::collection::vec("[\\PC\\n\"{}\\[\\], ]{1,12}", 1..8), indent: bool) {
        let records: Vec<_> = queries.iter().map(|text| json!({"query": format!("q{text}q")})).collect();
        let one = |value: &Value| if indent { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.unwrap();
        let files = Files::new();
        let array = files.write("array.json", one(&json!(records)));
        let values = files.write("values.json", records.iter().map(one).collect::<Vec<_>>().join("\n"));
        let expected: Vec<_> = queries.iter().map(|text| format!("q{text}q")).collect();
        prop_assert_eq!(read_prompts(&array, QueryFormat::Jsonl).unwrap(), expected.clone());
        prop_assert_eq!(read_prompts(&values, QueryFormat::Jsonl).unwrap(), expected);
    }

    #[test]
    fn any_bytes_in_an_array_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), skip: bool) {
        let files = Files::new();
        let path = files.write("data", [b"[", bytes.as_slice()].concat());
        let on_bad_line = if skip { OnBadLine::Skip } else { OnBadLine::Stop };
        let _ = read_queries(&[path], QueryFormat::Auto, on_bad_line);
    }
}
