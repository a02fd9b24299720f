//! Chat templates against transformers' `apply_chat_template` (fixtures/chat, made by fixtures/make_chat.py).
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::fixture;
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, ContrastPolicy, ContrastResponse, ContrastSet, Role,
    SampleRequest, Sampler, SamplingParamsBuilder, StreamKey, TrainablePolicy,
};
use sami_torch::{ChatTemplate, EngineOptions, PromptFormat, Tokenizer, TorchPolicy};
use serde_json::{Value, json};

fn chat() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat")
}

/// The checkpoint of mistral-f32 (its tokenizer puts BOS in front) with the files of a style over it.
fn checkpoint(style: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for source in [fixture("mistral-f32").join("checkpoint"), chat().join(style)] {
        copy_over(&source, dir.path());
    }
    // The model's own end is no part of a style.
    without_end(dir.path());
    dir
}

fn copy_over(source: &Path, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let to = dir.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_over(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

fn without_end(dir: &Path) {
    fs::remove_file(dir.join("generation_config.json")).unwrap();
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("eos_token_id").unwrap();
    fs::write(path, config.to_string()).unwrap();
}

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(chat().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn template(dir: &Path) -> ChatTemplate {
    ChatTemplate::open(dir).unwrap().unwrap()
}

fn turn(role: Role, content: &str) -> ChatMessage {
    ChatMessage::new(role, content)
}

#[test]
fn conversations_are_written_and_tokenised_as_transformers_does() {
    let (mut rendered, mut refused) = (0, 0);
    for case in cases("expected.jsonl") {
        let dir = checkpoint(case["style"].as_str().unwrap());
        let messages: Vec<ChatMessage> = serde_json::from_value(case["messages"].clone()).unwrap();
        let result = template(dir.path()).render(&messages, case["add_generation_prompt"].as_bool().unwrap());
        let what = format!("{} {} {}", case["style"], case["conversation"], case["add_generation_prompt"]);
        match case["refused"].as_str() {
            Some(reason) => {
                refused += 1;
                let message = result.unwrap_err().to_string();
                assert!(
                    message.ends_with(&format!("refuses the conversation: {reason}")),
                    "{what}: {message}"
                );
            }
            None => {
                rendered += 1;
                let text = result.unwrap();
                assert_eq!(text, case["text"].as_str().unwrap(), "{what}");
                let ids =
                    Tokenizer::open(dir.path()).unwrap().encode_rendered(&text, "a conversation").unwrap();
                assert_eq!(ids, self::ids(&case["ids"]), "{what}");
            }
        }
    }
    assert_eq!((rendered, refused), (220, 20));
}

#[test]
fn a_users_turn_has_the_tokens_of_the_template_in_samples_and_scores() {
    let answers = cases("answers.jsonl");
    assert_eq!(answers.len(), 14);
    for case in answers {
        let style = case["style"].as_str().unwrap();
        let dir = checkpoint(style);
        let options = EngineOptions { prompt_format: PromptFormat::UserTurn, ..EngineOptions::default() };
        let mut policy = TorchPolicy::open(dir.path(), &options).unwrap();
        let texts = |field: &str| -> Vec<String> { serde_json::from_value(case[field].clone()).unwrap() };
        let prompts = texts("prompts");

        let stop: Vec<_> =
            policy.tokenizer().stop_tokens().iter().map(|one| one.text.clone().unwrap()).collect();
        assert_eq!(
            (policy.tokenizer().eos(), stop),
            (&ids(&case["stop_ids"])[..], texts("stop_tokens")),
            "{style}"
        );

        for (prompt, expected) in prompts.iter().zip(case["prompt_ids"].as_array().unwrap()) {
            assert_eq!(policy.encode_prompt(prompt, "").unwrap(), ids(expected), "{style}");
        }

        let params = SamplingParamsBuilder { max_new_tokens: 24, ..Default::default() }.check().unwrap();
        let request =
            |prompt: &String| SampleRequest { prompt: prompt.clone(), stream: StreamKey::new(0, 0, 0, 0) };
        let samples = policy.sample(&prompts.iter().map(request).collect::<Vec<_>>(), &params).unwrap();
        for (sample, expected) in samples.iter().zip(case["greedy"].as_array().unwrap()) {
            assert_eq!(sample.as_ref().unwrap().token_ids, Some(ids(expected)), "{style}");
        }

        let response = |(constitution, text)| ContrastResponse { text, token_ids: None, constitution };
        let responses = texts("responses").into_iter().enumerate().map(|(at, text)| response((at, text)));
        let set = ContrastSet::new("q", prompts, responses.collect()).unwrap();
        let found = policy.score(&[set]).unwrap().remove(0).sum_logps;
        let expected: Vec<Vec<f64>> = serde_json::from_value(case["sum_logps"].clone()).unwrap();
        for ((c, r), value) in found.indexed_iter() {
            assert!((value - expected[c][r]).abs() < 1e-4, "{style} [{c}, {r}]: {value}, {}", expected[c][r]);
        }
    }
}

#[test]
fn a_text_ends_with_any_token_that_a_file_names() {
    let scenarios = cases("stops.jsonl");
    assert_eq!(scenarios.len(), 14);
    for case in scenarios {
        let dir = tempfile::tempdir().unwrap();
        copy_over(&fixture("mistral-f32").join("checkpoint"), dir.path());
        for (name, content) in case["files"].as_object().unwrap() {
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut policy = TorchPolicy::open(dir.path(), &EngineOptions::default()).unwrap();
        assert_eq!(policy.tokenizer().eos(), ids(&case["stop_ids"]), "{}", case["scenario"]);
        let params = SamplingParamsBuilder { max_new_tokens: 24, ..Default::default() }.check().unwrap();
        let prompt = case["prompt"].as_str().unwrap().to_owned();
        let request = SampleRequest { prompt, stream: StreamKey::new(0, 0, 0, 0) };
        let sample = policy.sample(&[request], &params).unwrap().remove(0).unwrap();
        assert_eq!(sample.token_ids, Some(ids(&case["tokens"])), "{}", case["scenario"]);
    }
}

#[test]
fn what_names_no_token_is_refused_by_its_file() {
    for (file, content, expected) in [
        (
            "generation_config.json",
            json!({"eos_token_id": "</s>"}),
            "generation_config.json: \"eos_token_id\" holds \"</s>\"; it must be a token id, or a list of them",
        ),
        (
            "config.json",
            json!({"eos_token_id": [2, 1.5]}),
            "config.json: \"eos_token_id\" holds 1.5; it must be",
        ),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": ["</s>"]}),
            "tokenizer_config.json: added_tokens_decoder must map ids to tokens: invalid type",
        ),
        ("tokenizer_config.json", json!([]), "tokenizer_config.json: it must hold a JSON object"),
    ] {
        let dir = checkpoint("llama2");
        fs::write(dir.path().join(file), content.to_string()).unwrap();
        let message = Tokenizer::open(dir.path()).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_saved_checkpoint_keeps_its_chat_templates() {
    for style in ["mistral-v7", "processor", "phi3"] {
        let dir = checkpoint(style);
        let to = dir.path().join("saved");
        TorchPolicy::open(dir.path(), &EngineOptions::default()).unwrap().save(&to).unwrap();
        let one = [turn(Role::User, "Hello!")];
        assert_eq!(
            template(&to).render(&one, true).unwrap(),
            template(dir.path()).render(&one, true).unwrap(),
            "{style}"
        );
    }
}

#[test]
fn a_prompt_that_spells_its_bos_out_gets_no_second_one() {
    let tokenizer = Tokenizer::open(checkpoint("llama2").path()).unwrap();
    let bare = tokenizer.encode_prompt("[INST] Hi", "").unwrap();
    assert_eq!(bare[0], 1);
    assert_eq!(tokenizer.encode_prompt("<s>[INST] Hi", "").unwrap(), bare);
    // One that somebody doubles on purpose stays doubled once.
    assert_eq!(tokenizer.encode_prompt("<s><s>[INST] Hi", "").unwrap(), [&[1], &bare[..]].concat());
    assert_eq!(tokenizer.encode_prompt("", "").unwrap(), [1]);
    // Without a post-processor nothing is added, nothing is taken.
    let plain = Tokenizer::open(&fixture("mistral-window").join("checkpoint")).unwrap();
    assert_eq!(plain.encode_prompt("<s>Hi", "").unwrap()[0], 1);
    assert_ne!(plain.encode_prompt("Hi", "").unwrap()[0], 1);
}

#[test]
fn answers_continue_the_rendered_conversation() {
    let dir = checkpoint("mistral");
    let mut policy = TorchPolicy::open(dir.path(), &EngineOptions::default()).unwrap();
    assert!(policy.has_chat_format());
    let messages = vec![turn(Role::System, "Be kind."), turn(Role::User, "Name a colour.")];
    let params = SamplingParamsBuilder { max_new_tokens: 12, temperature: 1.0, ..Default::default() };
    let params = params.check().unwrap();
    let stream = StreamKey::new(1, 2, 3, 4);
    let answer = policy.sample_chat(&[ChatRequest { messages: messages.clone(), stream }], &params).unwrap();
    let prompt = policy.chat_template().unwrap().render(&messages, true).unwrap();
    // The same through the raw prompt: its BOS is not doubled.
    assert_eq!(policy.sample(&[SampleRequest { prompt: prompt.clone(), stream }], &params).unwrap(), answer);
    let ids = policy.encode_chat(&messages, "").unwrap();
    assert_eq!(policy.tokenizer().encode_prompt(&prompt, "").unwrap(), ids);
    // And scored as one sequence.
    let response = |token_ids| ContrastResponse { text: " Blue.".into(), token_ids, constitution: 0 };
    let set = ContrastSet::new("q", vec![prompt], vec![response(None)]).unwrap();
    assert!(policy.score(&[set]).unwrap()[0].sum_logps[[0, 0]] < 0.0);
}

#[test]
fn damaged_templates_and_base_models_are_refused_by_file_and_line() {
    let one = [turn(Role::User, "Hi")];
    let cases = [
        (
            json!(7),
            "tokenizer_config.json: \"chat_template\" must be a text, or a list of {\"name\", \"template\"}",
        ),
        (json!([{"name": "x"}]), "must be a text, or a list of"),
        (
            json!([{"name": "rag", "template": ""}, {"name": "tool_use", "template": ""}]),
            "\"chat_template\" has [\"rag\", \"tool_use\"]; name one of them \"default\"",
        ),
        (json!("a\n{% for x in %}"), "tokenizer_config.json: chat template, line 2: syntax error: "),
        (json!("\n\n{{ messages[0].content.shout() }}"), "chat template, line 3: unknown method"),
        (json!("{{ nothing.at_all }}"), "chat template, line 1: undefined value"),
        (json!("{{ strftime_now('%Q') }}"), "strftime_now does not know %Q"),
        (json!("{{ range | tojson }}"), "not to be written as JSON"),
        (
            json!("{{ messages | tojson(ident=2) }}"),
            "line 1: too many arguments: unknown keyword argument 'ident'",
        ),
        (
            json!("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            "line 1: engine ran out of fuel",
        ),
        (
            json!("{% macro check(x) %}\n{{ raise_exception('no ' ~ x) }}{% endmacro %}{{ check('way') }}"),
            "chat template, line 2, refuses the conversation: no way",
        ),
    ];
    for (value, expected) in cases {
        let dir = checkpoint("llama2");
        let config = json!({"chat_template": value});
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let result = ChatTemplate::open(dir.path()).and_then(|template| template.unwrap().render(&one, true));
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{value}: {message}");
    }
    let dir = checkpoint("llama2");
    let message = template(dir.path()).render(&[], true).unwrap_err().to_string();
    assert!(message.ends_with("a conversation needs at least one message"), "{message}");

    let base = fixture("mistral-f32").join("checkpoint");
    assert!(ChatTemplate::open(&base).unwrap().is_none());
    let mut policy = TorchPolicy::open(&base, &EngineOptions::default()).unwrap();
    assert!(!policy.has_chat_format());
    let request = ChatRequest { messages: one.to_vec(), stream: StreamKey::new(0, 0, 0, 0) };
    let params = SamplingParamsBuilder::default().check().unwrap();
    let turns = EngineOptions { prompt_format: PromptFormat::UserTurn, ..EngineOptions::default() };
    let refused = TorchPolicy::open(&base, &turns).err().unwrap().to_string();
    assert!(
        refused.ends_with("checkpoint: no chat template here; a base model takes raw prompts"),
        "{refused}"
    );
    let message = policy.sample_chat(&[request], &params).unwrap_err().to_string();
    assert!(
        message.ends_with("checkpoint: no chat template here; a base model takes raw prompts"),
        "{message}"
    );
}
