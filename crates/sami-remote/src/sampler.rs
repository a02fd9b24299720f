//! A server as a sampler of completions and of answers to conversations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sami_policy::{ChatRequest, ChatSampler, Refusal, Sample, SampleRequest, Sampler, SamplingParams};

use crate::wire::{Body, read};
use crate::{Endpoint, RemoteError, pool};

/// Samples from a server: raw prompts through `/completions`, conversations through `/chat/completions`. Every request
/// carries its own seed, so a server that honours seeds gives the same response to the same request whatever else it is
/// doing.
///
/// Text alone does not say which tokens were sampled. vLLM tells their ids, and the samples carry them; text from other
/// servers has none and will be tokenised again where it is scored. [`RemoteSampler::samples`] says how many are which.
/// Log-probabilities are never taken from a server.
#[derive(Clone, Debug)]
pub struct RemoteSampler {
    endpoint: Endpoint,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    with_ids: AtomicUsize,
    without_ids: AtomicUsize,
}

/// Samples of raw prompts so far, by whether the server told their token ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// They train on the sampled ids.
    pub with_token_ids: usize,
    /// Their text is tokenised again: no ids, or a cut at a stop string.
    pub retokenised: usize,
}

impl RemoteSampler {
    /// Samples from this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, counts: Arc::default() }
    }

    /// The endpoint, for what it has used.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How many samples came with token ids and how many without.
    pub fn samples(&self) -> SampleCounts {
        SampleCounts {
            with_token_ids: self.counts.with_ids.load(Ordering::Relaxed),
            retokenised: self.counts.without_ids.load(Ordering::Relaxed),
        }
    }

    fn count(&self, sample: &Sample) {
        if sample.token_ids.is_some() {
            self.counts.with_ids.fetch_add(1, Ordering::Relaxed);
        } else if self.counts.without_ids.fetch_add(1, Ordering::Relaxed) == 0 && !self.endpoint.is_vllm() {
            tracing::warn!(
                "{} tells no token ids: its text is tokenised again where it is scored",
                self.endpoint.settings().base_url
            );
        }
    }

    /// All of them, or the first error; a failure ends the batch early, for the others would only make the caller wait.
    fn all<T: Sync>(
        &self,
        requests: &[T],
        params: &SamplingParams,
        one: impl Fn(&T) -> Result<Sample, RemoteError> + Sync,
    ) -> Result<Vec<Sample>, RemoteError> {
        if params.logps {
            return Err(RemoteError::Unsupported { what: "log-probabilities of sampled tokens (logps)" });
        }
        let threads = self.endpoint.settings().concurrency;
        let results = pool::each(threads, requests, Result::is_err, one);
        let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().flatten().partition(Result::is_ok);
        if let Some(Err(error)) = bad.into_iter().next() {
            return Err(error);
        }
        good.into_iter().collect()
    }
}

impl Sampler for RemoteSampler {
    type Error = RemoteError;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, RemoteError> {
        let samples = self.all(requests, params, |request| {
            let body = Body::completion(&self.endpoint, &request.prompt, params, request.stream);
            self.endpoint.ask("completions", &body, params.max_new_tokens, |text| read(text, params))
        })?;
        samples.iter().for_each(|sample| self.count(sample));
        Ok(samples.into_iter().map(Ok).collect())
    }
}

impl ChatSampler for RemoteSampler {
    /// The server knows; one without a chat format refuses.
    fn has_chat_format(&self) -> bool {
        true
    }

    fn sample_chat(
        &mut self,
        requests: &[ChatRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, RemoteError> {
        let samples = self.all(requests, params, |request| {
            let body = Body::chat(&self.endpoint, &request.messages, params, request.stream);
            self.endpoint.ask("chat/completions", &body, params.max_new_tokens, |text| read(text, params))
        })?;
        Ok(samples.into_iter().map(Ok).collect())
    }
}
