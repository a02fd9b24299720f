//! Chat templates against transformers' `apply_chat_template` (fixtures/chat, made by fixtures/make_chat.py).
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::fixture;
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, ContrastPolicy, ContrastResponse, ContrastSet, Role,
    SampleRequest, Sampler, SamplingParamsBuilder, StreamKey,
};
use sami_torch::{ChatTemplate, EngineOptions, Tokenizer, TorchPolicy};
use serde_json::{Value, json};

fn chat() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat")
}

/// The checkpoint of mistral-f32 (its tokenizer puts BOS in front) with the files of a style over it.
fn checkpoint(style: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for source in [fixture("mistral-f32").join("checkpoint"), chat().join(style)] {
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

fn template(dir: &Path) -> ChatTemplate {
    ChatTemplate::open(dir).unwrap().unwrap()
}

fn turn(role: Role, content: &str) -> ChatMessage {
    ChatMessage::new(role, content)
}

#[test]
fn conversations_are_written_and_tokenised_as_transformers_does() {
    let lines = fs::read_to_string(chat().join("expected.jsonl")).unwrap();
    let (mut rendered, mut refused) = (0, 0);
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
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
                let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                assert_eq!(ids, expected, "{what}");
            }
        }
    }
    assert!(rendered >= 60 && refused >= 6, "{rendered} {refused}");
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
    let message = policy.sample_chat(&[request], &params).unwrap_err().to_string();
    assert!(
        message.ends_with("checkpoint: no chat template here; a base model takes raw prompts"),
        "{message}"
    );
}
