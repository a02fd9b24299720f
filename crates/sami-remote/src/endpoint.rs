//! Where to send requests, and how patiently.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::RemoteError;

/// Bytes of an answer that are read at most.
const ANSWER_LIMIT: u64 = 64 << 20;
/// Characters of a refusal that are shown.
const SHOWN: usize = 300;

/// Unchecked settings; [`EndpointBuilder::check`] makes them an [`Endpoint`].
#[derive(Clone, Debug)]
pub struct EndpointBuilder {
    /// Everything before `/completions`, for example `http://localhost:8000/v1`.
    pub base_url: String,
    /// The model's name at the server.
    pub model: String,
    /// The environment variable that holds the key; `None` sends none. Default `OPENAI_API_KEY`.
    pub api_key_env: Option<String>,
    /// Limit of one attempt, answer included. Default 10 minutes: a long response takes a while.
    pub timeout: Duration,
    /// Attempts per request, the first included. Default 5.
    pub attempts: usize,
    /// Wait before the second attempt; it doubles for each later one. Default 1 s.
    pub backoff: Duration,
    /// The longest wait between attempts. Default 60 s.
    pub backoff_cap: Duration,
    /// Requests under way at once. Default 8.
    pub concurrency: usize,
}

impl Default for EndpointBuilder {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            model: String::new(),
            api_key_env: Some("OPENAI_API_KEY".to_owned()),
            timeout: Duration::from_secs(600),
            attempts: 5,
            backoff: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            concurrency: 8,
        }
    }
}

impl EndpointBuilder {
    /// Checks the settings, and reads the key from its environment variable.
    ///
    /// # Errors
    ///
    /// An address that is not HTTP or holds a password, an empty model, a zero, an absent key.
    pub fn check(self) -> Result<Endpoint, RemoteError> {
        let Some(rest) = self.base_url.strip_prefix("http://").or(self.base_url.strip_prefix("https://"))
        else {
            return Err(RemoteError::Url { url: self.base_url });
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(RemoteError::UrlWithSecret);
        }
        if authority.is_empty() {
            return Err(RemoteError::Url { url: self.base_url });
        }
        if self.model.trim().is_empty() {
            return Err(RemoteError::Model);
        }
        let zeros = [
            ("timeout", self.timeout.is_zero()),
            ("attempts", self.attempts == 0),
            ("concurrency", self.concurrency == 0),
        ];
        if let Some((field, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(RemoteError::Zero { field });
        }
        let key = self.api_key_env.as_deref().map(Key::read).transpose()?;
        let config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            // A redirect could carry the key to another host.
            .max_redirects(0)
            .build();
        Ok(Endpoint { agent: config.new_agent(), key, settings: self })
    }
}

/// The key; it shows itself to the server only.
#[derive(Clone)]
struct Key(String);

impl Key {
    fn read(variable: &str) -> Result<Self, RemoteError> {
        let variable = variable.to_owned();
        let Ok(key) = std::env::var(&variable) else { return Err(RemoteError::NoKey { variable }) };
        let key = key.trim();
        if key.is_empty() {
            return Err(RemoteError::NoKey { variable });
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RemoteError::BadKey { variable });
        }
        Ok(Self(key.to_owned()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A server, a model, and how to ask it. Built by [`EndpointBuilder::check`].
#[derive(Clone, Debug)]
pub struct Endpoint {
    agent: Agent,
    key: Option<Key>,
    settings: EndpointBuilder,
}

/// What one attempt came to.
enum Attempt {
    Answered(String),
    Again { error: RemoteError, wait: Option<Duration> },
    Refused(RemoteError),
}

impl Endpoint {
    /// The settings it was built from.
    pub fn settings(&self) -> &EndpointBuilder {
        &self.settings
    }

    /// Posts `body` as JSON and reads the answer, trying again where that may help.
    ///
    /// # Errors
    ///
    /// The last attempt's error, with the number of attempts.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, RemoteError> {
        let url = format!("{}/{path}", self.settings.base_url.trim_end_matches('/'));
        let mut wait = self.settings.backoff;
        let mut attempt = 1;
        loop {
            match self.attempt(&url, body, attempt) {
                Attempt::Answered(text) => {
                    return serde_json::from_str(&text).map_err(|error| RemoteError::Answer {
                        url,
                        reason: self.shown(&error.to_string()),
                    });
                }
                Attempt::Refused(error) => return Err(error),
                Attempt::Again { error, .. } if attempt >= self.settings.attempts => return Err(error),
                Attempt::Again { wait: asked, .. } => {
                    std::thread::sleep(asked.unwrap_or(wait).min(self.settings.backoff_cap));
                    wait = wait.saturating_mul(2);
                    attempt += 1;
                }
            }
        }
    }

    fn attempt(&self, url: &str, body: &impl Serialize, attempts: usize) -> Attempt {
        let mut request = self.agent.post(url);
        if let Some(Key(key)) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let transport = |error: ureq::Error| Attempt::Again {
            error: RemoteError::Transport {
                url: url.to_owned(),
                attempts,
                reason: self.shown(&error.to_string()),
            },
            wait: None,
        };
        let mut response = match request.send_json(body) {
            Ok(response) => response,
            Err(error) => return transport(error),
        };
        let status = response.status().as_u16();
        let wait =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = match response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string() {
            Ok(text) => text,
            Err(error) => return transport(error),
        };
        if (200..300).contains(&status) {
            return Attempt::Answered(text);
        }
        let error = RemoteError::Status { url: url.to_owned(), status, attempts, message: self.shown(&text) };
        match status {
            408 | 429 | 500..=599 => Attempt::Again { error, wait: wait.map(Duration::from_secs) },
            _ => Attempt::Refused(error),
        }
    }

    /// Foreign text for a message: on one line, short, and without the key.
    fn shown(&self, text: &str) -> String {
        let text = match &self.key {
            Some(Key(key)) => text.replace(key.as_str(), "…"),
            None => text.to_owned(),
        };
        let words: Vec<_> = text.split_whitespace().collect();
        let line = words.join(" ");
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line,
        }
    }
}
