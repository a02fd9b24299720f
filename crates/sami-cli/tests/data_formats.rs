//! Files of data and of prompts as people have them, through the command.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{World, text};
use serde_json::{Value, json};

/// The compressor's own command is not needed: gzip stores bytes as they are in one block.
fn stored_gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(bytes);
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    file.extend((!crc).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

/// Zstd with one frame of one stored block.
fn stored_zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut file = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    file.extend(length.to_le_bytes());
    file.extend(&((length << 3) | 1).to_le_bytes()[..3]);
    file.extend(bytes);
    file
}

#[test]
fn queries_are_read_from_what_data_sets_hold() {
    let world = World::new();
    let turns =
        |query: &str| json!([{"role": "system", "content": "Be good."}, {"role": "user", "content": query}]);
    let records = [
        json!({"messages": turns("What is a lamp?"), "prompt_id": "p"}),
        json!({"conversations": [{"from": "human", "value": "Who mends nets?"}, {"from": "gpt", "value": "I."}]}),
        json!({"prompt": [{"role": "user", "content": "Why do geese fly?"}], "chosen": [], "rejected": []}),
        json!({"instruction": "Name this animal.", "input": "It barks.", "output": "A dog"}),
        json!({"question": "Is rain wet?", "answer": "Yes", "id": 2.5}),
        json!({"chosen": "\nHuman: Do cats swim?\r\nAssistant: Some.", "rejected": ""}),
        json!({"chosen": "\n\nHuman: One.\n\nHuman: Two.\n\nAssistant: Three."}),
    ];
    let expected = [
        "What is a lamp?",
        "Who mends nets?",
        "Why do geese fly?",
        "Name this animal.\n\nIt barks.",
        "Is rain wet?",
        "Do cats swim?",
        "One.\n\nTwo.",
    ];
    let rows: Vec<_> = records.iter().map(Value::to_string).collect();
    let plain = format!("\u{feff}{}\r\n\r\n", rows.join("\r\n\r\n"));
    let array = serde_json::to_string_pretty(&records).unwrap();
    for (name, bytes) in [
        ("lines.jsonl", plain.clone().into_bytes()),
        ("array.json", array.into_bytes()),
        ("lines.jsonl.zst", stored_zstd(plain.as_bytes())),
        ("lines.jsonl.gz", stored_gzip(plain.as_bytes())),
    ] {
        std::fs::write(world.path(name), bytes).unwrap();
        let out = format!("{name}.pairs");
        let output =
            world.sami(&format!("generate --model model --data {name} --out {out} --max-new-tokens 2"));
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(
            said.contains(
                "7 queries, 0 duplicates dropped, 2 lines mended (joined-turns 1, single-newlines 1)"
            ),
            "{name}: {said}"
        );
        let pairs = world.lines(&out);
        let queries: Vec<_> = pairs.iter().map(|pair| pair["query"].as_str().unwrap()).collect();
        assert_eq!(queries, expected, "{name}");
        assert_eq!(pairs[4]["id"], "2.5");
        let prompts = pairs.iter().flat_map(|pair| pair["prompts"].as_array().unwrap());
        assert!(prompts.into_iter().all(|prompt| !prompt.as_str().unwrap().contains('\r')));
    }
}

#[test]
fn lines_that_give_no_query_stop_the_command_or_are_counted() {
    let world = World::new();
    let clear = json!({"chosen": "\n\nHuman: Clear?\n\nAssistant: Yes."});
    let mixed = json!({"chosen": "\n\nHuman: a\nAssistant: b\n\nHuman: c\n\nAssistant: d"});
    world.write("mixed.jsonl", &format!("{clear}\n{mixed}\n{{\"chosen\": \"Hello\"}}\n"));
    let generate = "generate --model model --data mixed.jsonl --out g.jsonl --max-new-tokens 2";
    let output = world.sami(generate);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("mixed.jsonl, line 2: its first human turn holds"), "{said}");
    let output = world.sami(&format!("{generate} --on-bad-line skip"));
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(
        said.contains("1 query, 0 duplicates dropped, 2 lines skipped (no-human-turn 1, unclear-turns 1)"),
        "{said}"
    );
    assert_eq!(world.lines("g.jsonl")[0]["query"], "Clear?");
}

#[test]
fn a_field_is_named_by_flag_and_by_recipe() {
    let world = World::new();
    let record =
        |n: usize| json!({"body": {"messages": [{"role": "user", "content": format!("What is {n}?")}]}});
    let rows: String = (0..16).map(|n| format!("{}\n", record(n))).collect();
    world.write("batch.jsonl", &rows);
    let refused = world.sami("generate --model model --data batch.jsonl --out g.jsonl");
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(
        said.contains("batch.jsonl, line 1: the record has no field that is known to hold a query")
            && said.contains("its fields: \"body\"; name one of them as the query field"),
        "{said}"
    );
    world.succeed("generate --model model --data batch.jsonl --query-field body.messages --out g.jsonl --max-new-tokens 2");
    assert_eq!(world.lines("g.jsonl")[3]["query"], "What is 3?");

    world.recipe();
    let recipe = world.read("recipe.toml").replace("queries.jsonl", "batch.jsonl");
    world.write("field.toml", &recipe);
    let set = "--set data.format=jsonl --set data.query_field=body.messages";
    let short = "--set training.iterations=1 --set evaluation.queries=0 --set training.batches=1";
    world.succeed(&format!("run field.toml --out run {set} {short}"));
    assert!(world.read("run/recipe.toml").contains("query_field = \"body.messages\""));
    let queries: BTreeSet<_> = world
        .lines("run/iteration-1/pairs.jsonl")
        .iter()
        .map(|pair| pair["query"].as_str().unwrap().to_owned())
        .collect();
    assert!(queries.iter().all(|query| query.starts_with("What is ")), "{queries:?}");
    let clash = world.sami("run field.toml --out r --set data.format=hh-rlhf --set data.query_field=body");
    assert!(text(&clash.stderr).contains("data.query_field"), "{}", text(&clash.stderr));
    let clash = world.sami("generate --model model --data batch.jsonl --format text --query-field a --out r");
    let said = text(&clash.stderr);
    assert!(
        said.contains("the format text says itself where its query stands; a field goes with auto or jsonl"),
        "{said}"
    );
}

#[test]
fn prompts_are_read_by_the_reader_of_data() {
    let world = World::new();
    let raw = "\n\nHuman: Hi\n\nAssistant:";
    let rows = [
        json!({"prompt": raw}),
        json!(" kept "),
        json!({"query": "q"}),
        json!({"messages": [{"role": "user", "content": "m"}]}),
        json!({"prompt": raw}),
    ];
    let rows: Vec<_> = rows.iter().map(Value::to_string).collect();
    let plain = format!("\u{feff}{}\r\n\r\n", rows.join("\r\n"));
    std::fs::write(world.path("prompts.jsonl"), &plain).unwrap();
    std::fs::write(world.path("prompts.gz"), stored_gzip(plain.as_bytes())).unwrap();
    std::fs::write(world.path("prompts.zst"), stored_zstd(plain.as_bytes())).unwrap();
    world.write("prompts.json", &format!("[\n{}]", rows.join(",\n")));
    for file in ["prompts.jsonl", "prompts.gz", "prompts.zst", "prompts.json"] {
        world.succeed(&format!("sample --model model --prompts {file} --out s.jsonl --max-new-tokens 2"));
        let prompts: Vec<_> =
            world.lines("s.jsonl").iter().map(|line| line["prompt"].as_str().unwrap().to_owned()).collect();
        assert_eq!(prompts, [raw, " kept ", "q", "m", raw], "{file}");
    }
    world.write("notes.txt", "\u{feff}One?\r\n\r\n{\"two\"}\r\n");
    world.succeed("sample --model model --prompts notes.txt --format text --out s.jsonl --max-new-tokens 2");
    let prompts: Vec<_> = world.lines("s.jsonl").iter().map(|line| line["prompt"].clone()).collect();
    assert_eq!(prompts, [json!("One?"), json!("{\"two\"}")]);
}

#[test]
fn files_that_are_no_data_are_named_and_refused() {
    let world = World::new();
    let cases: [(&str, &[u8], &str); 8] = [
        (
            "lfs.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            " is a Git LFS pointer",
        ),
        ("page.jsonl", b"<!doctype html><title>Sign in</title>", " is an HTML page, not data"),
        (
            "merge.jsonl",
            b"<<<<<<< HEAD\n{\"query\": \"a\"}\n",
            ", line 1: it is a mark of a Git merge conflict",
        ),
        ("data.jsonl.xz", b"\xfd7zXZ\0\0\x04", " is compressed by xz"),
        ("model.gguf", b"GGUF\x03\0\0\0", " is a GGUF file"),
        ("data.pkl", b"\x80\x04\x95\x10", " is a Python pickle"),
        ("consolidated.safetensors", b"\x40\0\0\0\0\0\0\0{\"a\":", " is a safetensors file"),
        ("consolidated.pth", b"PK\x03\x04....consolidated/data.pkl", " is a PyTorch file"),
    ];
    for (name, bytes, said) in cases {
        std::fs::write(world.path(name), bytes).unwrap();
        for command in [
            format!("generate --model model --data {name} --out o"),
            format!("sample --model model --prompts {name} --out o"),
        ] {
            let output = world.sami(&command);
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command}: {message}");
            assert!(message.contains(&format!("{name}{said}")), "{command}: {message}");
        }
    }
    assert!(!world.path("o").exists());
}

#[test]
fn parquet_and_foreign_newlines_reach_prompts_alike() {
    let world = World::new();
    let parquet =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../sami-data/tests/parquet/delta-snappy.parquet");
    std::fs::copy(parquet, world.path("rows.parquet")).unwrap();
    world.succeed("sample --model model --prompts rows.parquet --out s.jsonl --max-new-tokens 1");
    let first = world.lines("s.jsonl")[0]["prompt"].clone();
    assert_eq!(first, "How many sheep stand on hill 0?");

    let task = "name = \"t\"\n[prompts]\nsampling = \"\"\"\n{{ constitution }}\n\n{{ query }}\n\nA:\"\"\"\n\
                training = \"\"\"\n{{ constitution }}\n\n{{ query }}\n\nA:\"\"\"\n";
    let principles = "[[principle]]\nname = \"a\"\nstatements = [\"x\"]\nantitheses = [\"y\"]\n";
    world.write("one.jsonl", "{\"query\": \"a\\r\\nb\"}\n");
    let mut outputs = Vec::new();
    for (place, end) in [("unix", "\n"), ("other", "\r\n")] {
        std::fs::create_dir(world.path(place)).unwrap();
        world.write(&format!("{place}/task.toml"), &task.replace('\n', end));
        world.write(&format!("{place}/principles.toml"), &principles.replace('\n', end));
        world.succeed(&format!(
            "generate --model model --data one.jsonl --task {place}/task.toml --principles {place}/principles.toml --out {place}/p --max-new-tokens 2"
        ));
        outputs.push(world.read(&format!("{place}/p")));
    }
    assert_eq!(outputs[0], outputs[1]);
    assert!(!outputs[0].contains("\\r") && outputs[0].contains("\\n\\na\\nb\\n\\nA:"), "{}", outputs[0]);
}
