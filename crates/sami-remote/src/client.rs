//! One question and its answer: from the cache, or from the server with patience.

use std::time::{Duration, SystemTime};

use sami_policy::{Refusal, RefusalCause, Sample};
use serde::Deserialize;

use crate::answer::{Reading, read};
use crate::budget::{Cost, Tokens};
use crate::cache::request_hash;
use crate::complaint::{About, Complaint};
use crate::endpoint::{Dialect, Endpoint, Server};
use crate::error::RemoteError;
use crate::mend::mend;
use crate::redirect::{Redirect, redirect};
use crate::request::Request;
use crate::retry::{backoff, retry_after};
use crate::tally::{AllRefused, CameTo};

/// Bytes of an answer that are read at most.
const ANSWER_LIMIT: u64 = 64 << 20;
/// Characters of a refusal that are shown.
const SHOWN: usize = 300;
/// Redirects of one request that are followed.
const REDIRECTS: usize = 5;

/// What one attempt came to.
enum Attempt {
    Answered(Sample, String),
    /// The server takes the request for wrong.
    Complaint(Complaint),
    /// An answer that cannot be used.
    Refused(Refusal),
    /// Another attempt may do; if it was the last one, this is what the request came to.
    Again {
        end: Box<End>,
        wait: Option<Duration>,
    },
    Failed(RemoteError),
}

/// What a request comes to without an answer.
enum End {
    Refused(Refusal),
    Failed(RemoteError),
}

/// What a request came to, after as many attempts as it took.
enum Outcome {
    Answered(Sample, String),
    Complaint(Complaint),
    Refused(Refusal),
}

/// What a request came to, its changes included.
enum Exchange {
    Cached(Sample),
    Answered(Sample),
    Refused {
        refusal: Refusal,
        /// Whether the server's words say that the prompt is the cause.
        of_prompt: bool,
    },
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

    /// What kind of server it is; asked once.
    pub(crate) fn server(&self) -> Server {
        match self.settings.dialect {
            Dialect::OpenAi => Server::OpenAi,
            Dialect::Vllm => Server::Vllm,
            Dialect::Auto if self.is_openai() => Server::OpenAi,
            Dialect::Auto => *self.shared.server.get_or_init(|| self.ask_who()),
        }
    }

    /// OpenAI itself, which refuses parameters that it does not know.
    fn is_openai(&self) -> bool {
        let host = self.settings.base_url.split("://").nth(1).unwrap_or_default();
        let host = host.split(['/', ':']).next().unwrap_or_default();
        host == "api.openai.com" || host.ends_with(".openai.azure.com")
    }

    /// A server that cannot say is spoken to in plain terms; should it be gone, the first real request will tell.
    fn ask_who(&self) -> Server {
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
        let owner = models.and_then(|models| models.data.into_iter().next()).map(|model| model.owned_by);
        match owner.as_deref() {
            Some("vllm") => Server::Vllm,
            Some("sglang") => Server::SgLang,
            Some("llamacpp") => Server::LlamaCpp,
            _ => Server::Other,
        }
    }

    /// Posts a request and reads the answer, unless the cache has it. Tries again where that may help, and without a
    /// parameter that the server refuses where that may be left out. A request that the server refuses for its own sake
    /// is a [`Refusal`].
    ///
    /// # Errors
    ///
    /// What concerns every request: the last attempt's error, with the number of attempts; a cap; a cache that fails; a
    /// parameter that the server refuses and that cannot be left to it; a server that has refused everything.
    pub(crate) fn ask(&self, request: &Request<'_>) -> Result<Result<Sample, Refusal>, RemoteError> {
        let url = self.url(request.path());
        self.shared.tally.begin().map_err(|all| refuses_all(&url, all))?;
        let result = self.exchange(&url, request);
        self.shared.tally.end(match &result {
            Ok(Exchange::Answered(_)) => CameTo::Answer,
            Ok(Exchange::Refused { refusal, of_prompt }) => {
                CameTo::Refusal { message: &refusal.message, of_prompt: *of_prompt }
            }
            // A cache says nothing about the server.
            Ok(Exchange::Cached(_)) | Err(_) => CameTo::Nothing,
        });
        result.map(|exchange| match exchange {
            Exchange::Cached(sample) | Exchange::Answered(sample) => Ok(sample),
            Exchange::Refused { refusal, .. } => Err(refusal),
        })
    }

    /// After a batch: an error if the server has refused all that it was ever asked.
    pub(crate) fn refuses_all(&self) -> Result<(), RemoteError> {
        let url = &self.settings.base_url;
        self.shared.tally.all_refused().map_err(|all| refuses_all(url, all))
    }

    fn exchange(&self, url: &str, request: &Request<'_>) -> Result<Exchange, RemoteError> {
        loop {
            let body = request.body(self, &self.shared.changes.so_far());
            let bytes = serde_json::to_vec(&body).map_err(RemoteError::Request)?;
            // Where the server takes no seed, two draws are two requests all the same.
            let unsent = request.seed().filter(|_| !body.contains_key("seed"));
            let hash = request_hash(url, &bytes, unsent);
            let flight = self.shared.cache.as_ref().map(|cache| (cache, cache.take_off(hash)));
            if let Some((cache, _)) = &flight
                && let Some(known) = cache.get(&hash)?
                && let Reading::Sample(sample) = read(&known, request.params)
            {
                self.shared.budget.count_cached();
                return Ok(Exchange::Cached(sample));
            }
            // A token has at least one byte, and the names of the fields are room for the marks of a chat format.
            let response = request.params.max_new_tokens as u64;
            let bound = Tokens { prompt: bytes.len() as u64, response };
            match self.insist(url, &bytes, bound, request)? {
                Outcome::Answered(sample, text) => {
                    if let Some((cache, _)) = &flight {
                        cache.put(hash, &text)?;
                    }
                    return Ok(Exchange::Answered(sample));
                }
                Outcome::Refused(refusal) => return Ok(Exchange::Refused { refusal, of_prompt: false }),
                Outcome::Complaint(complaint) => {
                    let shown = self.shown(&complaint.message);
                    if self.shared.changes.add(request, &body, url, &complaint, &shown)? {
                        continue;
                    }
                    let of_prompt = complaint.about() != About::Other;
                    return Ok(Exchange::Refused { refusal: refused(&complaint, shown), of_prompt });
                }
            }
        }
    }

    /// What a request came to, after as many attempts as it takes and the settings allow.
    fn insist(
        &self,
        url: &str,
        body: &[u8],
        bound: Tokens,
        request: &Request<'_>,
    ) -> Result<Outcome, RemoteError> {
        let settings = &self.settings;
        let mut attempt = 1;
        loop {
            self.shared.pause.wait();
            let budget = &self.shared.budget;
            let reservation = budget.reserve(settings.max_requests, settings.spend, bound, attempt > 1)?;
            let (outcome, cost) = self.attempt(url, body, attempt, request);
            budget.settle(reservation, settings.spend, cost);
            match outcome {
                Attempt::Answered(sample, text) => return Ok(Outcome::Answered(sample, text)),
                Attempt::Complaint(complaint) => return Ok(Outcome::Complaint(complaint)),
                Attempt::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again { end, .. } if attempt >= settings.attempts => {
                    return match *end {
                        End::Refused(refusal) => Ok(Outcome::Refused(refusal)),
                        End::Failed(error) => Err(error),
                    };
                }
                Attempt::Again { end, wait } => {
                    let own = backoff(settings.backoff, settings.backoff_cap, attempt);
                    let wait = self.patience(&end, url, wait)?.map_or(own, |asked| asked.max(own));
                    tracing::info!("{end}; trying again in {:.1} s", wait.as_secs_f64());
                    std::thread::sleep(wait);
                    attempt += 1;
                }
            }
        }
    }

    /// What the server asked to wait, if the settings allow it; others are made to wait too.
    fn patience(
        &self,
        end: &End,
        url: &str,
        asked: Option<Duration>,
    ) -> Result<Option<Duration>, RemoteError> {
        let Some(asked) = asked else { return Ok(None) };
        if asked > self.settings.retry_after_cap {
            let status = match end {
                End::Failed(RemoteError::Status { status, .. }) => *status,
                _ => 0,
            };
            let most = self.settings.retry_after_cap.as_secs();
            return Err(RemoteError::Wait { url: url.to_owned(), status, seconds: asked.as_secs(), most });
        }
        self.shared.pause.extend(asked);
        Ok(Some(asked))
    }

    /// One attempt, and what it cost.
    fn attempt(&self, url: &str, body: &[u8], attempts: usize, request: &Request<'_>) -> (Attempt, Cost) {
        // The server may have answered what we never saw.
        let broken = |reason: String, cost: Cost| {
            let error = RemoteError::Transport { url: url.to_owned(), attempts, reason: self.shown(&reason) };
            (Attempt::Again { end: Box::new(End::Failed(error)), wait: None }, cost)
        };
        let mut response = match self.post(url, body) {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return (Attempt::Failed(error), Cost::Nothing),
            Err(error @ (ureq::Error::HostNotFound | ureq::Error::ConnectionFailed)) => {
                return broken(error.to_string(), Cost::Nothing);
            }
            Err(error) => return broken(error.to_string(), Cost::Unknown),
        };
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let milliseconds = header("retry-after-ms").and_then(|value| value.trim().parse().ok());
        let wait = milliseconds
            .map(Duration::from_millis)
            .or_else(|| retry_after(header("retry-after")?, SystemTime::now()));
        let bytes = match response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec() {
            Ok(bytes) => bytes,
            Err(error) => return broken(error.to_string(), Cost::Unknown),
        };
        let mended = mend(&bytes);
        if !(200..300).contains(&status) {
            return (self.refusal(url, Complaint::read(status, &mended.text), attempts, wait), Cost::Nothing);
        }
        // A proxy's page, or half an answer.
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&mended.text) {
            return broken(format!("the answer is no JSON: {error}"), Cost::Unknown);
        }
        if mended.replaced {
            tracing::warn!("{url}: an answer holds half a character; it is replaced by U+FFFD");
        }
        let cost = counted(&mended.text);
        match read(&mended.text, request.params) {
            Reading::Sample(sample) => (Attempt::Answered(sample, mended.text), cost),
            Reading::Refused(mut refusal) => {
                refusal.message = self.shown(&refusal.message);
                (Attempt::Refused(refusal), cost)
            }
            Reading::BrokenOff(reason) => {
                let message = format!("the server broke {attempts} answers off: {reason}");
                let end = End::Refused(Refusal::new(RefusalCause::Server, self.shown(&message)));
                (Attempt::Again { end: Box::new(end), wait }, cost)
            }
            Reading::Complaint(complaint) => {
                let cost = if matches!(cost, Cost::Unknown) { Cost::Nothing } else { cost };
                (self.refusal(url, complaint, attempts, wait), cost)
            }
        }
    }

    /// Posts, and follows redirects that stay with the server: the key is for nobody else.
    fn post(
        &self,
        url: &str,
        body: &[u8],
    ) -> Result<Result<ureq::http::Response<ureq::Body>, RemoteError>, ureq::Error> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.post(&at).header("Content-Type", "application/json");
            if let Some(key) = &self.shared.key {
                request = request.header("Authorization", key.header());
            }
            let response = request.send(body)?;
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            match redirect(&at, response.status().as_u16(), location) {
                Redirect::No => return Ok(Ok(response)),
                Redirect::To(next) => at = next,
                Redirect::Elsewhere(to) => {
                    let to = self.shown(&to);
                    return Ok(Err(RemoteError::Redirect { url: at, to }));
                }
            }
        }
        Ok(Err(RemoteError::Redirect { url: url.to_owned(), to: at }))
    }

    /// What a complaint makes of a request.
    fn refusal(&self, url: &str, complaint: Complaint, attempts: usize, wait: Option<Duration>) -> Attempt {
        let message = self.shown(&complaint.message);
        let status = complaint.status.unwrap_or(200);
        let error = RemoteError::Status { url: url.to_owned(), status, attempts, message };
        if complaint.is_passing() {
            Attempt::Again { end: Box::new(End::Failed(error)), wait }
        } else if complaint.is_about_the_request() {
            Attempt::Complaint(complaint)
        } else {
            Attempt::Failed(error)
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

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

fn refused(complaint: &Complaint, shown: String) -> Refusal {
    let message = match complaint.status {
        Some(status) => format!("the server refuses (status {status}): {shown}"),
        None => format!("the server refuses: {shown}"),
    };
    Refusal::new(RefusalCause::Server, message)
}

fn refuses_all(url: &str, all: AllRefused) -> RemoteError {
    RemoteError::RefusesAll { url: url.to_owned(), refused: all.refused, message: all.message }
}

fn counted(text: &str) -> Cost {
    let usage = serde_json::from_str(text).ok().and_then(|Counted { usage }| usage);
    usage.map_or(Cost::Unknown, Cost::Counted)
}
