//! One question and its answer: from the cache, or from the server with patience.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::budget::{Cost, Tokens};
use crate::cache::request_hash;
use crate::endpoint::{Dialect, Endpoint};
use crate::error::RemoteError;
use crate::retry::{backoff, retry_after};

/// Bytes of an answer that are read at most.
const ANSWER_LIMIT: u64 = 64 << 20;
/// Characters of a refusal that are shown.
const SHOWN: usize = 300;

/// What one attempt came to.
enum Attempt {
    Answered(String),
    Again { error: RemoteError, wait: Option<Duration>, cost: Cost },
    Refused(RemoteError),
}

#[derive(Deserialize)]
struct Counted {
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    owned_by: String,
}

impl Endpoint {
    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.base_url.trim_end_matches('/'))
    }

    /// Whether the server is vLLM; asked once.
    pub(crate) fn is_vllm(&self) -> bool {
        match self.settings.dialect {
            Dialect::OpenAi => false,
            Dialect::Vllm => true,
            Dialect::Auto => *self.shared.vllm.get_or_init(|| self.names_itself_vllm()),
        }
    }

    /// A server that cannot say is spoken to in plain terms; should it be gone, the first real request will tell.
    fn names_itself_vllm(&self) -> bool {
        // Some servers hang up after a question that they do not know; nobody is to meet a dead connection afterwards.
        let mut request = self.agent.get(self.url("models")).header("Connection", "close");
        if let Some(key) = &self.shared.key {
            request = request.header("Authorization", key.header());
        }
        let text = request.call().ok().and_then(|mut response| {
            let body = response.body_mut().with_config().limit(ANSWER_LIMIT);
            body.read_to_string().ok()
        });
        let models: Option<Models> = text.and_then(|text| serde_json::from_str(&text).ok());
        models.is_some_and(|models| models.data.iter().any(|model| model.owned_by == "vllm"))
    }

    /// Posts `body` as JSON to `{base_url}/{path}` and reads the answer, unless the cache has it. Tries again where that may
    /// help. `most_response_tokens` bounds what the answer can cost.
    ///
    /// # Errors
    ///
    /// The last attempt's error, with the number of attempts; a cap; a cache that fails.
    pub(crate) fn ask<T>(
        &self,
        path: &str,
        body: &impl Serialize,
        most_response_tokens: usize,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, RemoteError> {
        let url = self.url(path);
        let answer = |reason: String| RemoteError::Answer { url: url.clone(), reason: self.shown(&reason) };
        let body = serde_json::to_vec(body).map_err(|error| answer(error.to_string()))?;
        // A token has at least one byte, and the names of the fields are room for the marks of a chat format.
        let bound = Tokens { prompt: body.len() as u64, response: most_response_tokens as u64 };
        let hash = request_hash(&url, &body);
        let flight = self.shared.cache.as_ref().map(|cache| (cache, cache.take_off(hash)));
        if let Some((cache, _)) = &flight
            && let Some(known) = cache.get(&hash)?
            && let Ok(value) = read(&known)
        {
            self.shared.budget.count_cached();
            return Ok(value);
        }
        let text = self.insist(&url, &body, bound)?;
        let value = read(&text).map_err(answer)?;
        if let Some((cache, _)) = &flight {
            cache.put(hash, &text)?;
        }
        Ok(value)
    }

    /// The text of a good answer, after as many attempts as it takes and the settings allow.
    fn insist(&self, url: &str, body: &[u8], bound: Tokens) -> Result<String, RemoteError> {
        let settings = &self.settings;
        let mut attempt = 1;
        loop {
            self.shared.pause.wait();
            let budget = &self.shared.budget;
            let reservation = budget.reserve(settings.max_requests, settings.spend, bound, attempt > 1)?;
            let outcome = self.attempt(url, body, attempt);
            let cost = match &outcome {
                Attempt::Answered(text) => counted(text),
                Attempt::Again { cost, .. } => *cost,
                Attempt::Refused(_) => Cost::Nothing,
            };
            budget.settle(reservation, settings.spend, cost);
            match outcome {
                Attempt::Answered(text) => return Ok(text),
                Attempt::Refused(error) => return Err(error),
                Attempt::Again { error, .. } if attempt >= settings.attempts => return Err(error),
                Attempt::Again { error, wait, .. } => {
                    let own = backoff(settings.backoff, settings.backoff_cap, attempt);
                    let wait = self.patience(&error, url, wait)?.map_or(own, |asked| asked.max(own));
                    tracing::info!("{error}; trying again in {:.1} s", wait.as_secs_f64());
                    std::thread::sleep(wait);
                    attempt += 1;
                }
            }
        }
    }

    /// What the server asked to wait, if the settings allow it; others are made to wait too.
    fn patience(
        &self,
        error: &RemoteError,
        url: &str,
        asked: Option<Duration>,
    ) -> Result<Option<Duration>, RemoteError> {
        let Some(asked) = asked else { return Ok(None) };
        if asked > self.settings.retry_after_cap {
            let status = match error {
                RemoteError::Status { status, .. } => *status,
                _ => 0,
            };
            let most = self.settings.retry_after_cap.as_secs();
            return Err(RemoteError::Wait { url: url.to_owned(), status, seconds: asked.as_secs(), most });
        }
        self.shared.pause.extend(asked);
        Ok(Some(asked))
    }

    fn attempt(&self, url: &str, body: &[u8], attempts: usize) -> Attempt {
        let mut request = self.agent.post(url).header("Content-Type", "application/json");
        if let Some(key) = &self.shared.key {
            request = request.header("Authorization", key.header());
        }
        // The server may have answered what we never saw.
        let broken = |reason: String| Attempt::Again {
            error: RemoteError::Transport { url: url.to_owned(), attempts, reason: self.shown(&reason) },
            wait: None,
            cost: Cost::Unknown,
        };
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error @ (ureq::Error::HostNotFound | ureq::Error::ConnectionFailed)) => {
                return match broken(error.to_string()) {
                    Attempt::Again { error, wait, .. } => Attempt::Again { error, wait, cost: Cost::Nothing },
                    other => other,
                };
            }
            Err(error) => return broken(error.to_string()),
        };
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wait = header.and_then(|value| retry_after(value, SystemTime::now()));
        let text = match response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string() {
            Ok(text) => text,
            Err(error) => return broken(error.to_string()),
        };
        if (200..300).contains(&status) {
            // A proxy's page, or half an answer.
            return match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                Ok(_) => Attempt::Answered(text),
                Err(error) => broken(format!("the answer is no JSON: {error}")),
            };
        }
        let error = RemoteError::Status { url: url.to_owned(), status, attempts, message: self.shown(&text) };
        match status {
            // An empty account is not refilled by waiting.
            429 if text.contains("insufficient_quota") => Attempt::Refused(error),
            408 | 425 | 429 | 500 | 502..=504 | 506..=599 => {
                Attempt::Again { error, wait, cost: Cost::Nothing }
            }
            _ => Attempt::Refused(error),
        }
    }

    /// Foreign text for a message: on one line, short, and without the key.
    pub(crate) fn shown(&self, text: &str) -> String {
        let text = match &self.shared.key {
            Some(key) => key.blank(text),
            None => text.to_owned(),
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line,
        }
    }
}

fn counted(text: &str) -> Cost {
    let usage = serde_json::from_str(text).ok().and_then(|Counted { usage }| usage);
    usage.map_or(Cost::Unknown, Cost::Counted)
}
