//! Where the query of a record stands, in the spellings of data sets.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::Files;
use sami_data::{FieldPath, OnBadLine, QueryFormat, QueryShape, ShapeProblem, read_prompts, read_queries};
use serde_json::{Value, json};

/// The query of one record, or what is wrong with it.
fn query(record: &str, shape: impl Into<QueryShape>) -> Result<String, String> {
    let files = Files::new();
    let path = files.write("data.jsonl", format!("{record}\n"));
    match read_queries(&[&path], shape, OnBadLine::Stop) {
        Ok(mut read) => Ok(read.queries.remove(0).text),
        Err(error) => {
            let error = error.to_string();
            Err(error.strip_prefix(&format!("{}, line 1: ", path.display())).unwrap_or(&error).to_owned())
        }
    }
}

fn auto(record: &Value) -> Result<String, String> {
    query(&record.to_string(), QueryFormat::Auto)
}

fn field(path: &str) -> QueryShape {
    QueryShape::new(QueryFormat::Auto, Some(path.parse().unwrap())).unwrap()
}

#[test]
fn known_fields_hold_the_query() {
    let turns = json!([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]);
    let from = json!([{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]);
    for record in [
        json!({"query": "Who?"}),
        json!({"prompt": "Who?", "response": "Me."}),
        json!({"question": " Who?\r\n", "answer": "Me."}),
        json!({"instruction": "Who?", "input": "", "output": "Me."}),
        json!({"messages": turns}),
        json!({"conversations": from, "id": "x"}),
        json!({"conversation": turns, "conversation_id": "c"}),
        json!({"prompt": [turns[0]], "chosen": [turns[1]], "rejected": [turns[1]]}),
        json!({"prompt": "Who?", "messages": turns, "chosen": turns}),
        json!({"chosen": turns, "rejected": turns}),
        json!({"chosen": "\n\nHuman: Who?\n\nAssistant: Me.", "rejected": "\n\nHuman: Who?\n\nAssistant: No."}),
        json!({"prompt": "\n\nHuman: Who?\n\nAssistant:", "chosen": " Me.", "rejected": " No."}),
        json!({"info": {"id": "t3_a", "post": "Who?"}, "summaries": []}),
        json!("Who?"),
        json!({"prompt": null, "question": "", "messages": turns}),
    ] {
        assert_eq!(auto(&record), Ok("Who?".to_owned()), "{record}");
    }
    let below = json!({"instruction": "Name it.\n", "input": " A cat", "output": "Cat"});
    assert_eq!(auto(&below), Ok("Name it.\n\nA cat".to_owned()));
    let below = json!({"instruction": "Sum it up.", "context": "Long.", "response": "S", "category": "c"});
    assert_eq!(auto(&below), Ok("Sum it up.\n\nLong.".to_owned()));
}

#[test]
fn what_is_not_known_or_not_clear_is_refused() {
    let known = "the record has no field that is known to hold a query (query, prompt, question, instruction, \
                 messages, conversations, conversation); its fields: ";
    let many: serde_json::Map<String, Value> = (0..10).map(|n| (format!("f{n}"), n.into())).collect();
    for (record, message) in [
        (json!({"text": "Who?"}), format!("{known}\"text\"; name one of them as the query field")),
        (json!({}), format!("{known}none; name one of them as the query field")),
        (
            json!(many),
            format!(
                "{known}\"f0\", \"f1\", \"f2\", \"f3\", \"f4\", \"f5\", \"f6\", \"f7\" and 2 more; name one of them as the query field"
            ),
        ),
        (
            json!({"prompt": "Answer: who?", "question": "who?"}),
            "the fields prompt and question hold different texts; name one of them as the query field".to_owned(),
        ),
        (json!({"prompt": " ", "messages": []}), "the query is empty".to_owned()),
        (json!({"prompt": 3}), "the field prompt holds a number, not text or a list of turns".to_owned()),
        (
            json!({"messages": "[{'role': 'user'}]"}),
            "the field messages holds text, not a list of turns".to_owned(),
        ),
        (
            json!({"messages": ["Who?"]}),
            "turn 1 has no role and content, and no from and value; it is text".to_owned(),
        ),
        (
            json!({"messages": [{"input": "Who?"}]}),
            "turn 1 has no role and content, and no from and value; it is fields \"input\"".to_owned(),
        ),
        (
            json!({"messages": [{"from": "gpt", "value": "Hello"}, {"from": "human", "value": "Who?"}]}),
            "its list of turns does not begin with one of the user, but with one of \"gpt\"".to_owned(),
        ),
        (
            json!({"messages": [{"role": "system", "content": "Be good."}]}),
            "its list of turns does not begin with one of the user".to_owned(),
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "turn 1 holds a part of type \"image_url\", not text".to_owned(),
        ),
        (
            json!({"chosen": "Hello"}),
            "\"chosen\" does not begin with \"\\n\\nHuman:\", so it has no first human turn".to_owned(),
        ),
        (json!({"id": [1], "query": "x"}), "the field id holds a list, not text or a number".to_owned()),
        (json!(3), "it is not JSON, for it begins with \"3\"; plain text with a query on each line has the format text".to_owned()),
    ] {
        assert_eq!(auto(&record), Err(message), "{record}");
    }
}

#[test]
fn of_turns_the_first_user_turn_is_the_query() {
    for turns in [
        json!([{"role": "system", "content": "Be good."}, {"role": "User", "content": "Who?"}, {"role": "assistant", "content": "Me."}, {"role": "user", "content": "Why?"}]),
        json!([{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]),
        json!([{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "o?"}]}]),
    ] {
        assert_eq!(auto(&json!({"messages": turns})), Ok("Who?".to_owned()), "{turns}");
    }
    let files = Files::new();
    let twice = json!({"messages": [{"role": "user", "content": "Who?"}, {"role": "user", "content": "And why?"}, {"role": "assistant", "content": "Me."}]});
    let path = files.write("twice.jsonl", twice.to_string());
    let read = read_queries(&[path], QueryFormat::Auto, OnBadLine::Stop).unwrap();
    assert_eq!(read.queries[0].text, "Who?\n\nAnd why?");
    assert_eq!(read.report.to_string(), "1 query, 0 duplicates dropped, 1 line mended (joined-turns 1)");
}

#[test]
fn dialogues_survive_other_newlines() {
    let unclear = Err(
        "its first human turn holds \"Human:\" or \"Assistant:\", marked otherwise than elsewhere in the \
                       dialogue, so where the turn ends is not clear"
            .to_owned(),
    );
    let some = |text: &str| Ok(text.to_owned());
    for (dialogue, expected) in [
        ("\r\n\r\nHuman: One\r\ntwo\r\n\r\nAssistant: Yes.", some("One\ntwo")),
        ("\nHuman: One\ntwo\nAssistant: Yes.\nHuman: Three", some("One\ntwo")),
        ("Human: One\r\nAssistant: Yes.", some("One")),
        ("\n\nHuman: One\n\nHuman: Two\n\nAssistant: Yes.\n\nHuman: Three", some("One\n\nTwo")),
        ("\n\nHuman:\n\nHuman: Two\n\nAssistant: Yes.", some("Two")),
        ("\nHuman: One\nHuman: Two\nAssistant: Yes.", some("One\n\nTwo")),
        ("\n\nHuman: One \"Assistant: x\"\n\nAssistant: Yes.", some("One \"Assistant: x\"")),
        ("\n\nHuman: One\nAssistant: Yes.\n\nHuman: Two\n\nAssistant: No.", unclear.clone()),
        ("\n\nHuman: One\n Assistant: x\n\nAssistant: No.", unclear.clone()),
        ("\n\nHuman: One\nHuman: Two\n\nAssistant: No.", unclear.clone()),
        ("\r\rHuman: One\r\rAssistant: Yes.", some("One")),
        ("\n\nHuman: One\n \nAssistant: Yes.", some("One")),
        ("\n\n\tHuman: One\n\n\tAssistant: Yes.", unclear.clone()),
        ("Human: One Assistant: Yes.", unclear),
    ] {
        let record = json!({"chosen": dialogue, "rejected": ""}).to_string();
        for format in [QueryFormat::HhRlhf, QueryFormat::Auto] {
            assert_eq!(query(&record, format), expected, "{dialogue:?}");
        }
        assert!(expected.is_err() || !expected.unwrap().contains("\nAssistant:"));
    }
    // All of it is counted.
    let files = Files::new();
    let lines = [
        "\nHuman: a\nAssistant: b",
        "\n\nHuman: c\n\nHuman: d\n\nAssistant: e",
        "\n\nHuman: f\nAssistant: g\n\nHuman: h",
    ];
    let lines: Vec<_> = lines.iter().map(|chosen| json!({ "chosen": chosen }).to_string()).collect();
    let path = files.write("odd.jsonl", lines.join("\r\n"));
    let read = read_queries(&[path], QueryFormat::Auto, OnBadLine::Skip).unwrap();
    assert_eq!(
        read.report.to_string(),
        "2 queries, 0 duplicates dropped, 1 line skipped (unclear-turns 1), 2 lines mended (joined-turns 1, single-newlines 1)"
    );
}

#[test]
fn a_field_may_be_named() {
    let record = json!({
        "text": "Who?", "body": {"messages": [{"role": "user", "content": "Why?"}]}, "turns": ["Where?", "When?"],
        "a.b": "Dotted?", "prompt": "unread", "id": "x",
    })
    .to_string();
    for (path, expected) in
        [("text", "Who?"), ("body.messages", "Why?"), ("turns.0", "Where?"), ("a.b", "Dotted?")]
    {
        assert_eq!(query(&record, field(path)), Ok(expected.to_owned()));
    }
    let fields = "its fields: \"a.b\", \"body\", \"id\", \"prompt\", \"text\", \"turns\"";
    assert_eq!(
        query(&record, field("body.text")),
        Err(format!("the record has no field body.text; {fields}"))
    );
    assert_eq!(query(&record, field("turns.2")), Err(format!("the record has no field turns.2; {fields}")));
    assert_eq!(
        query(&record, field("body")),
        Err("the field body holds an object, not text or a list of turns".to_owned())
    );
    assert_eq!(query("\"x\"", field("text")), Err("the line is no JSON object, {…}".to_owned()));
    assert_eq!(
        "a..b".parse::<FieldPath>().unwrap_err().to_string(),
        "\"a..b\" names no field; write it as name or outer.inner"
    );
    let problem = QueryShape::new(QueryFormat::HhRlhf, Some("text".parse().unwrap())).unwrap_err();
    assert_eq!(problem, ShapeProblem::FormatHasField(QueryFormat::HhRlhf));
    assert_eq!(
        problem.to_string(),
        "the format hh-rlhf says itself where its query stands; a field goes with auto or jsonl"
    );
}

#[test]
fn ids_are_any_scalar() {
    let files = Files::new();
    let lines = [
        r#"{"id": -3, "query": "a"}"#,
        r#"{"id": 1.5, "query": "b"}"#,
        r#"{"id": true, "query": "c"}"#,
        r#"{"id": null, "query": "d"}"#,
        r#"{"id": 18446744073709551615, "query": "e"}"#,
        r#"{"id": "", "query": "f"}"#,
    ];
    let path = files.write("ids.jsonl", lines.join("\n"));
    let read = read_queries(&[path], QueryFormat::Auto, OnBadLine::Stop).unwrap();
    let ids: Vec<_> = read.queries.iter().map(|query| query.id.as_str()).collect();
    assert_eq!(ids, ["-3", "1.5", "true", "ids:4", "18446744073709551615", ""]);
}

#[test]
fn numbers_that_python_writes_do_not_matter_where_nobody_reads_them() {
    let record = r#"{"score": NaN, "x": [-Infinity, Infinity], "query": "Is \"NaN\" a number?"}"#;
    assert_eq!(query(record, QueryFormat::Auto), Ok("Is \"NaN\" a number?".to_owned()));
    let record = r#"{"query": NaN}"#;
    assert_eq!(query(record, QueryFormat::Auto), Err("the query is empty".to_owned()));
    let record = r#"{"query": Nan}"#;
    assert_eq!(query(record, QueryFormat::Auto), Err("expected value (column 11)".to_owned()));
}

#[test]
fn plain_text_is_a_query_a_line() {
    let files = Files::new();
    let path = files.write("notes.txt", "\u{feff}First?\r\n\r\n  {\"second\": 2}  \nFirst?\n");
    let read = read_queries(&[&path], QueryFormat::Text, OnBadLine::Stop).unwrap();
    let seen: Vec<_> = read.queries.iter().map(|one| (one.id.as_str(), one.text.as_str())).collect();
    assert_eq!(seen, [("notes:1", "First?"), ("notes:3", "{\"second\": 2}")]);
    // Prompts are every line, as it is.
    let prompts = read_prompts(&path, QueryFormat::Text).unwrap();
    assert_eq!(prompts, ["First?", "  {\"second\": 2}  ", "First?"]);
    let error = read_prompts(&path, QueryFormat::Auto).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "line 1: it is not JSON, for it begins with \"First?\"; plain text with a query on each line has the format text"
        ),
        "{error}"
    );
}

#[test]
fn prompts_stay_as_they_are() {
    let files = Files::new();
    let raw = "\n\nHuman: Who?\r\n\n\nAssistant:";
    let lines = [
        json!({"prompt": raw}),
        json!(raw),
        json!({"query": " x "}),
        json!({"messages": [{"role": "user", "content": " y"}]}),
        json!({"prompt": raw}),
    ];
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    let path = files.write("prompts.jsonl", lines.join("\n"));
    assert_eq!(read_prompts(&path, QueryFormat::Jsonl).unwrap(), [raw, raw, " x ", " y", raw]);
    let empty = files.write("empty.jsonl", "\n");
    let error = read_prompts(&empty, QueryFormat::Jsonl).unwrap_err().to_string();
    assert!(error.contains("empty.jsonl is empty"), "{error}");
}
