//! Completions as a sampler.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sami_policy::{FinishReason, Sample, SampleRequest, Sampler, SamplingParams, StreamKey};
use serde::{Deserialize, Serialize};

use crate::{Endpoint, RemoteError};

/// Samples from a server. Every request carries its own seed, so a server that honours seeds gives the same response to
/// the same request whatever else it is doing.
#[derive(Clone, Debug)]
pub struct RemoteSampler {
    endpoint: Endpoint,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    prompt: &'a str,
    max_tokens: usize,
    temperature: f64,
    top_p: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    seed: u32,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    text: String,
    finish_reason: Option<String>,
    /// vLLM says here which stop string it met; null at the end of the sequence.
    #[serde(default)]
    stop_reason: Option<serde_json::Value>,
}

impl RemoteSampler {
    /// Samples from this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    fn one(&self, request: &SampleRequest, params: &SamplingParams) -> Result<Sample, RemoteError> {
        let body = Body {
            model: &self.endpoint.settings().model,
            prompt: &request.prompt,
            max_tokens: params.max_new_tokens,
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: params.top_k,
            stop: &params.stop,
            seed: seed(request.stream),
        };
        let answer: Answer = self.endpoint.post("completions", &body)?;
        let bad =
            |reason: String| RemoteError::Answer { url: self.endpoint.settings().base_url.clone(), reason };
        let Some(Choice { mut text, finish_reason, stop_reason }) = answer.choices.into_iter().next() else {
            return Err(bad("it has no choice".to_owned()));
        };
        // Some servers leave the stop string in the text.
        let cut = params.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        if let Some(cut) = cut {
            text.truncate(cut);
        }
        let finish = match finish_reason.as_deref() {
            _ if cut.is_some() => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("stop") if stop_reason.as_ref().is_some_and(serde_json::Value::is_string) => {
                FinishReason::Stop
            }
            Some("stop") => FinishReason::Eos,
            other => {
                return Err(bad(format!("finish_reason is {other:?}; it must be \"stop\" or \"length\"")));
            }
        };
        Ok(Sample { text, token_ids: None, logps: None, finish })
    }
}

/// A 31-bit seed (servers differ in how many bits they take) from the request's stream.
fn seed(stream: StreamKey) -> u32 {
    let hash = stream
        .bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |h, &byte| (h ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash >> 1
}

impl Sampler for RemoteSampler {
    type Error = RemoteError;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Sample>, RemoteError> {
        if params.logps {
            return Err(RemoteError::Unsupported { what: "log-probabilities of sampled tokens (logps)" });
        }
        let next = AtomicUsize::new(0);
        let answers: Vec<Mutex<Option<Result<Sample, RemoteError>>>> =
            requests.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while let Some((request, answer)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                requests.get(index).zip(answers.get(index))
            } {
                let result = self.one(request, params);
                let failed = result.is_err();
                if let Ok(mut slot) = answer.lock() {
                    *slot = Some(result);
                }
                if failed {
                    // The others would only make the caller wait for the same error.
                    next.store(requests.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.endpoint.settings().concurrency.min(requests.len()) {
                scope.spawn(work);
            }
        });
        let answers: Vec<_> = answers
            .into_iter()
            .map(|slot| slot.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
            .collect();
        // An error ends the batch early, so the first error comes before the first answer that nobody fetched.
        let (samples, rest): (Vec<_>, Vec<_>) = answers.into_iter().flatten().partition(Result::is_ok);
        match rest.into_iter().next() {
            Some(Err(error)) => Err(error),
            _ => samples.into_iter().collect(),
        }
    }
}
