//! Wrong input ends with exit code 2 and a message that says where, and what to do. Never with a panic.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::{World, text};

#[test]
fn wrong_input_is_refused_with_its_place() {
    let world = World::new();
    let good_pair = r#"{"id":"q","query":"Hi","constitutions":[{"id":"a","text":""},{"id":"b","text":""}],"prompts":["A:","B:"],"responses":[{"constitution":0,"text":" x"},{"constitution":1,"text":" y"}]}"#;
    world.recipe();
    for (name, content) in [
        ("empty.jsonl", String::new()),
        ("hello.jsonl", "{\"prompt\": \"Hello there\"}\n".to_owned()),
        ("good.jsonl", format!("{good_pair}\n")),
        ("torn.jsonl", format!("{good_pair}\n{}\n", &good_pair[..40])),
        ("one.jsonl", good_pair.replace(r#""prompts":["A:","B:"]"#, r#""prompts":["A:"]"#)),
        ("target.jsonl", good_pair.replace(r#""constitution":1"#, r#""constitution":7"#)),
        ("rejected.jsonl", good_pair.replace(r#""query""#, r#""rejected":["empty"],"query""#)),
        ("paper.json", r#"{"0": [{"prompt": "A"}]}"#.to_owned()),
        ("prompts.jsonl", "\"ok\"\n{\"text\": 3}\n".to_owned()),
        (
            "queries-bad.jsonl",
            "{\"chosen\": \"\\n\\nHuman: Hi\\n\\nAssistant: Yes\"}\n{\"chosen\": \"Hello\"}\n".to_owned(),
        ),
        ("principles.toml", "[[principle]]\nname = \"a\"\nstatements = [\"x\"]\n".to_owned()),
        ("unknown.toml", world.read("recipe.toml").replace("batch_size", "batchsize")),
        ("few.toml", world.read("recipe.toml").replace("batch_size = 2", "batch_size = 128")),
        ("nodata.toml", world.read("recipe.toml").replace("queries.jsonl", "absent.jsonl")),
        ("nomodel.toml", world.read("recipe.toml").replace("\"model\"", "\"absent\"")),
        ("device.toml", world.read("recipe.toml").replace("dtype = \"f32\"", "device = \"tpu\"")),
    ] {
        world.write(name, &content);
    }
    std::fs::create_dir(world.path("taken")).unwrap();
    world.write("taken/notes.txt", "mine");
    std::fs::create_dir(world.path("config-only")).unwrap();
    std::fs::copy(world.path("model/config.json"), world.path("config-only/config.json")).unwrap();
    std::fs::create_dir(world.path("broken")).unwrap();
    world.write("broken/config.json", "{\"model_type\": ");
    std::fs::create_dir(world.path("foreign")).unwrap();
    world.write("foreign/config.json", "{\"model_type\": \"t5\"}");

    let score = "score --model model --out s.jsonl --pairs";
    let train = "train --model model --pairs good.jsonl --out t";
    let generate = "generate --model model --data queries.jsonl --out g.jsonl";
    let cases = [
        ("", "Usage: sami"),
        ("fly", "unrecognized subcommand 'fly'"),
        ("score --model model", "--pairs <FILE>"),
        (&format!("{score} good.jsonl --dtype f16"), "\"f16\" is not one of f32, bf16"),
        (&format!("{score} good.jsonl --device tpu"), "\"tpu\" is not one of cpu, cuda:N"),
        (&format!("{score} absent.jsonl"), "absent.jsonl: No such file"),
        (&format!("{score} empty.jsonl"), "empty.jsonl is empty"),
        (&format!("{score} torn.jsonl"), "torn.jsonl, line 2: "),
        (
            &format!("{score} one.jsonl"),
            "one.jsonl, line 1: query \"q\": it has 2 constitutions and 1 prompts",
        ),
        (&format!("{score} target.jsonl"), "responses[1].constitution is 7, but there are 2"),
        (&format!("{score} rejected.jsonl"), "all its pairs were rejected"),
        (&format!("{score} paper.json"), "entry 0 has no response"),
        ("score --model absent --pairs good.jsonl --out s.jsonl", "absent"),
        ("score --model config-only --pairs good.jsonl --out s.jsonl", "config-only"),
        ("score --model broken --pairs good.jsonl --out s.jsonl", "broken/config.json: not valid JSON"),
        ("score --model foreign --pairs good.jsonl --out s.jsonl", "foreign/config.json: "),
        ("inspect absent", "absent"),
        (train, "--steps <K>"),
        (&format!("{train} --steps 0"), "it must be at least 1"),
        (&format!("{train} --steps 1 --batch-size 0"), "it must be at least 1"),
        (&format!("{train} --steps 1 --optimizer adam"), "\"adam\" is not one of adamw, rmsprop"),
        (&format!("{train} --steps 1 --micro-batch 0"), "it must be at least 1"),
        (&format!("{train} --steps 1 --bf16-pure --dtype f32"), "bf16"),
        (
            "train --model model --pairs rejected.jsonl --out t --steps 1",
            "rejected.jsonl holds no pair that was kept",
        ),
        (
            "sample --model model --prompts prompts.jsonl --out s.jsonl",
            "prompts.jsonl, line 2: expected a JSON string or {\"prompt\"",
        ),
        ("sample --model model --prompts empty.jsonl --out s.jsonl", "the file holds no prompt"),
        ("sample --model model --prompts good.jsonl --out s.jsonl --temperature -1", "temperature is -1"),
        (
            "sample --model model --prompts hello.jsonl --out s.jsonl --max-new-tokens 100000",
            "shorten the prompt or lower max_new_tokens",
        ),
        (
            "sample --model model --prompts good.jsonl --out s.jsonl --top-p 0",
            "top_p is 0; it must lie in (0, 1]",
        ),
        (&format!("{generate} --format csv"), "--format"),
        (&format!("{generate} --n-constitutions 5"), "5 distinct constitutions per query are asked for"),
        (&format!("{generate} --n-constitutions 1"), "a contrast needs at least 2"),
        (
            &format!("{generate} --principles principles.toml"),
            "principles.toml, line 1: missing field `antitheses`",
        ),
        (&format!("{generate} --task principles.toml"), "principles.toml, line 1: "),
        (
            "generate --model model --data queries-bad.jsonl --out g.jsonl",
            "queries-bad.jsonl, line 2: \"chosen\" does not begin with",
        ),
        ("run absent.toml --out r", "recipe absent.toml: No such file"),
        ("run unknown.toml --out r", "line 12: unknown field `batchsize`, expected one of"),
        ("run few.toml --out r", "iteration 1 needs 256 queries, and split 1 has "),
        ("run nodata.toml --out r", "absent.jsonl: No such file"),
        ("run nomodel.toml --out r", "absent"),
        ("run device.toml --out r", "device is \"tpu\"; it must be \"cpu\" or \"cuda:N\""),
        ("run recipe.toml --out taken", "taken is not empty and holds no run"),
    ];
    let mut wrong = Vec::new();
    for (arguments, expected) in cases {
        let output = world.sami(arguments);
        let message = text(&output.stderr);
        if output.status.code() != Some(2) || !message.contains(expected) || message.contains("panicked") {
            wrong.push(format!(
                "sami {arguments}\n  code {:?}, expected {expected:?}\n  {message}",
                output.status.code()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing was left behind.
    for name in ["r", "t", "s.jsonl", "g.jsonl"] {
        assert!(!world.path(name).exists(), "{name} was made");
    }
}
