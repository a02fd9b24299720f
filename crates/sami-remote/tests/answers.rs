//! Answers as real servers give them: errors that say 200, finish words, parts, streams, halves of characters, redirects.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::time::{Duration, Instant};

use common::{Act, KEY, Seen, completion, params, request, serve, settings};
use sami_policy::{FinishReason, Refusal, RefusalCause, Sample, Sampler};
use sami_remote::{Dialect, EndpointBuilder, RemoteError, RemoteSampler};
use serde_json::{Value, json};

type Asked = Result<Result<Sample, Refusal>, RemoteError>;

fn ask(acts: Vec<Act>) -> (Asked, Seen) {
    let (url, seen) = serve(acts);
    let mut sampler = RemoteSampler::new(settings(url).check().unwrap());
    (sampler.sample(&[request("Hello", 0)], &params()).map(|mut all| all.remove(0)), seen)
}

fn says(body: impl Into<String>) -> Act {
    Act::Say(200, "", body.into())
}

fn choice(choice: Value) -> Act {
    says(json!({"choices": [choice]}).to_string())
}

#[test]
fn an_error_that_says_200_is_tried_again_by_its_own_code() {
    for body in [
        json!({"error": {"message": "Provider returned error", "code": 502}}),
        json!({"error": {"message": "Rate limit exceeded", "code": "429"}}),
        json!({"error": {"message": "No instances available", "code": 503}}),
        json!({"choices": null, "error": {"type": "overloaded_error", "message": "Overloaded", "code": 529}}),
        json!({"choices": [{"error": {"code": 502, "message": "gone"}, "finish_reason": "error", "text": "ha"}]}),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ] {
        let (sample, seen) = ask(vec![says(body.to_string()), says(completion(" ok", "stop"))]);
        assert_eq!(sample.unwrap().unwrap().text, " ok", "{body}");
        assert_eq!(seen.lock().unwrap().len(), 2, "{body}");
        let (error, seen) = ask(vec![says(body.to_string())]);
        assert!(matches!(error.unwrap_err(), RemoteError::Status { attempts: 3, .. }), "{body}");
        assert_eq!(seen.lock().unwrap().len(), 3, "{body}");
    }
    // What does not pass is said in the server's words, at once.
    let denied = json!({"error": {"message": "No auth credentials found", "code": 401}}).to_string();
    let (error, seen) = ask(vec![says(denied)]);
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("status 401 after 1 attempts: No auth credentials found"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
    let long =
        json!({"error": {"message": "prompt is too long: 9 tokens > 8 maximum", "code": 400}}).to_string();
    let (refusal, _) = ask(vec![says(long)]);
    let refusal = refusal.unwrap().unwrap_err();
    assert_eq!(refusal.message, "status 400 after 1 attempts: prompt is too long: 9 tokens > 8 maximum");
}

#[test]
fn finish_words_of_many_servers_are_understood() {
    use FinishReason::{Eos, Length, Stop};
    for (word, finish) in [
        ("eos_token", Eos),
        ("end_turn", Eos),
        ("STOP", Eos),
        ("COMPLETE", Eos),
        ("stop_sequence", Stop),
        ("max_tokens", Length),
        ("MAX_TOKENS", Length),
        ("model_length", Length),
    ] {
        let (sample, _) = ask(vec![says(completion(" Hi", word))]);
        assert_eq!(sample.unwrap().unwrap().finish, finish, "{word}");
    }
    // Without a word, the count of tokens tells; 7 were allowed.
    for (tokens, finish) in [(3, Eos), (7, Length)] {
        let body = json!({"choices": [{"text": " Hi", "finish_reason": null}], "usage": {"completion_tokens": tokens}});
        let (sample, _) = ask(vec![says(body.to_string())]);
        assert_eq!(sample.unwrap().unwrap().finish, finish);
    }
    // Cut off by somebody else: tried again, and in the end that one request is refused.
    for word in ["abort", "error", "insufficient_system_resource"] {
        let (sample, seen) = ask(vec![says(completion(" H", word)), says(completion(" Hi", "stop"))]);
        assert_eq!((sample.unwrap().unwrap().text.as_str(), seen.lock().unwrap().len()), (" Hi", 2));
        let (refusal, seen) = ask(vec![says(completion(" H", word))]);
        let refusal = refusal.unwrap().unwrap_err();
        assert_eq!(refusal.message, format!("the server broke 3 answers off: finish_reason is {word}"));
        assert_eq!((refusal.cause, seen.lock().unwrap().len()), (RefusalCause::Server, 3));
    }
}

#[test]
fn text_in_parts_is_put_together_without_the_thoughts() {
    let parts = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": " He"},
        {"type": "reasoning", "text": "Well."},
        {"type": "text", "text": "llo"},
    ]);
    let (sample, _) = ask(vec![choice(json!({"message": {"content": parts}, "finish_reason": "stop"}))]);
    assert_eq!(sample.unwrap().unwrap().text, " Hello");
    let beside = json!({"message": {"content": "Hi", "reasoning_content": "Hm."}, "finish_reason": "stop"});
    assert_eq!(ask(vec![choice(beside)]).0.unwrap().unwrap().text, "Hi");
    let silent = json!({"message": {"content": ""}, "finish_reason": "stop"});
    assert_eq!(ask(vec![choice(silent)]).0.unwrap().unwrap().text, "");
}

#[test]
fn streams_marks_and_halves_of_characters_are_read() {
    let events = "data: {\"choices\":[{\"text\":\" He\"}]}\n\ndata: {\"choices\":[{\"text\":\"llo\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let whole = completion(" Hello", "stop");
    for body in [
        events.to_owned(),
        format!("{whole}\n\ndata: [DONE]\n"),
        format!("\u{feff}{whole}"),
        format!("\n\n {whole}"),
    ] {
        let (sample, seen) = ask(vec![says(body.clone())]);
        let sample = sample.unwrap().unwrap();
        assert_eq!((sample.text.as_str(), sample.finish), (" Hello", FinishReason::Eos), "{body}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
    let half = r#"{"choices":[{"text":" Hi \ud83d","finish_reason":"length"}]}"#;
    assert_eq!(ask(vec![says(half)]).0.unwrap().unwrap().text, " Hi \u{fffd}");
    let whole = r#"{"choices":[{"text":" Hi \ud83d\ude00","finish_reason":"length"}]}"#;
    assert_eq!(ask(vec![says(whole)]).0.unwrap().unwrap().text, " Hi 😀");
}

#[test]
fn conflicts_and_early_requests_are_tried_again_and_fractions_waited_for() {
    for status in [408, 409, 425, 529] {
        let (sample, seen) = ask(vec![Act::Say(status, "", "busy".into()), says(completion(" ok", "stop"))]);
        assert_eq!((sample.unwrap().unwrap().text.as_str(), seen.lock().unwrap().len()), (" ok", 2));
    }
    for header in ["Retry-After: 0.3\r\n", "retry-after-ms: 300\r\n"] {
        let begin = Instant::now();
        let (sample, _) =
            ask(vec![Act::Say(429, header, "slow down".into()), says(completion(" ok", "stop"))]);
        assert!(sample.unwrap().is_ok());
        assert!(begin.elapsed() >= Duration::from_millis(300), "{header}");
    }
}

#[test]
fn redirects_are_followed_to_the_same_server_and_the_key_goes_to_no_other() {
    for status in [301, 302, 307, 308] {
        let moved = Act::Say(status, "Location: /v2/completions\r\n", String::new());
        let (sample, seen) = ask(vec![moved, Act::Echo]);
        assert_eq!(sample.unwrap().unwrap().text, "Hello");
        let seen = seen.lock().unwrap();
        assert!(seen[1].0.starts_with("POST /v2/completions ") && seen[1].0.contains(KEY));
        assert_eq!(seen[1].1, seen[0].1);
    }
    let (other, asked) = serve(vec![Act::Echo]);
    let location: &'static str = Box::leak(format!("Location: {other}/completions\r\n").into_boxed_str());
    let (error, seen) = ask(vec![Act::Say(307, location, String::new())]);
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with(&format!(
            "it redirects to {other}/completions, which is another server; if that is right, make it the base_url"
        )),
        "{error}"
    );
    assert_eq!((seen.lock().unwrap().len(), asked.lock().unwrap().len()), (1, 0));
    // In circles.
    let (error, seen) = ask(vec![Act::Say(307, "Location: /v1/completions\r\n", String::new())]);
    assert!(matches!(error.unwrap_err(), RemoteError::Redirect { .. }));
    assert_eq!(seen.lock().unwrap().len(), 6);
}

#[test]
fn token_ids_are_held_against_a_tokenizer() {
    let vllm = |body: &Value| {
        let ids = if body["prompt"] == "good" { json!([17, 2]) } else { json!([99_999, 2]) };
        json!({"choices": [{"text": " Hi", "finish_reason": "stop", "stop_reason": null, "token_ids": ids}]})
    };
    let (url, _) = serve(vec![Act::Answer(vllm)]);
    let endpoint = EndpointBuilder { dialect: Dialect::Vllm, ..settings(url) }.check().unwrap();
    let mut sampler = RemoteSampler::new(endpoint).check_tokens(|_, sample| {
        let ids = sample.token_ids.clone().unwrap();
        if ids[0] > 100 { Err(format!("{} is beyond the vocabulary", ids[0])) } else { Ok(()) }
    });
    let samples = sampler.sample(&[request("good", 0), request("bad", 1)], &params()).unwrap();
    assert_eq!(samples[0].as_ref().unwrap().token_ids, Some(vec![17, 2]));
    let refusal = samples[1].as_ref().unwrap_err();
    assert_eq!(refusal.message, "the server's token ids: 99999 is beyond the vocabulary");
    assert_eq!(refusal.cause, RefusalCause::Answer);
    assert_eq!(sampler.samples().with_token_ids, 1);
}
