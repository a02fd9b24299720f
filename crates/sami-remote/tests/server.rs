//! Requests, answers, and patience: the client against a server that misbehaves.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::time::Duration;

use common::{Act, KEY, Seen, completion, params, request, serve, settings};
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, FinishReason, Refusal, RefusalCause, Role, Sample, Sampler,
    SamplingParams, SamplingParamsBuilder, StreamKey,
};
use sami_remote::{
    Dialect, EndpointBuilder, KeySource, RemoteError, RemoteSampler, SampleCounts, TokenLimit,
};
use serde_json::json;

/// One request against a server that acts so; it is not refused.
fn ask(acts: Vec<Act>) -> (Result<Sample, RemoteError>, Seen) {
    ask_with(acts, |settings| settings)
}

/// One request that is refused.
fn refusal(acts: Vec<Act>) -> (Refusal, Seen) {
    let (url, seen) = serve(acts);
    let mut sampler = RemoteSampler::new(settings(url).check().unwrap());
    (sampler.sample(&[request("Hello", 0)], &params()).unwrap().remove(0).unwrap_err(), seen)
}

fn ask_with(
    acts: Vec<Act>,
    change: impl FnOnce(EndpointBuilder) -> EndpointBuilder,
) -> (Result<Sample, RemoteError>, Seen) {
    let (url, seen) = serve(acts);
    let mut sampler = RemoteSampler::new(change(settings(url)).check().unwrap());
    (sampler.sample(&[request("Hello", 0)], &params()).map(|mut samples| samples.remove(0).unwrap()), seen)
}

/// Samples of which none is refused.
fn good(samples: Result<Vec<Result<Sample, Refusal>>, RemoteError>) -> Vec<Sample> {
    samples.unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn request_and_answer_follow_the_format() {
    let (sample, seen) = ask(vec![Act::Say(200, "", completion(" Hi", "stop"))]);
    let sample = sample.unwrap();
    assert_eq!((sample.text.as_str(), sample.finish, sample.token_ids), (" Hi", FinishReason::Eos, None));
    let (head, body) = seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /v1/completions HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains(&format!("authorization: bearer {KEY}")), "{head}");
    assert_eq!(body["model"], "tiny");
    assert_eq!(body["prompt"], "Hello");
    assert_eq!((body["max_tokens"].as_u64(), body["temperature"].as_f64()), (Some(7), Some(0.5)));
    assert_eq!(body["stop"], json!(["\n\nHuman:"]));
    assert!(body["seed"].as_u64().unwrap() < 1 << 31);
    assert!(body.get("top_k").is_none() && body["top_p"] == json!(1.0));
    assert!(body.get("stream").is_none() && body.get("n").is_none());
    // A key from a file goes the same way, without the line's end.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let keyed = |settings| EndpointBuilder { key: KeySource::File(file), ..settings };
    let (_, seen) = ask_with(vec![Act::Echo], keyed);
    assert!(seen.lock().unwrap()[0].0.to_lowercase().contains("authorization: bearer from-a-file\r\n"));
    let (_, seen) =
        ask_with(vec![Act::Echo], |settings| EndpointBuilder { key: KeySource::None, ..settings });
    assert!(!seen.lock().unwrap()[0].0.to_lowercase().contains("authorization"));
}

fn hello() -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::new(Role::System, "Be kind."), ChatMessage::new(Role::User, "Hi")],
        stream: StreamKey::new(1, 2, 3, 4),
    }
}

#[test]
fn conversations_follow_the_format() {
    let reply = json!({"choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]});
    let (url, seen) = serve(vec![Act::Say(200, "", reply.to_string())]);
    let mut sampler = RemoteSampler::new(settings(url.clone()).check().unwrap());
    assert!(sampler.has_chat_format());
    let samples = good(sampler.sample_chat(&[hello()], &params()));
    assert_eq!((samples[0].text.as_str(), samples[0].finish), ("Hello.", FinishReason::Eos));
    let newer = EndpointBuilder { token_limit: TokenLimit::MaxCompletionTokens, ..settings(url) };
    RemoteSampler::new(newer.check().unwrap()).sample_chat(&[hello()], &params()).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].0.starts_with("POST /v1/chat/completions HTTP/1.1"));
    let messages = json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]);
    assert_eq!(seen[0].1["messages"], messages);
    assert!(seen[0].1["max_tokens"] == json!(7) && seen[0].1.get("prompt").is_none());
    assert!(seen[1].1["max_completion_tokens"] == json!(7) && seen[1].1.get("max_tokens").is_none());
}

#[test]
fn vllm_is_recognised_and_asked_for_token_ids() {
    let vllm = |body: &serde_json::Value| match body {
        serde_json::Value::Null => json!({"object": "list", "data": [{"id": "tiny", "owned_by": "vllm"}]}),
        body => json!({"choices": [{
            "text": " Hi", "stop_reason": if body["prompt"] == "cut" { json!("\n\nHuman:") } else { json!(null) },
            "finish_reason": "stop", "token_ids": [17, 2], "prompt_token_ids": [1, 5],
        }]}),
    };
    let (url, seen) = serve(vec![Act::Answer(vllm)]);
    let auto = EndpointBuilder { dialect: Dialect::Auto, ..settings(url) };
    let mut sampler = RemoteSampler::new(auto.check().unwrap());
    let samples = good(sampler.sample(&[request("whole", 0), request("cut", 1)], &params()));
    assert_eq!(samples[0].token_ids, Some(vec![17, 2]));
    // The ids of a text that was cut are those of more than the text.
    assert_eq!((samples[1].finish, &samples[1].token_ids), (FinishReason::Stop, &None));
    assert_eq!(sampler.samples(), SampleCounts { with_token_ids: 1, retokenised: 1 });
    let seen = seen.lock().unwrap();
    assert!(seen[0].0.starts_with("GET /v1/models"), "{}", seen[0].0);
    assert_eq!(seen.len(), 3);
    let body = &seen[1].1;
    assert_eq!((&body["return_token_ids"], &body["top_k"]), (&json!(true), &json!(-1)));
    assert_eq!((&body["min_p"], &body["repetition_penalty"]), (&json!(0.0), &json!(1.0)));
}

#[test]
fn openais_dialect_has_openais_parameters_and_no_more() {
    let (url, seen) = serve(vec![Act::Say(200, "", completion("a five b", "stop"))]);
    let mut sampler = RemoteSampler::new(settings(url).check().unwrap());
    let stop = ["one", "two", "three", "four", "five"].map(str::to_owned).to_vec();
    let params = SamplingParamsBuilder { stop, ..SamplingParams::builder() }.check().unwrap();
    // Four stop strings are sent at most, and the others found all the same.
    let samples = good(sampler.sample(&[request("x", 0)], &params));
    assert_eq!((samples[0].text.as_str(), samples[0].finish), ("a ", FinishReason::Stop));
    assert_eq!(sampler.samples(), SampleCounts { with_token_ids: 0, retokenised: 1 });
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1["stop"], json!(["one", "two", "three", "four"]));
    assert_eq!((&seen[0].1["temperature"], &seen[0].1["top_p"]), (&json!(0.0), &json!(1.0)));
    // A greedy request draws nothing.
    for extra in ["return_token_ids", "top_k", "min_p", "repetition_penalty", "logprobs", "seed", "stream"] {
        assert!(seen[0].1.get(extra).is_none(), "{extra}");
    }
}

#[test]
fn every_other_server_is_told_to_do_nothing_to_the_distribution() {
    for (owner, off, penalty) in [
        ("vllm", -1, "repetition_penalty"),
        ("sglang", -1, "repetition_penalty"),
        ("llamacpp", 0, "repeat_penalty"),
        ("somebody", 0, "repetition_penalty"),
    ] {
        let (url, seen) = serve(vec![
            Act::Say(200, "", json!({"data": [{"id": "tiny", "owned_by": owner}]}).to_string()),
            Act::Say(200, "", completion("x", "stop")),
        ]);
        let auto = EndpointBuilder { dialect: Dialect::Auto, ..settings(url) };
        good(RemoteSampler::new(auto.check().unwrap()).sample(&[request("x", 0)], &params()));
        let seen = seen.lock().unwrap();
        assert!(seen[0].0.starts_with("GET /v1/models"), "{}", seen[0].0);
        let body = &seen[1].1;
        assert_eq!((&body["top_k"], &body["min_p"], &body[penalty]), (&json!(off), &json!(0.0), &json!(1.0)));
        assert_eq!(body.get("return_token_ids").is_some(), owner == "vllm");
    }
}

#[test]
fn stop_strings_are_cut_and_named() {
    let (sample, _) = ask(vec![Act::Say(200, "", completion(" Hi\n\nHuman: more", "length"))]);
    let sample = sample.unwrap();
    assert_eq!((sample.text.as_str(), sample.finish), (" Hi", FinishReason::Stop));
    let vllm = json!({"choices": [{"text": " Hi", "finish_reason": "stop", "stop_reason": "\n\nHuman:"}]});
    let (sample, _) = ask(vec![Act::Say(200, "", vllm.to_string())]);
    assert_eq!(sample.unwrap().finish, FinishReason::Stop);
}

#[test]
fn batches_keep_their_order_and_their_own_seeds() {
    let (url, seen) = serve(vec![Act::Echo]);
    let mut sampler = RemoteSampler::new(settings(url).check().unwrap());
    let requests: Vec<_> = (0..20).map(|i| request(&format!("prompt {i}"), i)).collect();
    let samples = good(sampler.sample(&requests, &params()));
    let texts: Vec<_> = samples.into_iter().map(|sample| sample.text).collect();
    assert_eq!(texts, requests.iter().map(|request| request.prompt.clone()).collect::<Vec<_>>());
    let mut seeds: Vec<_> = seen.lock().unwrap().iter().map(|(_, body)| body["seed"].as_u64()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 20);
    assert!(sampler.sample(&[], &params()).unwrap().is_empty());
}

#[test]
fn passing_faults_are_tried_again() {
    let good = || Act::Say(200, "", completion(" ok", "length"));
    for fault in [
        Act::Say(429, "Retry-After: 0\r\n", "slow down".into()),
        Act::Say(500, "", "oops".into()),
        Act::Say(503, "", String::new()),
        Act::HangUp,
        Act::Truncate,
        // A proxy's page.
        Act::Say(200, "", "<html>busy</html>".into()),
    ] {
        let (sample, seen) = ask(vec![fault, good()]);
        assert_eq!(sample.unwrap().text, " ok");
        assert_eq!(seen.lock().unwrap().len(), 2);
    }
    let short = |settings| EndpointBuilder { timeout: Duration::from_millis(300), ..settings };
    let (sample, seen) = ask_with(vec![Act::Stall(Duration::from_secs(3)), good()], short);
    // The second attempt may be too slow as well on a busy machine, but not without an end.
    assert!(sample.is_ok() || seen.lock().unwrap().len() == 3);
}

#[test]
fn lasting_faults_end_after_the_attempts() {
    let (error, seen) = ask(vec![Act::Say(503, "", "overloaded".into())]);
    assert!(
        matches!(error.unwrap_err(), RemoteError::Status { status: 503, attempts: 3, message, .. } if message == "overloaded")
    );
    assert_eq!(seen.lock().unwrap().len(), 3);
    let (error, _) = ask(vec![Act::HangUp]);
    assert!(matches!(error.unwrap_err(), RemoteError::Transport { attempts: 3, .. }));
    // A long Retry-After is not waited for, and not ignored either.
    let (error, seen) = ask(vec![Act::Say(429, "Retry-After: 3600\r\n", String::new())]);
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with(
            "status 429, and the server asks to wait 3600 s, longer than retry_after_cap (600 s); run the job again later, \
             its answers so far are kept in the cache if it has one"
        ),
        "{error}"
    );
    assert_eq!(seen.lock().unwrap().len(), 1);
    // An account without money is not refilled by waiting.
    let quota = json!({"error": {"code": "insufficient_quota"}}).to_string();
    let (error, seen) = ask(vec![Act::Say(429, "", quota)]);
    assert!(matches!(error.unwrap_err(), RemoteError::Status { status: 429, attempts: 1, .. }));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn every_lasting_fault_says_what_happened_and_where() {
    let quick = |settings| EndpointBuilder { timeout: Duration::from_millis(250), attempts: 2, ..settings };
    let cases: [(Act, &str); 7] = [
        (Act::Stall(Duration::from_secs(2)), "no answer after 2 attempts: timeout: global"),
        (Act::HangUp, "no answer after 3 attempts: "),
        (Act::Truncate, "no answer after 3 attempts: "),
        (
            Act::Say(200, "", "<html>busy</html>".into()),
            "no answer after 3 attempts: the answer is no JSON: expected value",
        ),
        (Act::Say(500, "", "oops, \n a bug".into()), "status 500 after 3 attempts: oops, a bug"),
        (Act::Say(502, "", String::new()), "status 502 after 3 attempts: "),
        (Act::Say(429, "Retry-After: 0\r\n", "slow down".into()), "status 429 after 3 attempts: slow down"),
    ];
    for (act, expected) in cases {
        let stalls = matches!(act, Act::Stall(_));
        let (answer, _) = ask_with(vec![act], |settings| if stalls { quick(settings) } else { settings });
        let error = answer.unwrap_err().to_string();
        let (url, rest) = error.split_once(": ").unwrap();
        assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/v1/completions"), "{error}");
        assert!(rest.starts_with(expected), "{error}");
        // Something is said after the last colon, whoever's words they are.
        assert!(
            !rest.starts_with("no answer") || rest.len() > "no answer after 3 attempts: ".len(),
            "{error}"
        );
    }
    // Nobody listens there any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut sampler = RemoteSampler::new(settings(format!("http://{closed}/v1")).check().unwrap());
    let error = sampler.sample(&[request("x", 0)], &params()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("http://{closed}/v1/completions: no answer after 3 attempts: "))
            && error.to_lowercase().contains("refused"),
        "{error}"
    );
    assert_eq!(sampler.endpoint().usage().retries, 2);
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for_by_everybody() {
    let (url, seen) = serve(vec![Act::Say(429, "Retry-After: 1\r\n", "slow down".into()), Act::Echo]);
    let mut sampler =
        RemoteSampler::new(EndpointBuilder { concurrency: 1, ..settings(url) }.check().unwrap());
    let begin = std::time::Instant::now();
    let samples = good(sampler.sample(&[request("a", 0), request("b", 1)], &params()));
    assert_eq!((samples[0].text.as_str(), samples[1].text.as_str()), ("a", "b"));
    // The backoff of these settings is 5 ms: only the server's wish explains a second.
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn refusals_are_not_tried_again_and_never_show_the_key() {
    for status in [400, 401, 404, 422, 302] {
        let echo = format!("bad key {KEY}, {}", "x".repeat(10_000));
        let acts = vec![Act::Say(status, "Location: http://example.invalid/\r\n", echo)];
        let shown = if matches!(status, 400 | 422) {
            let (refusal, seen) = refusal(acts);
            assert_eq!((seen.lock().unwrap().len(), refusal.cause), (1, RefusalCause::Server));
            format!("{refusal} {refusal:?}")
        } else {
            let (error, seen) = ask(acts);
            assert_eq!(seen.lock().unwrap().len(), 1);
            let error = error.unwrap_err();
            format!("{error} {error:?}")
        };
        assert!(!shown.contains(KEY), "{shown}");
        assert!(shown.len() < 1_500, "{shown}");
        assert!(status == 302 || shown.contains("bad key …"), "{shown}");
    }
    let sampler = RemoteSampler::new(settings("http://127.0.0.1:9/v1".into()).check().unwrap());
    assert!(!format!("{sampler:?}").contains(KEY));
    let (refusal, _) = refusal(vec![Act::Say(200, "", json!({"choices": KEY}).to_string())]);
    assert!(!format!("{refusal:?}").contains(KEY));
}

#[test]
fn answers_that_are_none_are_told() {
    let message = |message: serde_json::Value, finish: &str| {
        json!({"choices": [{"message": message, "finish_reason": finish}]}).to_string()
    };
    let filtered = "the server's content filter cut the response off (finish_reason content_filter)";
    let thought = "all tokens (7 were allowed) went into thinking; raise max_new_tokens";
    let neither = "the answer is no completion: its choice has neither text nor message content";
    use RefusalCause::{Answer, Server};
    for (body, cause, expected) in [
        (json!({"choices": [{"finish_reason": "stop"}]}).to_string(), Answer, neither),
        (
            json!({"choices": [{"text": "x"}]}).to_string(),
            Answer,
            "finish_reason is missing, and no count of tokens tells whether the response is whole",
        ),
        (json!({"choices": []}).to_string(), Answer, "the answer is no completion: it has no choice"),
        (json!({"id": 1}).to_string(), Answer, "the answer is no completion: it has no choices"),
        (completion(" x", "content_filter"), Server, filtered),
        (
            completion(" x", "tool_calls"),
            Answer,
            "finish_reason is tool_calls, which is no end of a text that we know",
        ),
        (message(json!({"content": null, "reasoning_content": "Hm"}), "length"), Answer, thought),
        (message(json!({"content": "", "reasoning": "Hm"}), "length"), Answer, thought),
        (
            message(
                json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}),
                "length",
            ),
            Answer,
            thought,
        ),
        (
            message(json!({"content": null, "refusal": "I cannot help with that."}), "stop"),
            Server,
            "the model declined: I cannot help with that.",
        ),
    ] {
        let (refusal, seen) = refusal(vec![Act::Say(200, "", body.clone())]);
        assert_eq!((refusal.cause, refusal.message.as_str()), (cause, expected), "{body}");
        assert_eq!(seen.lock().unwrap().len(), 1, "{body}");
    }
}

#[test]
fn impossible_settings_are_refused() {
    let good = || settings("http://localhost:1/v1".into());
    let refused = |builder: EndpointBuilder| builder.check().unwrap_err().to_string();
    assert!(
        refused(EndpointBuilder { base_url: "localhost:8000".into(), ..good() })
            .contains("must begin with http://")
    );
    let secret = refused(EndpointBuilder { base_url: "https://me:pass@host/v1".into(), ..good() });
    assert!(secret.contains("user name or password") && !secret.contains("pass@"), "{secret}");
    assert!(refused(EndpointBuilder { model: " ".into(), ..good() }).contains("model is empty"));
    assert!(refused(EndpointBuilder { attempts: 0, ..good() }).contains("attempts is 0"));
    let keyed = |key| refused(EndpointBuilder { key, ..good() });
    assert_eq!(
        keyed(KeySource::Environment("SAMI_NO_SUCH_VARIABLE".into())),
        "environment variable SAMI_NO_SUCH_VARIABLE holds no key; set it, or ask for no key if the server needs none"
    );
    assert_eq!(
        keyed(KeySource::File("/no/such".into())),
        "key file /no/such: No such file or directory (os error 2)"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "two words\n").unwrap();
    let bad = keyed(KeySource::File(file.clone()));
    assert!(bad.ends_with("has characters that a header cannot hold") && !bad.contains("two"), "{bad}");
    std::fs::write(&file, " \n").unwrap();
    assert!(keyed(KeySource::File(file)).contains("holds no key"));
    let logps = SamplingParamsBuilder { logps: true, ..SamplingParams::builder() }.check().unwrap();
    let mut sampler = RemoteSampler::new(good().check().unwrap());
    assert!(matches!(sampler.sample(&[request("x", 0)], &logps), Err(RemoteError::Unsupported { .. })));
}
