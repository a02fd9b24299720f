//! Contrast sets on disk: round trips, the paper's format, and what is refused.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::{Files, gzip};
use proptest::prelude::*;
use sami_data::{
    Finish, JsonlAppender, PairConstitution, PairReader, PairRecord, PairResponse, Rejection, read_pairs,
    write_paper_pairs,
};

fn record(id: &str) -> PairRecord {
    let constitution =
        |id: &str| PairConstitution { id: id.into(), text: format!("1. {id} is what counts.") };
    PairRecord {
        id: id.into(),
        query: "Why?".into(),
        constitutions: vec![constitution("a"), constitution("not-a")],
        prompts: vec!["A: Why?".into(), "B: Why?".into()],
        chat: false,
        responses: vec![
            PairResponse {
                constitution: 0,
                text: " So.".into(),
                token_ids: Some(vec![5, 6]),
                finish: Some(Finish::Eos),
            },
            PairResponse { constitution: 1, text: " No.".into(), token_ids: None, finish: None },
        ],
        rejected: vec![],
        refusal: None,
    }
}

#[test]
fn a_refusal_stands_in_its_line_and_is_absent_elsewhere() {
    let refused = PairRecord {
        responses: vec![],
        rejected: vec![Rejection::PromptRefused],
        refusal: Some("too long".into()),
        ..record("x:1")
    };
    let line = serde_json::to_string(&refused).unwrap();
    let end = r#""responses":[],"rejected":["prompt-refused"],"refusal":"too long"}"#;
    assert!(line.ends_with(end), "{line}");
    assert_eq!(serde_json::from_str::<PairRecord>(&line).unwrap(), refused);
    assert_eq!(refused.check(), Ok(()));
    assert!(!serde_json::to_string(&record("x:1")).unwrap().contains("refusal"));
}

#[test]
fn a_record_is_one_line_of_this_shape() {
    let line = concat!(
        r#"{"id":"x:1","query":"Why?","constitutions":[{"id":"a","text":"1. a is what counts."},"#,
        r#"{"id":"not-a","text":"1. not-a is what counts."}],"prompts":["A: Why?","B: Why?"],"responses":["#,
        r#"{"constitution":0,"text":" So.","token_ids":[5,6],"finish":"eos"},"#,
        r#"{"constitution":1,"text":" No.","token_ids":null,"finish":null}]}"#
    );
    assert_eq!(serde_json::to_string(&record("x:1")).unwrap(), line);
    let rejected =
        PairRecord { rejected: vec![Rejection::Identical, "mine".to_owned().into()], ..record("x:1") };
    let line = format!("{},\"rejected\":[\"identical\",\"mine\"]}}", line.strip_suffix('}').unwrap());
    assert_eq!(serde_json::to_string(&rejected).unwrap(), line);
    assert_eq!(serde_json::from_str::<PairRecord>(&line).unwrap(), rejected);
    let chat = PairRecord { chat: true, ..record("x:1") };
    let line = serde_json::to_string(&chat).unwrap();
    assert!(line.contains(r#""prompts":["A: Why?","B: Why?"],"chat":true,"responses""#), "{line}");
    assert_eq!(serde_json::from_str::<PairRecord>(&line).unwrap(), chat);
}

fn any_record() -> impl Strategy<Value = PairRecord> {
    let text = "\\PC{0,12}|[ \n\t\"\\\\{}]{1,5}";
    let finish = prop::option::of(prop::sample::select(vec![Finish::Eos, Finish::Stop, Finish::Length]));
    let responses = prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            text,
            prop::option::of(prop::collection::vec(any::<u32>(), 0..5)),
            finish,
        ),
        0..6,
    );
    let rejected = prop::sample::subsequence(
        vec![Rejection::Empty, Rejection::EvasiveOpening, Rejection::Other("own".into())],
        1..3,
    );
    (text, text, prop::collection::vec((text, text, text), 2..5), responses, rejected).prop_map(
        |(id, query, constitutions, responses, rejected)| PairRecord {
            id,
            query,
            prompts: constitutions.iter().map(|(_, _, prompt)| prompt.clone()).collect(),
            chat: false,
            responses: responses
                .into_iter()
                .map(|(index, text, token_ids, finish)| PairResponse {
                    constitution: index.index(constitutions.len()),
                    text,
                    token_ids,
                    finish,
                })
                .collect(),
            constitutions: constitutions
                .into_iter()
                .map(|(id, text, _)| PairConstitution { id, text })
                .collect(),
            // Rejected ones may hold anything.
            rejected,
            refusal: None,
        },
    )
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(records in prop::collection::vec(any_record(), 1..6), zip: bool) {
        let files = Files::new();
        let path = files.path("pairs.jsonl");
        let mut appender = JsonlAppender::open(&path).unwrap();
        for record in &records {
            appender.append(record).unwrap();
        }
        if zip {
            let bytes = std::fs::read(&path).unwrap();
            files.write("pairs.jsonl", gzip(bytes));
        }
        prop_assert_eq!(read_pairs(&path).unwrap(), records);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0_usize..3) {
        let files = Files::new();
        let starts: [&[u8]; 3] = [b"", b"{\"id\":", b"{\"0\":["];
        let path = files.write("pairs", [starts[start], &bytes].concat());
        let _ = read_pairs(&path);
    }
}

const PAPER: &str = r#"{
    "0": [
        {"prompt": "P0", "response": "R0", "example_id": 0},
        {"prompt": "P1", "response": "R1", "example_id": 0}
    ],
    "10": [
        {"prompt": "Q0", "response": "S0"},
        {"prompt": "Q1", "response": "S1"},
        {"prompt": "Q2", "response": "S2"}
    ]
}"#;

#[test]
fn the_papers_json_is_read_in_its_order() {
    let files = Files::new();
    let one_line: String = PAPER.split_whitespace().collect();
    for content in [PAPER.as_bytes().to_vec(), one_line.into_bytes(), gzip(PAPER)] {
        let path = files.write("pairs.json", content);
        let records = read_pairs(&path).unwrap();
        assert_eq!(records.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["0", "10"]);
        assert_eq!(records[1].prompts, ["Q0", "Q1", "Q2"]);
        for (index, response) in records[1].responses.iter().enumerate() {
            assert_eq!((response.constitution, response.text.clone()), (index, format!("S{index}")));
            assert_eq!(response.token_ids, None);
        }
    }
}

#[test]
fn the_papers_json_is_written() {
    let files = Files::new();
    let rejected = PairRecord { rejected: vec![Rejection::Empty], ..record("r") };
    let mut bytes = Vec::new();
    let path = files.path("out.json");
    write_paper_pairs(&path, &mut bytes, &[record("x"), rejected, record("y")]).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let read = read_pairs(&path).unwrap();
    assert_eq!(read.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(read[1].prompts, record("y").prompts);
    assert!(
        String::from_utf8(bytes)
            .unwrap()
            .contains(r#"{"prompt":"B: Why?","response":" No.","example_id":1}"#)
    );
    let mut swapped = record("x");
    swapped.responses.reverse();
    let error = write_paper_pairs(&path, &mut Vec::new(), &[swapped]).unwrap_err().to_string();
    assert_eq!(
        error,
        "query \"x\": the paper's format holds one response per constitution, in their order; this set is different"
    );
}

#[test]
fn wrong_files_are_refused_with_their_line() {
    let files = Files::new();
    let good = serde_json::to_string(&record("good")).unwrap();
    let with = |change: fn(&mut PairRecord)| {
        let mut changed = record("x");
        change(&mut changed);
        serde_json::to_string(&changed).unwrap()
    };
    let second = |line: String| format!("{good}\n{line}\n");
    let cases = [
        (String::new(), " is empty; it should hold one JSON object per line"),
        ("{}".into(), " is empty; it should hold one JSON object per line"),
        (second("{\"id\": \"x\"".into()), ", line 2: EOF while parsing an object (column 10)"),
        (second("{\"id\": \"x\"}".into()), ", line 2: missing field `query` (column 11)"),
        (second("[]".into()), ", line 2: the line is no JSON object, {…}"),
        (
            second(good.replace("[5,6]", "[5,-6]")),
            ", line 2: invalid value: integer `-6`, expected u32 (column 230)",
        ),
        (
            second(good.replace("eos", "end")),
            ", line 2: unknown variant `end`, expected one of `eos`, `stop`, `length` (column 245)",
        ),
        (
            second(with(|one| {
                one.constitutions.pop();
            })),
            ", line 2: query \"x\": it has 1 constitutions; a contrast needs at least 2",
        ),
        (
            second(with(|one| {
                one.prompts.pop();
            })),
            ", line 2: query \"x\": it has 2 constitutions and 1 prompts; each constitution needs its training prompt",
        ),
        (
            second(with(|one| one.responses[1].constitution = 2)),
            ", line 2: query \"x\": responses[1].constitution is 2, but there are 2 (counted from 0)",
        ),
        (
            second(with(|one| one.responses[1].constitution = 0)),
            ", line 2: query \"x\": constitution 1 has no response; add one, or give the reason under \"rejected\"",
        ),
        (
            second(with(|one| one.responses[0].token_ids = Some(vec![]))),
            ", line 2: query \"x\": responses[0] is empty; give the reason under \"rejected\"",
        ),
        (
            second(with(|one| one.responses[1].text.clear())),
            ", line 2: query \"x\": responses[1] is empty; give the reason under \"rejected\"",
        ),
        ("{\"0\": 3}".into(), ": invalid type: integer `3`, expected a sequence at line 1 column 7"),
        (
            PAPER.replace("\"response\": \"S1\"", "\"answer\": \"S1\""),
            ", line 2: query \"10\": entry 1 has no response",
        ),
        (
            "{\"0\": [{\"prompt\": \"a\", \"response\": \"b\"}]}".into(),
            ", line 1: query \"0\": it has 1 constitutions; a contrast needs at least 2",
        ),
        (
            PAPER.replace("\"R1\"", "\"\""),
            ", line 1: query \"0\": responses[1] is empty; give the reason under \"rejected\"",
        ),
    ];
    for (content, expected) in cases {
        let path = files.write("pairs.jsonl", &content);
        let error = read_pairs(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}{expected}", path.display()), "{content}");
    }
}

#[test]
fn records_before_a_bad_line_are_read_and_none_after_it() {
    let files = Files::new();
    let good = serde_json::to_string(&record("good")).unwrap();
    let path = files.write("pairs.jsonl", format!("{good}\n{good}\nbad\n{good}\n"));
    let kinds: Vec<_> = PairReader::open(&path).unwrap().map(|item| item.is_ok()).collect();
    assert_eq!(kinds, [true, true, false]);
}
