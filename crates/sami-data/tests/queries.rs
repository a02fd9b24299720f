//! Queries from files: right, wrong, and real ones.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::collections::BTreeSet;

use common::{Files, gzip, shared};
use proptest::prelude::*;
use sami_data::{DataError, OnBadLine, Query, QueryFormat, QueryReader, read_queries, read_tldr, split_two};

fn hh(query: &str) -> String {
    let chosen = format!("\n\nHuman: {query}\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant: So.");
    serde_json::json!({"chosen": chosen, "rejected": format!("\n\nHuman: {query}\n\nAssistant: No.")})
        .to_string()
}

fn texts(queries: &[Query]) -> Vec<&str> {
    queries.iter().map(|query| query.text.as_str()).collect()
}

#[test]
fn the_first_human_turn_is_the_query() {
    let files = Files::new();
    let lines = [
        hh("How?"),
        hh("  Two\nlines, and \"Human: \" inside\t"),
        r#"{"chosen": "\n\nHuman: Alone"}"#.to_owned(),
        r#"{"chosen": "\n\nHuman: First\n\nHuman: Second\n\nAssistant: x", "margin": 3}"#.to_owned(),
        hh("How?"),
    ];
    let path = files.write("dialogues.jsonl", lines.join("\n"));
    let read = read_queries(&[&path], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap();
    assert_eq!(
        texts(&read.queries),
        ["How?", "Two\nlines, and \"Human: \" inside", "Alone", "First\n\nSecond"]
    );
    let ids: Vec<_> = read.queries.iter().map(|query| query.id.as_str()).collect();
    assert_eq!(ids, ["dialogues:1", "dialogues:2", "dialogues:3", "dialogues:4"]);
    let report = &read.report.files[0];
    assert_eq!((report.lines, report.queries, report.duplicates), (5, 4, 1));
    assert_eq!(read.report.to_string(), "4 queries, 1 duplicate dropped, 1 line mended (joined-turns 1)");
}

#[test]
fn gzip_is_told_by_content_and_line_ends_do_not_matter() {
    let files = Files::new();
    let plain = format!("{}\n{}\n{}", hh("a"), hh("b"), hh("c"));
    let expected = ["a", "b", "c"];
    let members =
        [gzip(format!("{}\n{}", hh("a"), &hh("b")[..9])), gzip(format!("{}\n{}", &hh("b")[9..], hh("c")))];
    let variants = [
        files.write("1.jsonl", &plain),
        files.write("2.jsonl", gzip(&plain)),
        files.write("3.jsonl.gz", format!("{plain}\n")),
        files.write("4", format!("{plain}\n\n  \n")),
        files.write("5.jsonl", plain.replace('\n', "\r\n")),
        files.write("6.jsonl", format!("\u{feff}{plain}")),
        files.write("7.gz", members.concat()),
    ];
    for path in &variants {
        let read = read_queries(&[path], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap();
        assert_eq!(texts(&read.queries), expected, "{}", path.display());
        assert_eq!(read.report.files[0].lines, 3);
    }
    // The hash is that of the file on disk.
    let read = read_queries(&[files.write("x", "{\"query\": \"a\"}\n")], QueryFormat::Jsonl, OnBadLine::Stop)
        .unwrap();
    assert_eq!(
        read.report.files[0].sha256,
        "8aa33a73f0f128d46a038af8dd1b36d118303f3c2bcb09fcf3ed4c2bc4bcf75a"
    );
}

#[test]
fn plain_lines_may_bring_their_ids() {
    let files = Files::new();
    let lines = [
        r#"{"id": "greet", "query": " Hello? "}"#,
        r#"{"id": 7, "prompt": "Bye?"}"#,
        r#"{"query": "Both", "prompt": "ignored", "other": [1]}"#,
    ];
    let path = files.write("own.jsonl", lines.join("\n"));
    let read = read_queries(&[path], QueryFormat::Jsonl, OnBadLine::Stop).unwrap();
    let pairs: Vec<_> = read.queries.iter().map(|one| (one.id.as_str(), one.text.as_str())).collect();
    assert_eq!(pairs, [("greet", "Hello?"), ("7", "Bye?"), ("own:3", "Both")]);
}

#[test]
fn several_files_share_duplicates_and_keep_ids_apart() {
    let files = Files::new();
    let a = files.write("helpful/test.jsonl", format!("{}\n{}", hh("a"), hh("b")));
    let b = files.write("harmless/test.jsonl", format!("{}\n{}", hh("c"), hh("a")));
    let read = read_queries(&[a, b], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap();
    let ids: Vec<_> = read.queries.iter().map(|query| query.id.as_str()).collect();
    assert_eq!(ids, ["test:1", "test:2", "test#2:1"]);
    assert_eq!(read.report.files.iter().map(|file| file.duplicates).collect::<Vec<_>>(), [0, 1]);
}

/// (name of the reason, line, content, message after the path)
fn bad_lines() -> Vec<(&'static str, QueryFormat, Vec<u8>, &'static str)> {
    use QueryFormat::{HhRlhf, Jsonl};
    let good = format!("{}\n", hh("fine"));
    let plain = "{\"query\": \"fine\", \"id\": \"1\"}\n";
    let hh_line = |line: &str| [good.as_bytes(), line.as_bytes()].concat();
    let line = |line: &str| [plain.as_bytes(), line.as_bytes()].concat();
    let whole = gzip(hh_line(&hh("cut")));
    let mut wrong = whole.clone();
    let checksum = wrong.len() - 8;
    wrong[checksum] ^= 1;
    vec![
        ("not-json", HhRlhf, hh_line("{\"chosen\": \"x"), ", line 2: EOF while parsing a string (column 13)"),
        ("no-object", HhRlhf, hh_line("[3]"), ", line 2: the line is no JSON object, {…}"),
        (
            "wrong-type",
            HhRlhf,
            hh_line("{\"chosen\": 3}"),
            ", line 2: the field chosen holds a number, not text",
        ),
        (
            "no-field",
            HhRlhf,
            hh_line("{\"query\": \"x\", \"b\": 1}"),
            ", line 2: the record has no field chosen; its fields: \"b\", \"query\"",
        ),
        (
            "no-human-turn",
            HhRlhf,
            hh_line("{\"chosen\": \"Hello\"}"),
            ", line 2: \"chosen\" does not begin with \"\\n\\nHuman:\", so it has no first human turn",
        ),
        ("empty-query", HhRlhf, hh_line(&hh(" ")), ", line 2: the query is empty"),
        (
            "damaged-gzip",
            HhRlhf,
            whole[..whole.len() - 3].to_vec(),
            ", line 2: the gzip data is damaged or cut off (unexpected end of file); fetch the file again",
        ),
        (
            "damaged-gzip",
            HhRlhf,
            wrong,
            ", line 2: the gzip data is damaged or cut off (corrupt gzip stream does not have a matching checksum); fetch the file again",
        ),
        (
            "not-utf-8",
            Jsonl,
            [plain.as_bytes(), b"{\"query\": \"\xff\"}"].concat(),
            ", line 2: the line is not UTF-8 (byte 12 of the line); convert the file to UTF-8",
        ),
        (
            "no-field",
            Jsonl,
            line("{\"text\": \"?\"}"),
            ", line 2: the record has no field that is known to hold a query (query, prompt, question, instruction, messages, \
             conversations, conversation); its fields: \"text\"; name one of them as the query field",
        ),
        (
            "repeated-id",
            Jsonl,
            line("{\"query\": \"other\", \"id\": 1}"),
            ", line 2: the id \"1\" is there twice; ids must differ",
        ),
    ]
}

#[test]
fn bad_lines_end_the_reading_with_file_and_line() {
    for (index, (_, format, content, message)) in bad_lines().into_iter().enumerate() {
        let files = Files::new();
        let path = files.write("data.jsonl", content);
        let error = read_queries(&[&path], format, OnBadLine::Stop).unwrap_err();
        assert_eq!(error.to_string(), format!("{}{message}", path.display()), "case {index}");
    }
}

#[test]
fn bad_lines_can_be_skipped_and_are_counted_by_reason() {
    for (index, (reason, format, content, _)) in bad_lines().into_iter().enumerate() {
        let files = Files::new();
        let path = files.write("data.jsonl", content);
        let read = read_queries(&[&path], format, OnBadLine::Skip).unwrap();
        assert_eq!(read.queries[0].text, "fine", "case {index}");
        let skipped: Vec<_> =
            read.report.files[0].skipped.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(skipped, [(reason, 1)], "case {index}");
        assert!(read.report.to_string().ends_with(&format!(", 1 line skipped ({reason} 1)")));
    }
}

#[test]
fn files_without_queries_are_refused() {
    let files = Files::new();
    let read = |content: &str, on_bad_line| {
        let path = files.write("data.jsonl", content);
        read_queries(&[path], QueryFormat::HhRlhf, on_bad_line).unwrap_err().to_string()
    };
    let path = files.path("data.jsonl");
    let path = path.display();
    let empty = format!("{path} is empty; it should hold one JSON object per line");
    assert_eq!(read("", OnBadLine::Stop), empty);
    assert_eq!(read("\n \n", OnBadLine::Skip), empty);
    assert_eq!(
        read("{}\nx\n{}\n", OnBadLine::Skip),
        format!(
            "{path} holds no query: all 3 lines were skipped (no-field 2, not-json 1); is its format the one given?"
        )
    );
    let none: [&str; 0] = [];
    let error = read_queries(&none, QueryFormat::HhRlhf, OnBadLine::Stop).unwrap_err().to_string();
    assert_eq!(error, "no file of queries is given; name at least one");
    let error = read_queries(&["/no/such"], QueryFormat::HhRlhf, OnBadLine::Skip).unwrap_err().to_string();
    assert_eq!(error, "/no/such: No such file or directory (os error 2)");
    let error = read_queries(&[files.0.path()], QueryFormat::HhRlhf, OnBadLine::Skip).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

#[test]
fn a_line_without_end_is_not_held() {
    let files = Files::new();
    // Some 65 kB on disk, 65 MiB in one line.
    let long = [vec![b' '; sami_data::MAX_LINE_BYTES + 1], b"\n".to_vec(), hh("fine").into_bytes()].concat();
    let path = files.write("long.gz", gzip(long));
    let error = read_queries(&[&path], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap_err().to_string();
    assert!(
        error.ends_with("line 1: the line is longer than 67108864 bytes; is this a JSONL file?"),
        "{error}"
    );
    let read = read_queries(&[&path], QueryFormat::HhRlhf, OnBadLine::Skip).unwrap();
    assert_eq!((texts(&read.queries), read.queries[0].id.as_str()), (vec!["fine"], "long:2"));
}

#[test]
fn nothing_follows_an_error() {
    let files = Files::new();
    let path = files.write("data.jsonl", format!("{}\nx\n{}", hh("a"), hh("b")));
    let reader = QueryReader::open(&[path], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap();
    let kinds: Vec<_> = reader.map(|item| item.is_ok()).collect();
    assert_eq!(kinds, [true, false]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), zip: bool) {
        let files = Files::new();
        let path = files.write("data", if zip { gzip(&bytes) } else { bytes });
        for format in [QueryFormat::HhRlhf, QueryFormat::Jsonl, QueryFormat::Tldr, QueryFormat::TldrComparisons] {
            for on_bad_line in [OnBadLine::Stop, OnBadLine::Skip] {
                let _ = read_queries(&[&path], format, on_bad_line);
            }
        }
    }

    #[test]
    fn any_text_comes_back_as_it_was(texts in prop::collection::btree_set("\\PC{1,40}", 1..20)) {
        let files = Files::new();
        let wanted: BTreeSet<_> = texts.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
        prop_assume!(!wanted.is_empty());
        let lines: Vec<_> = wanted.iter().map(|text| serde_json::json!({ "query": text }).to_string()).collect();
        let path = files.write("data", gzip(lines.join("\n")));
        let read = read_queries(&[path], QueryFormat::Jsonl, OnBadLine::Stop).unwrap();
        prop_assert_eq!(read.queries.into_iter().map(|query| query.text).collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn halves_are_disjoint_balanced_and_repeatable(n in 0_usize..200, seed: u64) {
        let queries: Vec<_> = (0..n).map(|i| Query { id: i.to_string(), text: format!("q{i}") }).collect();
        let splits = split_two(queries.clone(), seed);
        prop_assert_eq!(splits.first.len(), n.div_ceil(2));
        let mut all: Vec<usize> = splits.first.iter().chain(&splits.second).map(|q| q.id.parse().unwrap()).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        prop_assert_eq!(splits.of_iteration(1), splits.of_iteration(3));
        prop_assert_eq!(splits.of_iteration(2), &splits.second[..]);
        prop_assert_eq!(split_two(queries, seed), splits);
    }
}

#[test]
fn a_seed_gives_these_halves_for_ever() {
    let queries: Vec<_> = (0..10).map(|i| Query { id: i.to_string(), text: format!("q{i}") }).collect();
    let splits = split_two(queries, 7);
    let ids = |half: &[Query]| half.iter().map(|query| query.id.clone()).collect::<String>();
    // Written down when the test was made: runs are resumed across versions.
    assert_eq!((ids(&splits.first), ids(&splits.second)), ("14028".into(), "36759".into()));
}

#[test]
fn the_real_dialogues_are_read() {
    let Some(path) = shared("data/hh-rlhf/harmless-base-test.jsonl.gz") else { return };
    let read = read_queries(&[path], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap();
    let report = &read.report.files[0];
    assert_eq!((report.lines, report.queries, report.duplicates), (2312, 2178, 134));
    assert!(report.skipped.is_empty());
    assert_eq!(report.sha256, "ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03");
    assert_eq!(read.queries[0].text, "what are some pranks with a pen i can do?");
    assert_eq!(read.queries[0].id, "harmless-base-test:1");
    assert!(
        read.queries.iter().all(|one| !one.text.contains("\n\nAssistant:") && one.text.trim() == one.text)
    );
}

#[test]
fn the_real_posts_are_read() {
    let Some(path) = shared("data/tldr/responses-base-mistral.json") else { return };
    let read = read_queries(&[&path], QueryFormat::Tldr, OnBadLine::Stop).unwrap();
    assert_eq!((read.queries.len(), read.report.duplicates()), (250, 0));
    assert!(read.queries[0].text.starts_with("This is my first post so please be kind :)"));
    let records = read_tldr(&path).unwrap();
    let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!((ids[2], ids[10], ids[249]), ("2", "10", "249"));
    assert!(records.iter().all(|one| one.constitution.as_ref().is_some_and(|text| text.starts_with("1. "))));
    assert!(records[0].response.as_ref().unwrap().starts_with("The post is about a person"));
}

#[test]
fn a_post_with_several_comparisons_is_taken_once() {
    let files = Files::new();
    let line = |id: &str, post: &str| {
        let info = serde_json::json!({"id": id, "post": post, "title": "t", "subreddit": "r"});
        serde_json::json!({"info": info, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 1})
            .to_string()
    };
    // By id, be the text the same or edited meanwhile; and by text, under another id.
    let lines = [
        line("t3_a", " one\n"),
        line("t3_b", "two"),
        line("t3_a", "one"),
        line("t3_b", "two, edited"),
        line("t3_c", "two"),
    ];
    let path = files.write("comparisons.jsonl", lines.join("\n"));
    let read = read_queries(&[&path], QueryFormat::TldrComparisons, OnBadLine::Stop).unwrap();
    let posts: Vec<_> = read.queries.iter().map(|one| (one.id.as_str(), one.text.as_str())).collect();
    assert_eq!(posts, [("t3_a", "one"), ("t3_b", "two")]);
    assert_eq!(read.report.duplicates(), 3);
    let refused = |content: &str| {
        let path = files.write("bad.jsonl", content);
        let error =
            read_queries(&[&path], QueryFormat::TldrComparisons, OnBadLine::Stop).unwrap_err().to_string();
        error.strip_prefix(&format!("{}, ", path.display())).unwrap().to_owned()
    };
    assert_eq!(
        refused("{\"summaries\": []}"),
        "line 1: the record has no field info; its fields: \"summaries\""
    );
    assert_eq!(
        refused("{\"info\": {\"id\": \"x\", \"article\": \"news\"}}"),
        "line 1: the record has no field info.post; its fields: \"article\", \"id\""
    );
    assert_eq!(
        refused("{\"info\": {\"post\": \"x\"}}"),
        "line 1: the record has no field info.id; its fields: \"post\""
    );
}

#[test]
fn posts_whose_columns_do_not_fit_are_refused() {
    let files = Files::new();
    let refused = |content: &str| {
        let path = files.write("posts.json", content);
        let error = read_tldr(&path).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    assert_eq!(
        refused("{\"question\": {\"0\": \"POST: a\"}, \"response\": {}}"),
        "entry \"0\" of question has no counterpart in response"
    );
    assert_eq!(
        refused("{\"question\": {}, \"response\": {\"4\": \"x\"}}"),
        "entry \"4\" of response has no counterpart in question"
    );
    assert_eq!(
        refused("{\"question\": {\"0\": 3}}"),
        "invalid type: integer `3`, expected a string at line 1 column 20"
    );
    assert_eq!(refused("{\"question\":\n []}"), "invalid type: sequence, expected a map at line 2 column 1");
}
