//! `sami inspect --plan`, and training that would not fit.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{World, text};

/// A decoder of 10¹⁶ parameters; no weights lie beside it.
const ENORMOUS: &str = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 128000, "hidden_size": 1048576,
    "intermediate_size": 4194304, "num_hidden_layers": 1000, "num_attention_heads": 8192, "num_key_value_heads": 8192,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096, "hidden_act": "silu"}"#;

#[test]
fn the_plan_needs_no_weights_and_training_is_refused_early() {
    let world = World::new();
    let plans = world.json("inspect model --plan --length 128 --dtype bf16 --optimizer rmsprop");
    let works: Vec<&str> =
        plans.as_array().unwrap().iter().map(|p| p["plan"]["work"].as_str().unwrap()).collect();
    assert_eq!(works, ["score", "sample", "train"]);
    for planned in plans.as_array().unwrap() {
        assert_eq!(planned["fits"], true);
        assert_eq!(planned["plan"]["length"], 128);
    }
    assert!(
        world.succeed("inspect model --plan").contains("memory for training, 4096 tokens at once, up to ")
    );
    // What only a plan reads is refused without one.
    let refused = world.sami("inspect model --length 128");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--plan"));

    std::fs::create_dir(world.path("enormous")).unwrap();
    world.write("enormous/config.json", ENORMOUS);
    let plan = world.succeed("inspect enormous --plan");
    assert!(plan.contains("nothing that can be chosen makes it fit"), "{plan}");
    world.write(
        "pair.jsonl",
        r#"{"id":"a","query":"q","constitutions":[{"id":"1","text":"x"},{"id":"2","text":"y"}],"prompts":["x q","y q"],"responses":[{"constitution":0,"text":" u"},{"constitution":1,"text":" v"}]}"#,
    );
    let train = "train --model enormous --pairs pair.jsonl --out out --steps 1";
    let refused = world.sami(train);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("error: training this model takes about "), "{message}");
    assert!(!world.path("out").exists());
    // A probe samples and takes gradients: both are planned before anything is loaded.
    let probe = "probe --model enormous --data queries.jsonl --queries 2";
    let message = text(&world.sami(probe).stderr);
    assert!(message.contains("error: sampling this model takes about "), "{message}");
    // Asked to go on, it finds that there is nothing to load.
    let message = text(&world.sami(&format!("{train} --no-memory-check")).stderr);
    assert!(message.contains("tokenizer.json: not found"), "{message}");
}
