//! A language model behind a server as a judge.

use std::fmt;

use sami_policy::{
    ChatMessage, Comparison, Judge, Role, SamplingParams, SamplingParamsBuilder, SamplingParamsError,
    StreamKey, Verdict,
};

use crate::request::{Input, Request};
use crate::{Endpoint, RemoteError, pool};

/// Asks a chat model which of two responses follows the constitution better (section 5 and A.12: at temperature 0).
///
/// What it is asked is the caller's: for a task's own judge prompt, render it in the closure. Which response is shown first
/// is the caller's too: [`Comparison::response_a`] is. Every comparison has its own verdict: one that cannot be asked, or is
/// not answered, is [`Verdict::Failed`] with the reason, and an answer without a clear choice is [`Verdict::Unparsable`]; the
/// others go on. A server that takes no temperature of 0 judges at its own ([`Endpoint::left_to_server`] names it).
///
/// ```no_run
/// use sami_policy::Comparison;
/// use sami_remote::{EndpointBuilder, RemoteJudge};
///
/// let endpoint = EndpointBuilder {
///     base_url: "http://localhost:8000/v1".into(),
///     model: "a-judge".into(),
///     ..EndpointBuilder::default()
/// };
/// let judge = RemoteJudge::new(endpoint.check()?, |it: &Comparison<'_>| {
///     Ok::<_, std::fmt::Error>(format!("{}\nA: {}\nB: {}", it.constitution, it.response_a, it.response_b))
/// });
/// # Ok::<(), sami_remote::RemoteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RemoteJudge<P> {
    endpoint: Endpoint,
    prompt: P,
    max_new_tokens: usize,
}

/// Room for the comparison in at most 100 words that A.12 asks for, and the choice.
const MAX_NEW_TOKENS: usize = 512;

impl<P, E> RemoteJudge<P>
where
    P: Fn(&Comparison<'_>) -> Result<String, E> + Sync,
    E: fmt::Display,
{
    /// A judge that is asked what `prompt` makes of a comparison.
    pub fn new(endpoint: Endpoint, prompt: P) -> Self {
        Self { endpoint, prompt, max_new_tokens: MAX_NEW_TOKENS }
    }

    /// With another limit of tokens per answer than 512: models that think aloud before they answer need more.
    #[must_use]
    pub fn max_new_tokens(self, max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..self }
    }

    /// The endpoint, for what it has used.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn params(&self) -> Result<SamplingParams, SamplingParamsError> {
        SamplingParamsBuilder { max_new_tokens: self.max_new_tokens, ..SamplingParams::builder() }.check()
    }

    /// The error is one that concerns every comparison.
    fn one(&self, comparison: &Comparison<'_>) -> Result<Verdict, RemoteError> {
        let failed = |reason: &dyn fmt::Display| Verdict::Failed { reason: reason.to_string() };
        let params = match self.params() {
            Ok(params) => params,
            Err(error) => return Ok(failed(&error)),
        };
        let messages = match (self.prompt)(comparison) {
            Ok(prompt) => [ChatMessage::new(Role::User, prompt)],
            Err(error) => return Ok(failed(&error)),
        };
        // Greedy: the stream is never drawn from, and one comparison always is one request.
        let stream = StreamKey::new(0, 0, 0, 0);
        let input = Input::Chat(&messages);
        let answer = self.endpoint.ask(&Request { input, params: &params, stream, server_defaults: true })?;
        Ok(match answer {
            Ok(sample) => Verdict::read(&sample.text),
            Err(refusal) => failed(&refusal),
        })
    }
}

impl<P, E> Judge for RemoteJudge<P>
where
    P: Fn(&Comparison<'_>) -> Result<String, E> + Sync,
    E: fmt::Display,
{
    fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
        let threads = self.endpoint.settings().concurrency;
        let verdicts = pool::each(threads, comparisons, |_| false, |comparison| self.one(comparison));
        let all_refused = self.endpoint.refuses_all().err();
        let error = verdicts.iter().flatten().find_map(|verdict| verdict.as_ref().err());
        if let Some(error) = error.or(all_refused.as_ref()) {
            tracing::warn!("{error}");
        }
        let failed = |reason: String| Verdict::Failed { reason };
        let verdict = |verdict: Option<Result<Verdict, RemoteError>>| match verdict {
            Some(verdict) => verdict.unwrap_or_else(|error| failed(error.to_string())),
            None => failed("it was not asked".to_owned()),
        };
        verdicts.into_iter().map(verdict).collect()
    }
}
