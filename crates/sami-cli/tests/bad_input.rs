//! Wrong input ends with exit code 2 and a message that says where, and what to do. Never with a panic.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::sync::atomic::Ordering::Relaxed;

use common::{World, text};

#[test]
fn wrong_input_is_refused_with_its_place() {
    let world = World::new();
    let good_pair = r#"{"id":"q","query":"Hi","constitutions":[{"id":"a","text":""},{"id":"b","text":""}],"prompts":["A:","B:"],"responses":[{"constitution":0,"text":" x"},{"constitution":1,"text":" y"}]}"#;
    world.recipe();
    for (name, content) in [
        ("empty.jsonl", String::new()),
        ("cut.parquet", "PAR1 and no end".to_owned()),
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

    // Checkpoints with one thing wrong each.
    let copy = |name: &str| {
        std::fs::create_dir(world.path(name)).unwrap();
        for entry in std::fs::read_dir(world.path("model")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), world.path(name).join(entry.file_name())).unwrap();
        }
    };
    copy("no-tokenizer");
    std::fs::remove_file(world.path("no-tokenizer/tokenizer.json")).unwrap();
    copy("bad-tokenizer");
    world.write("bad-tokenizer/tokenizer.json", "{\"version\": \"1.0\", \"model\": {\"type\": \"Magic\"}}");
    copy("cut-weights");
    let weights = std::fs::read(world.path("model/model.safetensors")).unwrap();
    std::fs::write(world.path("cut-weights/model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    copy("no-header");
    std::fs::write(world.path("no-header/model.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\xffhello")
        .unwrap();
    copy("wider");
    let config =
        world.read("model/config.json").replace("\"intermediate_size\": 48", "\"intermediate_size\": 96");
    world.write("wider/config.json", &config);
    copy("no-weights");
    std::fs::remove_file(world.path("no-weights/model.safetensors")).unwrap();

    // Run directories that are none, or another's.
    world.succeed("recipe check recipe.toml");
    world.succeed("run recipe.toml --out done --set training.iterations=1 --set evaluation.queries=0");
    let run = |name: &str, change: &dyn Fn(&std::path::Path)| {
        let status =
            std::process::Command::new("cp").args(["-r", "done", name]).current_dir(world.path("")).status();
        assert!(status.unwrap().success());
        change(&world.path(name));
    };
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |dir: &std::path::Path| {
            let text = std::fs::read_to_string(dir.join(file)).unwrap();
            assert!(text.contains(from), "{file} has no {from}");
            std::fs::write(dir.join(file), text.replacen(from, to, 1)).unwrap();
        }
    };
    run("later", &edit("state.json", "\"format\": 1", "\"format\": 2"));
    run("torn-state", &edit("state.json", "}", ""));
    run("other-version", &edit("recipe.toml", "sami = \"", "sami = \"9"));
    run("other-data", &edit("recipe.toml", "sha256 = \"", "sha256 = \"0"));
    run("lost-state", &|dir| std::fs::remove_file(dir.join("state.json")).unwrap());
    std::fs::write(world.path("lost-state/iteration-1/pairs.jsonl"), "{}\n").unwrap();
    std::fs::create_dir(world.path("no-recipes")).unwrap();
    world.write(
        "several.toml",
        &world
            .read("recipe.toml")
            .replace("dtype = \"f32\"", "dtype = \"f32\"\ndevice = \"cuda:0\"\ngpus = 8"),
    );

    let short = "--set training.iterations=1 --set evaluation.queries=0";
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
        (&format!("{score} rejected.jsonl"), "rejected.jsonl holds no pair that was kept; 1 were rejected"),
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
            "prompts.jsonl, line 2: the record has no field that is known to hold a query (query, prompt, ",
        ),
        ("sample --model model --prompts empty.jsonl --out s.jsonl", "empty.jsonl is empty"),
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
        (
            "generate --model model --data cut.parquet --out g.jsonl",
            "cut.parquet is a Parquet file that cannot be read: ",
        ),
        ("score --model model --pairs cut.parquet --out s.jsonl", "cut.parquet is a Parquet file that "),
        (
            "run recipe.toml --out r --set guards.rejected=-1",
            "guards.rejected is -1; it must be 0 or a finite number above 0",
        ),
        ("run absent.toml --out r", "recipe absent.toml: No such file"),
        ("run unknown.toml --out r", "line 12: unknown field `batchsize`, expected one of"),
        ("run few.toml --out r", "iteration 1 needs 256 queries, and split 1 has "),
        ("run nodata.toml --out r", "absent.jsonl: No such file"),
        ("run nomodel.toml --out r", "absent"),
        ("run device.toml --out r", "device is \"tpu\"; it must be \"cpu\" or \"cuda:N\""),
        ("run recipe.toml --out taken", "taken is not empty and holds no run"),
        ("run recipe.toml", "--out <RUN>"),
        ("run recipe.toml --out r --set seed", "--set seed: write it as section.name=value"),
        ("run recipe.toml --out r --set training.batchsize=2", "did you mean `batch_size`?"),
        ("run recipe.toml --out r --set training.batch_size=two", "invalid type: string \"two\""),
        (
            "run recipe.toml --out r --set training.batch_size=0",
            "--set training.batch_size=0: training.batch_size is 0",
        ),
        (
            "run recipe.toml --out r --set sampling.temperature=-1",
            "sampling.temperature is -1; it must be 0 (greedy)",
        ),
        (
            "run recipe.toml --out r --set training.lora.rank=0",
            "training.lora.rank is 0; it must be at least 1",
        ),
        (
            "run recipe.toml --out r --set training.warmup_steps=9",
            "training.warmup_steps is 9, but there are 2",
        ),
        (
            "run recipe.toml --out r --set guards.action=panic",
            "unknown variant `panic`, expected one of `stop`, `warn`, `off`",
        ),
        (
            "run recipe.toml --out r --set constitutions.n_constitutions=5",
            "5 distinct constitutions per query are asked for",
        ),
        (
            "run recipe.toml --out r --set evaluation.queries=250",
            "iteration 1 needs 4 queries, and split 1 has 3 left",
        ),
        (
            "run recipe.toml --out r --set data.files=[]",
            "data.files is missing; list at least one file of queries",
        ),
        ("run recipe.toml --out r --set data.format=tldr", "queries.jsonl: "),
        ("run recipe.toml --out r --set task.file=principles.toml", "principles.toml, line 1: "),
        ("run recipe.toml --out r --set constitutions.principles=absent.toml", "absent.toml: No such file"),
        (
            "run several.toml --out r",
            "model.gpus is 8, and training over several GPUs is not there yet: on one it takes about",
        ),
        (
            "run recipe.toml --out done",
            "was made by another recipe: evaluation.queries, training.iterations differ",
        ),
        (
            &format!("run recipe.toml --out later {short}"),
            "later/state.json has format 2, and this version reads format 1",
        ),
        (&format!("run recipe.toml --out torn-state {short}"), "torn-state/state.json: "),
        (&format!("run recipe.toml --out other-version {short}"), "was made by sami 90."),
        (&format!("run recipe.toml --out other-data {short}"), "queries.jsonl has changed since the run of "),
        (
            &format!("run recipe.toml --out lost-state {short}"),
            "lost-state/iteration-1/pairs.jsonl, line 1: missing field",
        ),
        ("recipe check no-recipes", "no-recipes holds no .toml file"),
        ("recipe check absent.toml", "recipe absent.toml: No such file"),
        ("recipe check unknown.toml", "line 12: unknown field `batchsize`"),
        ("recipe show device.toml", "device is \"tpu\""),
        ("recipe", "Usage: sami recipe"),
        ("status taken", "taken holds no run: it has no recipe.toml"),
        ("status later", "later/state.json has format 2"),
        ("export absent --out e", "absent"),
        ("export model --out taken", "taken is not empty"),
        ("export model --out e --max-shard 0", "it must be a finite number above 0"),
        ("export model --out e --dtype f64", "\"f64\" is not one of f32, bf16"),
        ("completions csh", "invalid value 'csh'"),
        ("inspect no-weights", "no-weights"),
        ("score --model no-tokenizer --pairs good.jsonl --out s.jsonl", "no-tokenizer/tokenizer.json"),
        ("score --model bad-tokenizer --pairs good.jsonl --out s.jsonl", "bad-tokenizer/tokenizer.json"),
        ("score --model cut-weights --pairs good.jsonl --out s.jsonl", "cut-weights/model.safetensors"),
        ("score --model no-header --pairs good.jsonl --out s.jsonl", "no-header/model.safetensors"),
        ("score --model wider --pairs good.jsonl --out s.jsonl", "mlp."),
        (&format!("{train} --steps 2 --warmup-steps 3"), "--warmup-steps: 3, but there are 2 steps"),
        (&format!("{train} --steps 2 --schedule cosine"), "\"cosine\" is not one of constant, linear"),
        (&format!("{train} --steps 2 --beta -1"), "it must be 0 or a finite number above 0"),
        ("score --model model --pairs good.jsonl --out taken", "--out: taken is a directory; name a file"),
        (
            "score --model model --pairs good.jsonl --out ./good.jsonl",
            "--out: good.jsonl is also an input and would be lost",
        ),
        (
            "sample --model model --prompts hello.jsonl --out hello.jsonl",
            "--out: hello.jsonl is also an input and would be lost",
        ),
        (
            "generate --model model --data queries.jsonl --out queries.jsonl",
            "--out: queries.jsonl is also an input and would be lost",
        ),
        (
            "principles --server http://127.0.0.1:9/v1 --server-model m --out taken",
            "--out: taken is a directory; name a file",
        ),
        (
            "train --model model --pairs good.jsonl --steps 1 --out taken",
            "taken is not empty and holds no run",
        ),
    ];
    assert!(cases.len() >= 60, "{} cases", cases.len());
    // A process each, several at a time.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((arguments, expected)) = cases.get(next.fetch_add(1, Relaxed)) {
                    let output = world.sami(arguments);
                    let (code, message) = (output.status.code(), text(&output.stderr));
                    if code != Some(2) || !message.contains(expected) || message.contains("panicked") {
                        let case =
                            format!("sami {arguments}\n  code {code:?}, expected {expected:?}\n  {message}");
                        wrong.lock().unwrap().push(case);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing was left behind.
    for name in ["r", "t", "e", "s.jsonl", "g.jsonl"] {
        assert!(!world.path(name).exists(), "{name} was made");
    }
}
