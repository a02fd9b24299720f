//! The client against a small server that misbehaves in every way we know.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sami_policy::{FinishReason, SampleRequest, Sampler, SamplingParams, SamplingParamsBuilder, StreamKey};
use sami_remote::{EndpointBuilder, RemoteError, RemoteSampler};
use serde_json::{Value, json};

/// Setting a variable would be unsafe code; this one is set by cargo for every test, and its value plays the key.
const VARIABLE: &str = "CARGO_PKG_REPOSITORY";
const KEY: &str = env!("CARGO_PKG_REPOSITORY");

/// What the server does with one request.
#[derive(Clone)]
enum Act {
    /// Status, extra header lines, body.
    Say(u16, &'static str, String),
    /// Closes the connection without a word.
    HangUp,
    /// Announces a longer body than it sends.
    Truncate,
    /// Says nothing for a while.
    Stall(Duration),
    /// A completion that repeats the prompt.
    Echo,
}

/// A request as the server saw it: the head, and the body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// Serves `acts` in order, then the last of them forever. One thread per connection.
fn serve(acts: Vec<Act>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (record, acts) = (Arc::clone(&seen), Arc::new(acts));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (record, acts) = (Arc::clone(&record), Arc::clone(&acts));
            std::thread::spawn(move || answer(stream, &record, &acts));
        }
    });
    (url, seen)
}

fn answer(stream: TcpStream, seen: &Seen, acts: &[Act]) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while reader.read_line(&mut head).ok()? > 2 {}
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        None => loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        },
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push((head, body.clone()));
        seen.len() - 1
    };
    let mut stream = stream;
    let act = acts.get(number).or(acts.last())?;
    let (status, headers, text) = match act {
        Act::Say(status, headers, text) => (*status, *headers, text.clone()),
        Act::HangUp => return None,
        Act::Truncate => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{{\"choices\"").ok()?;
            return None;
        }
        Act::Stall(time) => {
            std::thread::sleep(*time);
            return None;
        }
        Act::Echo => (200, "", completion(body["prompt"].as_str()?, "length")),
    };
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{text}"
    )
    .ok()
}

fn completion(text: &str, finish: &str) -> String {
    json!({"choices": [{"text": text, "finish_reason": finish}]}).to_string()
}

fn settings(base_url: String) -> EndpointBuilder {
    EndpointBuilder {
        base_url,
        model: "tiny".into(),
        api_key_env: Some(VARIABLE.into()),
        timeout: Duration::from_millis(400),
        attempts: 3,
        backoff: Duration::from_millis(5),
        backoff_cap: Duration::from_millis(50),
        concurrency: 4,
    }
}

fn request(prompt: &str, query: u64) -> SampleRequest {
    SampleRequest { prompt: prompt.into(), stream: StreamKey::new(1, 2, query, 0) }
}

fn params() -> SamplingParams {
    SamplingParamsBuilder {
        max_new_tokens: 7,
        temperature: 0.5,
        stop: vec!["\n\nHuman:".into()],
        ..SamplingParams::builder()
    }
    .check()
    .unwrap()
}

/// One request against a server that acts so.
fn ask(acts: Vec<Act>) -> (Result<sami_policy::Sample, RemoteError>, Seen) {
    let (url, seen) = serve(acts);
    let mut sampler = RemoteSampler::new(settings(url).check().unwrap());
    (sampler.sample(&[request("Hello", 0)], &params()).map(|mut samples| samples.remove(0)), seen)
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
    assert!(body.get("top_k").is_none());
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
    let samples = sampler.sample(&requests, &params()).unwrap();
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
        Act::Stall(Duration::from_secs(2)),
    ] {
        let (sample, seen) = ask(vec![fault, good()]);
        assert_eq!(sample.unwrap().text, " ok");
        assert_eq!(seen.lock().unwrap().len(), 2);
    }
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
    // A long Retry-After is cut to the cap.
    let begun = Instant::now();
    let (error, _) = ask(vec![Act::Say(429, "Retry-After: 3600\r\n", String::new())]);
    assert!(error.is_err() && begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn refusals_are_not_tried_again_and_never_show_the_key() {
    for status in [400, 401, 404, 302] {
        let echo = format!("bad key {KEY}, {}", "x".repeat(10_000));
        let (error, seen) = ask(vec![Act::Say(status, "Location: http://example.invalid/\r\n", echo)]);
        let error = error.unwrap_err();
        assert_eq!(seen.lock().unwrap().len(), 1);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(KEY), "{shown}");
        assert!(shown.contains("bad key …") && shown.len() < 1_500, "{shown}");
    }
    let sampler = RemoteSampler::new(settings("http://127.0.0.1:9/v1".into()).check().unwrap());
    assert!(!format!("{sampler:?}").contains(KEY));
    let (error, _) = ask(vec![Act::Say(200, "", format!("{{\"{KEY}\": 1"))]);
    assert!(!format!("{:?}", error.unwrap_err()).contains(KEY));
}

#[test]
fn answers_that_are_none_are_told() {
    for (body, expected) in [
        ("not json".to_owned(), "expected"),
        (json!({"choices": []}).to_string(), "it has no choice"),
        (completion(" x", "content_filter"), "finish_reason is Some(\"content_filter\")"),
    ] {
        let (error, _) = ask(vec![Act::Say(200, "", body)]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the answer is no completion") && error.contains(expected), "{error}");
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
    let absent = refused(EndpointBuilder { api_key_env: Some("SAMI_NO_SUCH_VARIABLE".into()), ..good() });
    assert!(absent.contains("SAMI_NO_SUCH_VARIABLE holds no key"), "{absent}");
    let logps = SamplingParamsBuilder { logps: true, ..SamplingParams::builder() }.check().unwrap();
    let mut sampler = RemoteSampler::new(good().check().unwrap());
    assert!(matches!(sampler.sample(&[request("x", 0)], &logps), Err(RemoteError::Unsupported { .. })));
}
