//! An OpenAI-compatible server that says what it is told.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The requests that were posted: head and body.
pub type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A status, further header lines, and a body.
pub struct Reply(pub u16, pub &'static str, pub String);

impl Reply {
    /// What a model said, in the format of either endpoint.
    pub fn says(text: &str) -> Self {
        let choice = json!({"message": {"content": text}, "text": text, "finish_reason": "stop"});
        Self(200, "", json!({"choices": [choice]}).to_string())
    }
}

/// Serves what `answer` makes of each posted body, one request after the other. Anything that is not posted is answered with
/// `models`, or 404 where there is none.
pub fn serve_as(
    models: Option<Value>,
    mut answer: impl FnMut(&Value) -> Reply + Send + 'static,
) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (head, body) = read(&stream);
            let Reply(status, headers, text) = if head.starts_with("POST") {
                let body = serde_json::from_slice(&body).unwrap();
                let reply = answer(&body);
                record.lock().unwrap().push((head, body));
                reply
            } else {
                match &models {
                    Some(models) => Reply(200, "", models.to_string()),
                    None => Reply(404, "", json!({}).to_string()),
                }
            };
            let length = text.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
            );
            let mut stream = stream;
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
        }
    });
    (url, seen)
}

/// A server that is nobody in particular.
pub fn serve(answer: impl FnMut(&Value) -> Reply + Send + 'static) -> (String, Seen) {
    serve_as(None, answer)
}

fn read(stream: &TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap() > 2 {}
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}
