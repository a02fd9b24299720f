//! One attempt at a request: what is posted, what comes back, and what that is.

use std::time::{Duration, SystemTime};

use sami_policy::{Refusal, RefusalCause, Sample};
use serde::Deserialize;

use crate::answer::{Reading, read};
use crate::budget::{Cost, Tokens};
use crate::client::ANSWER_LIMIT;
use crate::complaint::Complaint;
use crate::endpoint::Endpoint;
use crate::error::RemoteError;
use crate::mend::mend;
use crate::redirect::{Redirect, redirect};
use crate::request::Request;
use crate::retry::retry_after;

/// Redirects of one request that are followed.
const REDIRECTS: usize = 5;

/// What one attempt came to.
pub(crate) enum Attempt {
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
pub(crate) enum End {
    Refused(Refusal),
    Failed(RemoteError),
}

#[derive(Deserialize)]
struct Counted {
    usage: Option<Tokens>,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Endpoint {
    /// One attempt, and what it cost.
    pub(crate) fn attempt(
        &self,
        url: &str,
        body: &[u8],
        attempts: usize,
        request: &Request<'_>,
    ) -> (Attempt, Cost) {
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
}

fn counted(text: &str) -> Cost {
    let usage = serde_json::from_str(text).ok().and_then(|Counted { usage }| usage);
    usage.map_or(Cost::Unknown, Cost::Counted)
}
