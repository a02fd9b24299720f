//! A server as a sampler of completions and of answers to conversations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sami_policy::{
    ChatRequest, ChatSampler, Refusal, RefusalCause, Sample, SampleRequest, Sampler, SamplingParams,
    StreamKey,
};

use crate::endpoint::Server;
use crate::request::{Input, Request};
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
    server_defaults: bool,
    check: Option<Check>,
    counts: Arc<Counts>,
}

/// What is wrong with the token ids of an answer to a prompt, if anything.
#[derive(Clone)]
struct Check(Arc<TokenCheck>);

type TokenCheck = dyn Fn(&str, &Sample) -> Result<(), String> + Send + Sync;

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check(…)")
    }
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
        Self { endpoint, server_defaults: false, check: None, counts: Arc::default() }
    }

    /// Where the server refuses a sampling parameter that is as it is by default, its own value may take the place
    /// ([`Endpoint::left_to_server`] names it). Not for responses that train or are measured.
    #[must_use]
    pub fn accept_server_defaults(self) -> Self {
        Self { server_defaults: true, ..self }
    }

    /// Looks at each answer to a raw prompt that comes with token ids: `check` gets the prompt and the sample, and says what
    /// is wrong with the ids, as whoever has the model's tokenizer can. Such an answer is refused.
    #[must_use]
    pub fn check_tokens(
        self,
        check: impl Fn(&str, &Sample) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { check: Some(Check(Arc::new(check))), ..self }
    }

    fn checked(&self, prompt: &str, sample: Sample) -> Result<Sample, Refusal> {
        match &self.check {
            Some(Check(check)) if sample.token_ids.is_some() => match check(prompt, &sample) {
                Ok(()) => Ok(sample),
                Err(reason) => {
                    Err(Refusal::new(RefusalCause::Answer, format!("the server's token ids: {reason}")))
                }
            },
            _ => Ok(sample),
        }
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
        } else if self.counts.without_ids.fetch_add(1, Ordering::Relaxed) == 0
            && self.endpoint.server() != Server::Vllm
        {
            tracing::warn!(
                "{} tells no token ids: its text is tokenised again where it is scored",
                self.endpoint.settings().base_url
            );
        }
    }

    /// All of them, or the first error that concerns every request; it ends the batch early, for the others would only make
    /// the caller wait.
    fn all<'a, T: Sync>(
        &self,
        requests: &'a [T],
        params: &'a SamplingParams,
        one: impl Fn(&'a T) -> (Input<'a>, StreamKey) + Sync,
    ) -> Result<Vec<Result<Sample, Refusal>>, RemoteError> {
        if params.logps {
            return Err(RemoteError::Unsupported { what: "log-probabilities of sampled tokens (logps)" });
        }
        let threads = self.endpoint.settings().concurrency;
        let server_defaults = self.server_defaults;
        let ask = |item: &&'a T| {
            let (input, stream) = one(*item);
            self.endpoint.ask(&Request { input, params, stream, server_defaults })
        };
        let items: Vec<&'a T> = requests.iter().collect();
        let results = pool::each(threads, &items, Result::is_err, ask);
        let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().flatten().partition(Result::is_ok);
        if let Some(Err(error)) = bad.into_iter().next() {
            return Err(error);
        }
        let all = good.into_iter().collect::<Result<Vec<_>, _>>()?;
        if !all.is_empty() && all.iter().all(Result::is_err) {
            self.endpoint.refuses_all()?;
        }
        Ok(all)
    }
}

impl Sampler for RemoteSampler {
    type Error = RemoteError;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, RemoteError> {
        let samples =
            self.all(requests, params, |request| (Input::Prompt(&request.prompt), request.stream))?;
        let checked: Vec<_> = requests
            .iter()
            .zip(samples)
            .map(|(request, sample)| self.checked(&request.prompt, sample?))
            .collect();
        checked.iter().flatten().for_each(|sample| self.count(sample));
        Ok(checked)
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
        self.all(requests, params, |request| (Input::Chat(&request.messages), request.stream))
    }
}
