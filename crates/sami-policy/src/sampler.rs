//! Text in, text out.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ContrastSet;

/// The key of one request's own random stream (a ChaCha key).
///
/// Draws depend on the key alone: not on the other requests of a batch, on resuming, or on the number of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey([u8; 32]);

impl StreamKey {
    /// The stream of (seed, iteration, query, constitution). Distinct arguments give distinct keys.
    pub fn new(seed: u64, iteration: u64, query: u64, constitution: u64) -> Self {
        let mut key = [0; 32];
        for (chunk, word) in key.chunks_exact_mut(8).zip([seed, iteration, query, constitution]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Self(key)
    }

    /// The key's bytes, to seed a ChaCha generator with.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// One prompt to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRequest {
    /// The raw prompt.
    pub prompt: String,
    /// The request's own random stream.
    pub stream: StreamKey,
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it with its end-of-sequence token.
    Eos,
    /// A stop string appeared; it and what follows are cut from the text.
    Stop,
    /// `max_new_tokens` was reached.
    Length,
}

/// A response as it was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The text after the prompt, without end-of-sequence token and without stop string.
    pub text: String,
    /// The sampled token ids in order, end-of-sequence included when it was sampled; `None` when the source cannot
    /// tell them, and after a cut at a stop string that is not a token boundary.
    pub token_ids: Option<Vec<u32>>,
    /// Log-probability of each sampled token at temperature 1, in nats, where asked for.
    pub logps: Option<Vec<f32>>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// Why one request has no sample, while those beside it have theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{message}")]
pub struct Refusal {
    /// Whose doing it is.
    pub cause: RefusalCause,
    /// What is wrong, in the words of whoever refused.
    pub message: String,
}

/// Whose doing a [`Refusal`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCause {
    /// The model cannot take the prompt: it is too long, or it holds a token that the model has no
    /// embedding for.
    Prompt,
    /// A server refused: its content filter, its limit of context.
    Server,
    /// An answer came, but it cannot be used.
    Answer,
}

impl Refusal {
    /// A refusal of this cause.
    pub fn new(cause: RefusalCause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
}

/// How to sample; only valid values. Built by [`SamplingParams::builder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SamplingParamsBuilder", into = "SamplingParamsBuilder")]
pub struct SamplingParams(SamplingParamsBuilder);

/// Unchecked sampling parameters; [`SamplingParamsBuilder::check`] makes them valid. The default is greedy, without
/// top-p or top-k, 256 new tokens, no stop string.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingParamsBuilder {
    /// At most this many tokens per response; at least 1.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens with at least this probability, in (0, 1]; 1 keeps all.
    pub top_p: f64,
    /// The k likeliest tokens only.
    pub top_k: Option<usize>,
    /// Ends a response where one of these appears, across token boundaries too.
    pub stop: Vec<String>,
    /// Also return the sampled tokens' log-probabilities.
    pub logps: bool,
}

impl Default for SamplingParamsBuilder {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            stop: Vec::new(),
            logps: false,
        }
    }
}

/// Which sampling parameter is impossible.
#[derive(Debug, Error, PartialEq)]
pub enum SamplingParamsError {
    /// No token allowed.
    #[error("max_new_tokens is 0; a response needs at least 1 token")]
    MaxNewTokens,
    /// Not a finite number at or above zero.
    #[error("temperature is {0}; it must be 0 (greedy) or a finite number above 0")]
    Temperature(f64),
    /// Outside (0, 1].
    #[error("top_p is {0}; it must lie in (0, 1]")]
    TopP(f64),
    /// Zero tokens to choose from.
    #[error("top_k is 0; leave it out to keep all tokens")]
    TopK,
    /// An empty stop string would end every response before it begins.
    #[error("stop string {0} is empty")]
    EmptyStop(usize),
}

impl SamplingParamsBuilder {
    /// The parameters, if each is possible.
    pub fn check(self) -> Result<SamplingParams, SamplingParamsError> {
        if self.max_new_tokens == 0 {
            return Err(SamplingParamsError::MaxNewTokens);
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(SamplingParamsError::Temperature(self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(SamplingParamsError::TopP(self.top_p));
        }
        if self.top_k == Some(0) {
            return Err(SamplingParamsError::TopK);
        }
        if let Some(index) = self.stop.iter().position(String::is_empty) {
            return Err(SamplingParamsError::EmptyStop(index));
        }
        Ok(SamplingParams(self))
    }
}

impl SamplingParams {
    /// Starts from the defaults of [`SamplingParamsBuilder`].
    pub fn builder() -> SamplingParamsBuilder {
        SamplingParamsBuilder::default()
    }
}

impl std::ops::Deref for SamplingParams {
    type Target = SamplingParamsBuilder;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl TryFrom<SamplingParamsBuilder> for SamplingParams {
    type Error = SamplingParamsError;
    fn try_from(builder: SamplingParamsBuilder) -> Result<Self, Self::Error> {
        builder.check()
    }
}

impl From<SamplingParams> for SamplingParamsBuilder {
    fn from(params: SamplingParams) -> Self {
        params.0
    }
}

/// A model that continues prompts.
pub trait Sampler {
    /// What can go wrong in the implementation.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One sample or refusal per request, in order. The draws for a request depend on its prompt, its
    /// stream and `params`, not on its neighbours (numerical noise of batched matrix products apart).
    ///
    /// # Errors
    ///
    /// What concerns all requests: a server that is not there, a model that computes nonsense. What
    /// concerns one request alone is its [`Refusal`], and the others go on.
    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, Self::Error>;

    /// The refusal of a request, as far as it can be known without sampling; `None` where it has to be
    /// tried, as with a server.
    ///
    /// # Errors
    ///
    /// What concerns all requests.
    fn prompt_refusal(
        &self,
        _request: &SampleRequest,
        _params: &SamplingParams,
    ) -> Result<Option<Refusal>, Self::Error> {
        Ok(None)
    }

    /// Why the sampling model, as a policy, could not score this set of its responses; `None` where it
    /// could, or where nothing is known, as with a server.
    ///
    /// # Errors
    ///
    /// What concerns all sets.
    fn set_refusal(&self, _set: &ContrastSet) -> Result<Option<Refusal>, Self::Error> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_parameters_are_refused_by_name() {
        let base = SamplingParams::builder();
        let broken = [
            (SamplingParamsBuilder { max_new_tokens: 0, ..base.clone() }, SamplingParamsError::MaxNewTokens),
            (
                SamplingParamsBuilder { temperature: -1.0, ..base.clone() },
                SamplingParamsError::Temperature(-1.0),
            ),
            (SamplingParamsBuilder { top_p: 0.0, ..base.clone() }, SamplingParamsError::TopP(0.0)),
            (SamplingParamsBuilder { top_p: 1.5, ..base.clone() }, SamplingParamsError::TopP(1.5)),
            (SamplingParamsBuilder { top_k: Some(0), ..base.clone() }, SamplingParamsError::TopK),
            (
                SamplingParamsBuilder { stop: vec!["a".into(), String::new()], ..base.clone() },
                SamplingParamsError::EmptyStop(1),
            ),
        ];
        for (builder, expected) in broken {
            assert_eq!(builder.check(), Err(expected));
        }
        assert!(SamplingParamsBuilder { temperature: f64::NAN, ..base.clone() }.check().is_err());
        assert!(base.check().is_ok());
    }

    #[test]
    fn stream_keys_differ_in_every_argument() {
        let keys = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
            .map(|(s, i, q, c)| StreamKey::new(s, i, q, c));
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b));
        }
    }
}
