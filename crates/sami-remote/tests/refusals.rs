//! What a server refuses: one prompt of many, everything, or a parameter.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::{Act, completion, params, request, serve, settings};
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, Comparison, Judge, RefusalCause, Role, SampleRequest, Sampler,
    SamplingParams, SamplingParamsBuilder, StreamKey, Verdict,
};
use sami_remote::{Dialect, EndpointBuilder, RemoteError, RemoteJudge, RemoteSampler};
use serde_json::{Value, json};

fn requests(n: u64) -> Vec<SampleRequest> {
    (0..n).map(|i| request(&format!("prompt {i}"), i)).collect()
}

fn good() -> String {
    completion(" ok", "stop")
}

fn sampler(url: String) -> RemoteSampler {
    RemoteSampler::new(EndpointBuilder { concurrency: 1, ..settings(url) }.check().unwrap())
}

#[test]
fn one_refused_prompt_of_many_is_that_ones_refusal() {
    let azure = json!({"error": {"message": "The response was filtered due to the prompt triggering a content \
                        management policy.", "code": "content_filter", "param": "prompt",
                        "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    let vllm = json!({"object": "error", "message": "This model's maximum context length is 512 tokens.", "code": 400});
    for (status, body, words) in [
        (400, azure, "The response was filtered due to the prompt triggering a content management policy."),
        (400, vllm, "This model's maximum context length is 512 tokens."),
        (422, json!({"error": "Input validation error: too long"}), "Input validation error: too long"),
        (413, json!({"message": "Request too large"}), "Request too large"),
        (403, json!({"error": {"message": "input was flagged", "code": 403}}), "input was flagged"),
        (
            500,
            json!({"error": "the input length exceeds the context length"}),
            "the input length exceeds the context length",
        ),
    ] {
        let (url, seen) = serve(vec![
            Act::Say(200, "", good()),
            Act::Say(status, "", body.to_string()),
            Act::Say(200, "", good()),
        ]);
        let samples = sampler(url).sample(&requests(4), &params()).unwrap();
        let texts: Vec<_> =
            samples.iter().map(|one| one.as_ref().map(|sample| sample.text.as_str())).collect();
        let refusal = samples[1].as_ref().unwrap_err();
        assert_eq!(texts, [Ok(" ok"), Err(refusal), Ok(" ok"), Ok(" ok")]);
        assert_eq!(refusal.cause, RefusalCause::Server);
        assert_eq!(refusal.message, format!("status {status} after 1 attempts: {words}"));
        assert_eq!(seen.lock().unwrap().len(), 4, "a refusal is not tried again");
    }
}

#[test]
fn a_server_that_refuses_everything_ends_the_job_after_a_few() {
    let (url, seen) =
        serve(vec![Act::Say(400, "", json!({"error": {"message": "no such model: tiny"}}).to_string())]);
    let error = sampler(url.clone()).sample(&requests(50), &params()).unwrap_err().to_string();
    let expected = "all of the first 4 requests came to nothing, the first one so: status 400 after 1 attempts: no such model: tiny";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 4);
    // Where the prompt is the cause by the server's own words, one prompt says less about the next.
    let filter = json!({"error": {"code": "content_filter", "message": "filtered"}}).to_string();
    let (url, seen) = serve(vec![Act::Say(400, "", filter.clone())]);
    assert!(matches!(
        sampler(url).sample(&requests(50), &params()).unwrap_err(),
        RemoteError::RefusesAll { refused: 16, .. }
    ));
    assert_eq!(seen.lock().unwrap().len(), 16);
    // A whole job of them is an error as well, and a few of them are not.
    let (url, _) = serve(vec![Act::Say(400, "", filter.clone())]);
    let mut job = sampler(url);
    assert!(job.sample(&requests(4), &params()).unwrap().iter().all(Result::is_err));
    assert!(job.sample(&requests(4), &params()).is_err());
    // Nor is anything once there was an answer.
    let (url, seen) = serve(vec![Act::Say(200, "", good()), Act::Say(400, "", filter)]);
    let samples = sampler(url).sample(&requests(30), &params()).unwrap();
    assert_eq!(samples.iter().filter(|one| one.is_err()).count(), 29);
    assert_eq!(seen.lock().unwrap().len(), 30);
}

#[test]
fn slow_answers_are_waited_for_before_quick_refusals_end_a_job() {
    // Every fourth prompt has an answer, which takes its time.
    let answer = |body: &Value| {
        let number: u64 = body["prompt"].as_str().unwrap()[7..].parse().unwrap();
        if number == 0 {
            std::thread::sleep(std::time::Duration::from_millis(300));
            return json!({"choices": [{"text": " ok", "finish_reason": "stop"}]});
        }
        json!({"error": {"code": 400, "message": "no"}})
    };
    let (url, _) = serve(vec![Act::Answer(answer)]);
    let mut job = RemoteSampler::new(settings(url).check().unwrap());
    let samples = job.sample(&requests(20), &params()).unwrap();
    assert!(samples[0].is_ok() && samples[1..].iter().all(Result::is_err));
}

/// Refuses these parameters, one after the other, as OpenAI does.
fn strict(body: &Value) -> Value {
    let refuse = |name: &str, message: String| json!({"error": {"code": 400, "param": name, "message": message, "type": "invalid_request_error"}});
    let text = match body.get("messages") {
        Some(_) => json!({"message": {"content": "Final Response: A"}, "finish_reason": "stop"}),
        None => json!({"text": " ok", "finish_reason": "stop"}),
    };
    if body.get("max_tokens").is_some() {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        return refuse("max_tokens", message.to_owned());
    }
    if body.get("temperature").is_some_and(|value| value != 1.0) {
        let message = format!(
            "Unsupported value: 'temperature' does not support {} with this model.",
            body["temperature"]
        );
        return refuse("temperature", message);
    }
    json!({"choices": [text]})
}

#[test]
fn a_judge_leaves_to_the_server_what_it_refuses_and_says_so() {
    let (url, seen) = serve(vec![Act::Answer(strict)]);
    let endpoint = EndpointBuilder { concurrency: 1, ..settings(url) }.check().unwrap();
    let mut judge =
        RemoteJudge::new(endpoint.clone(), |it: &Comparison<'_>| Ok::<_, String>(it.response_b.to_owned()));
    let all =
        ["x", "y", "z"].map(|b| Comparison { query: "q", constitution: "c", response_a: "a", response_b: b });
    assert_eq!(judge.judge(&all), [Verdict::A, Verdict::A, Verdict::A]);
    assert_eq!(endpoint.left_to_server(), ["temperature"]);
    // Each was refused once, and never sent again.
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen[4].1["max_completion_tokens"] == json!(512) && seen[4].1.get("temperature").is_none());
    assert_eq!(seen[4].1["top_p"], json!(1.0));
}

#[test]
fn a_parameter_of_the_responses_is_never_left_to_the_server() {
    let newer = |settings: EndpointBuilder| EndpointBuilder {
        token_limit: sami_remote::TokenLimit::MaxCompletionTokens,
        concurrency: 1,
        ..settings
    };
    let (url, seen) = serve(vec![Act::Answer(strict)]);
    let chat = |n| ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "Hi")],
        stream: StreamKey::new(n, 0, 0, 0),
    };
    let mut job = RemoteSampler::new(newer(settings(url.clone())).check().unwrap());
    let error = job.sample_chat(&[chat(0), chat(1)], &params()).unwrap_err().to_string();
    let expected = "the server refuses temperature = 0.5, and its own default would make the responses others than asked \
                    for; ask for a value that it takes, or ask another server. It says: Unsupported value: 'temperature' \
                    does not support 0.5 with this model.";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
    // Nor one that was asked for on purpose, whoever samples; one that is as it is by default may be.
    let mut job = RemoteSampler::new(newer(settings(url.clone())).check().unwrap()).accept_server_defaults();
    assert!(matches!(
        job.sample_chat(&[chat(0)], &params()).unwrap_err(),
        RemoteError::Parameter { parameter: "temperature", .. }
    ));
    let usual = SamplingParams::builder().check().unwrap();
    let mut job = RemoteSampler::new(newer(settings(url)).check().unwrap()).accept_server_defaults();
    assert!(job.sample_chat(&[chat(0)], &usual).unwrap()[0].is_ok());
    assert_eq!(job.endpoint().left_to_server(), ["temperature"]);
}

#[test]
fn parameters_that_do_nothing_are_left_out_where_a_server_does_not_know_them() {
    let openai = |body: &Value| {
        let extra = ["min_p", "repetition_penalty", "top_k"];
        let known: Vec<_> = extra.into_iter().filter(|name| body.get(*name).is_some()).collect();
        match body {
            Value::Null => json!({"data": []}),
            _ if !known.is_empty() => {
                json!({"error": {"code": 400, "message": format!("Unrecognized request arguments supplied: {}", known.join(", "))}})
            }
            _ if body.get("seed").is_some() => {
                json!({"error": {"code": 422, "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}})
            }
            body => json!({"choices": [{"text": format!(" {}", body["prompt"]), "finish_reason": "stop"}]}),
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = serve(vec![Act::Answer(openai)]);
    let cache = Some(dir.path().join("answers.jsonl"));
    let auto = EndpointBuilder { dialect: Dialect::Auto, cache, concurrency: 1, ..settings(url) };
    let mut job = RemoteSampler::new(auto.clone().check().unwrap());
    // Two draws of one prompt are two requests, although the server takes no seed.
    let draws = [request("same", 0), request("same", 1)];
    assert!(job.sample(&draws, &params()).unwrap().iter().all(Result::is_ok));
    assert_eq!(job.endpoint().left_to_server(), ["top_k", "min_p", "repetition_penalty", "seed"]);
    let posted =
        |seen: &common::Seen| seen.lock().unwrap().iter().filter(|(_, body)| !body.is_null()).count();
    assert_eq!((posted(&seen), job.endpoint().usage().from_cache), (4, 0));
    // Another job learns it anew, and finds the answers.
    let mut job = RemoteSampler::new(auto.check().unwrap());
    assert!(job.sample(&draws, &params()).unwrap().iter().all(Result::is_ok));
    assert_eq!((posted(&seen), job.endpoint().usage().from_cache), (6, 2));
}

#[test]
fn temperature_and_top_p_together_cost_the_one_that_does_nothing() {
    let claude = |body: &Value| {
        if body.get("temperature").is_some() && body.get("top_p").is_some() {
            let message =
                "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
            return json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        }
        json!({"choices": [{"text": "x", "finish_reason": "stop"}]})
    };
    let (url, seen) = serve(vec![Act::Answer(claude)]);
    let usual = SamplingParams::builder().check().unwrap();
    let mut job = RemoteSampler::new(settings(url.clone()).check().unwrap()).accept_server_defaults();
    assert!(job.sample(&requests(1), &usual).unwrap()[0].is_ok());
    assert_eq!(job.endpoint().left_to_server(), ["top_p"]);
    assert_eq!(seen.lock().unwrap()[1].1["temperature"], json!(0.0));
    let chosen = SamplingParamsBuilder { top_p: 0.9, ..SamplingParams::builder() }.check().unwrap();
    let mut job = RemoteSampler::new(settings(url).check().unwrap()).accept_server_defaults();
    let error = job.sample(&requests(1), &chosen).unwrap_err();
    assert!(matches!(error, RemoteError::Parameter { parameter: "top_p", .. }), "{error}");
}

#[test]
fn all_tokens_is_spelt_as_the_server_wants_it() {
    let strict = |body: &Value| match body {
        Value::Null => json!({"data": []}),
        body if body["top_k"] != json!(-1) => {
            json!({"error": {"code": 400, "message": "top_k must be -1 (disable), or at least 1, got 0."}})
        }
        _ => json!({"choices": [{"text": "x", "finish_reason": "stop"}]}),
    };
    let (url, _) = serve(vec![Act::Answer(strict)]);
    let auto = EndpointBuilder { dialect: Dialect::Auto, ..settings(url) };
    let mut job = RemoteSampler::new(auto.check().unwrap());
    assert!(job.sample(&requests(1), &params()).unwrap()[0].is_ok());
    assert!(job.endpoint().left_to_server().is_empty());
}
