//! One question and its answer: from the cache, or from the server with patience.

use std::time::Duration;

use sami_policy::{Refusal, RefusalCause, Sample};

use crate::answer::{Reading, read};
use crate::attempt::{Attempt, End};
use crate::budget::Tokens;
use crate::cache::request_hash;
use crate::complaint::{About, Complaint};
use crate::endpoint::Endpoint;
use crate::error::RemoteError;
use crate::request::Request;
use crate::retry::backoff;
use crate::tally::{AllRefused, CameTo};

/// Bytes of an answer that are read at most.
pub(crate) const ANSWER_LIMIT: u64 = 64 << 20;
/// Characters of a refusal that are shown.
const SHOWN: usize = 300;

/// What a request came to, after as many attempts as it took.
enum Outcome {
    Answered(Sample, String),
    /// And how many attempts were made.
    Complaint(Complaint, usize),
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

impl Endpoint {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.base_url.trim_end_matches('/'))
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
                Outcome::Complaint(complaint, attempts) => {
                    let shown = self.shown(&complaint.message);
                    if self.shared.changes.add(request, &body, url, &complaint, &shown)? {
                        continue;
                    }
                    let of_prompt = complaint.about() != About::Other;
                    return Ok(Exchange::Refused {
                        refusal: refused(&complaint, attempts, &shown),
                        of_prompt,
                    });
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
                Attempt::Complaint(complaint) => return Ok(Outcome::Complaint(complaint, attempt)),
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

fn refused(complaint: &Complaint, attempts: usize, shown: &str) -> Refusal {
    let status = complaint.status.unwrap_or(200);
    Refusal::new(RefusalCause::Server, format!("status {status} after {attempts} attempts: {shown}"))
}

fn refuses_all(url: &str, all: AllRefused) -> RemoteError {
    RemoteError::RefusesAll { url: url.to_owned(), refused: all.refused, message: all.message }
}
