//! A small server that misbehaves in every way we know.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several test binaries; helpers outside #[test] functions"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sami_policy::{SampleRequest, SamplingParams, SamplingParamsBuilder, StreamKey};
use sami_remote::{Dialect, EndpointBuilder, KeySource};
use serde_json::{Value, json};

/// Setting a variable would be unsafe code; this one is set by cargo for every test, and its value plays the key.
pub(crate) const VARIABLE: &str = "CARGO_PKG_REPOSITORY";
pub(crate) const KEY: &str = env!("CARGO_PKG_REPOSITORY");

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Act {
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
    /// Whatever is made of the body; null for a request without one.
    Answer(fn(&Value) -> Value),
}

/// A request as the server saw it: the head, and the body.
pub(crate) type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// Serves `acts` in order, then the last of them forever. One thread per connection.
pub(crate) fn serve(acts: Vec<Act>) -> (String, Seen) {
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
        None if head.starts_with("GET") => {}
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
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
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
        Act::Answer(answer) => (200, "", answer(&body).to_string()),
    };
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{text}"
    )
    .ok()
}

pub(crate) fn completion(text: &str, finish: &str) -> String {
    json!({"choices": [{"text": text, "finish_reason": finish}]}).to_string()
}

pub(crate) fn settings(base_url: String) -> EndpointBuilder {
    EndpointBuilder {
        base_url,
        model: "tiny".into(),
        key: KeySource::Environment(VARIABLE.into()),
        // Long enough for a busy machine; where it is to run out, a test sets its own.
        timeout: Duration::from_secs(20),
        attempts: 3,
        backoff: Duration::from_millis(5),
        backoff_cap: Duration::from_millis(50),
        concurrency: 4,
        dialect: Dialect::OpenAi,
        ..EndpointBuilder::default()
    }
}

pub(crate) fn request(prompt: &str, query: u64) -> SampleRequest {
    SampleRequest { prompt: prompt.into(), stream: StreamKey::new(1, 2, query, 0) }
}

pub(crate) fn params() -> SamplingParams {
    SamplingParamsBuilder {
        max_new_tokens: 7,
        temperature: 0.5,
        stop: vec!["\n\nHuman:".into()],
        ..SamplingParams::builder()
    }
    .check()
    .unwrap()
}
