//! Where to send requests, and how patiently.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::Agent;

use crate::RemoteError;
use crate::budget::{Budget, SpendCap, Usage};
use crate::cache::Cache;
use crate::changes::Changes;
use crate::key::{Key, KeySource};
use crate::retry::Pause;
use crate::tally::Tally;

/// Which parameters a server understands beyond OpenAI's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Asks `GET {base_url}/models`: vLLM, SGLang and llama.cpp name themselves there. OpenAI's own addresses are spoken
    /// to as [`Dialect::OpenAi`]. Every other server is told as well that top-k, min-p and the repetition penalty are to do
    /// nothing, since many have defaults of their own; one that does not know them says so, and they are left out.
    #[default]
    Auto,
    /// OpenAI's parameters and no others.
    OpenAi,
    /// vLLM: token ids are asked for, every stop string is sent, and sampling parameters that a checkpoint's
    /// `generation_config.json` would change behind our back (top-k, min-p, repetition penalty) are set to nothing.
    Vllm,
}

/// Whom we speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    OpenAi,
    Vllm,
    SgLang,
    LlamaCpp,
    Other,
}

/// What a server calls the limit of new tokens in a conversation. One that says which name it wants gets it anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLimit {
    /// `max_tokens`, which every server but OpenAI's newest models takes.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// Unchecked settings; [`EndpointBuilder::check`] makes them an [`Endpoint`].
#[derive(Clone, Debug)]
pub struct EndpointBuilder {
    /// Everything before `/completions`, for example `http://localhost:8000/v1`.
    pub base_url: String,
    /// The model's name at the server.
    pub model: String,
    /// Where the key comes from. Default: none is sent.
    pub key: KeySource,
    /// Limit of one attempt, answer included. Default 10 minutes: a long response takes a while.
    pub timeout: Duration,
    /// Limit of reaching the server, a part of `timeout`. Default 10 s.
    pub connect_timeout: Duration,
    /// Attempts per request, the first included. Default 6.
    pub attempts: usize,
    /// Wait before the second attempt; it doubles for each later one, and a random half is taken off. Default 1 s.
    pub backoff: Duration,
    /// The longest such wait. Default 60 s.
    pub backoff_cap: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the request. Default 10 minutes.
    pub retry_after_cap: Duration,
    /// Requests under way at once. Default 8.
    pub concurrency: usize,
    /// A file that keeps every answer, so that asking the same again costs nothing, after an interruption too. May be shared
    /// by jobs and processes. Default: none.
    pub cache: Option<PathBuf>,
    /// At most so many requests are sent, attempts that fail included. Default: no cap.
    pub max_requests: Option<u64>,
    /// What may be spent. Default: no cap, and no account.
    pub spend: Option<SpendCap>,
    /// What the server understands. Default: it is asked.
    pub dialect: Dialect,
    /// What it calls the limit of new tokens in a conversation.
    pub token_limit: TokenLimit,
}

impl Default for EndpointBuilder {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            model: String::new(),
            key: KeySource::None,
            timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            attempts: 6,
            backoff: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            retry_after_cap: Duration::from_secs(600),
            concurrency: 8,
            cache: None,
            max_requests: None,
            spend: None,
            dialect: Dialect::Auto,
            token_limit: TokenLimit::MaxTokens,
        }
    }
}

impl EndpointBuilder {
    /// Checks the settings, reads the key, and opens the cache. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An address that is not HTTP or holds a password, an empty model, a zero, a price that is none, an absent key, a cache
    /// that cannot be opened.
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
            ("connect_timeout", self.connect_timeout.is_zero()),
            ("attempts", self.attempts == 0),
            ("concurrency", self.concurrency == 0),
        ];
        if let Some((field, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(RemoteError::Zero { field });
        }
        if let Some(cap) = &self.spend {
            cap.check()?;
        }
        let key = Key::read(&self.key)?;
        let cache = self.cache.as_deref().map(Cache::open).transpose()?;
        let config = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .timeout_connect(Some(self.connect_timeout.min(self.timeout)))
            .http_status_as_error(false)
            // Servers in Python hang up on a connection that was idle for 5 s; a request on its way then is lost.
            .max_idle_age(Duration::from_secs(3))
            // A redirect could carry the key to another host; those that do not are followed one by one.
            .max_redirects(0)
            .build();
        let shared = Shared {
            key,
            cache,
            budget: Budget::default(),
            pause: Pause::default(),
            server: OnceLock::new(),
            changes: Changes::default(),
            tally: Tally::default(),
        };
        Ok(Endpoint { agent: config.new_agent(), settings: self, shared: Arc::new(shared) })
    }
}

/// A server, a model, and how to ask it. Built by [`EndpointBuilder::check`]. Clones share the cache, the caps and the
/// account of what was used.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) agent: Agent,
    pub(crate) settings: EndpointBuilder,
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) key: Option<Key>,
    pub(crate) cache: Option<Cache>,
    pub(crate) budget: Budget,
    pub(crate) pause: Pause,
    pub(crate) server: OnceLock<Server>,
    pub(crate) changes: Changes,
    pub(crate) tally: Tally,
}

impl Endpoint {
    /// The settings it was built from.
    pub fn settings(&self) -> &EndpointBuilder {
        &self.settings
    }

    /// Parameters that the server has refused and that were left out from there on, so that its own defaults hold, in the
    /// order in which it refused them.
    pub fn left_to_server(&self) -> Vec<&'static str> {
        self.shared.changes.dropped()
    }

    /// What it and its clones have used so far.
    pub fn usage(&self) -> Usage {
        self.shared.budget.usage()
    }
}
