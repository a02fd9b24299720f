//! A language model at hand as a judge.

use std::fmt;

use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, Comparison, Judge, Refusal, Role, Sample, SampleRequest,
    SamplingParams, SamplingParamsBuilder, StreamKey, Verdict,
};

/// Room for the comparison in at most 100 words that A.12 asks for, and the choice.
const MAX_NEW_TOKENS: usize = 512;
/// What a base model's answer begins with.
const OPENING: &str = "\n\nComparison:";
/// What the choice stands behind.
const MARK: &str = "final response";

/// Asks a model which of two responses follows the constitution better, at temperature 0: in its chat format where it has one,
/// otherwise as a text to continue, which ends at the choice.
///
/// A comparison that the model cannot be asked is [`Verdict::Failed`], and an answer without a clear choice
/// [`Verdict::Unparsable`]; the others go on.
#[derive(Clone, Debug)]
pub struct ModelJudge<S, P> {
    sampler: S,
    prompt: P,
    max_new_tokens: usize,
}

impl<S, P, E> ModelJudge<S, P>
where
    S: ChatSampler,
    P: Fn(&Comparison<'_>) -> Result<String, E>,
    E: fmt::Display,
{
    /// A judge that is asked what `prompt` makes of a comparison.
    pub fn new(sampler: S, prompt: P) -> Self {
        Self { sampler, prompt, max_new_tokens: MAX_NEW_TOKENS }
    }

    /// With another limit of tokens per answer than 512: models that think aloud before they answer need more.
    #[must_use]
    pub fn max_new_tokens(self, max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..self }
    }

    fn answers(
        &mut self,
        prompts: &[String],
        params: &SamplingParams,
    ) -> Result<Vec<Result<String, Refusal>>, S::Error> {
        // Greedy: the stream is never drawn from.
        let stream = StreamKey::new(0, 0, 0, 0);
        let text = |sample: Result<Sample, Refusal>| sample.map(|sample| sample.text);
        if self.sampler.has_chat_format() {
            let turn = |prompt: &String| ChatRequest {
                messages: vec![ChatMessage::new(Role::User, prompt.clone())],
                stream,
            };
            let requests: Vec<_> = prompts.iter().map(turn).collect();
            return Ok(self.sampler.sample_chat(&requests, params)?.into_iter().map(text).collect());
        }
        let request = |prompt: &String| SampleRequest { prompt: format!("{prompt}{OPENING}"), stream };
        let requests: Vec<_> = prompts.iter().map(request).collect();
        let samples = self.sampler.sample(&requests, params)?;
        Ok(samples.into_iter().map(|sample| text(sample).map(first_choice)).collect())
    }
}

/// A base model goes on with further comparisons of its own: only the first one was asked for.
fn first_choice(mut answer: String) -> String {
    // Case is folded letter by letter, so that places stay the same.
    let lower = answer.to_ascii_lowercase();
    if let Some(at) = lower.find(MARK) {
        let after = at + MARK.len();
        // The choice may stand on the next line.
        let written = lower[after..].find(|c: char| c.is_ascii_alphanumeric()).map_or(after, |i| after + i);
        let end = lower[written..].find('\n').map_or(answer.len(), |i| written + i);
        answer.truncate(end);
    }
    answer
}

impl<S, P, E> Judge for ModelJudge<S, P>
where
    S: ChatSampler,
    P: Fn(&Comparison<'_>) -> Result<String, E>,
    E: fmt::Display,
{
    fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Vec<Verdict> {
        let failed = |reason: &dyn fmt::Display| Verdict::Failed { reason: reason.to_string() };
        let builder =
            SamplingParamsBuilder { max_new_tokens: self.max_new_tokens, ..SamplingParams::builder() };
        let params = match builder.check() {
            Ok(params) => params,
            Err(error) => return comparisons.iter().map(|_| failed(&error)).collect(),
        };
        let prompts: Vec<Result<String, E>> = comparisons.iter().map(&self.prompt).collect();
        let asked: Vec<String> = prompts.iter().flatten().cloned().collect();
        let mut answers = match self.answers(&asked, &params) {
            Ok(answers) => answers.into_iter(),
            Err(error) => return comparisons.iter().map(|_| failed(&error)).collect(),
        };
        let verdicts = prompts.iter().map(|prompt| match prompt {
            Err(error) => failed(error),
            Ok(_) => match answers.next() {
                Some(Ok(answer)) => Verdict::read(&answer),
                Some(Err(refusal)) => failed(&refusal),
                None => failed(&"the model gave no answer"),
            },
        });
        verdicts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sami_policy::{FinishReason, RefusalCause, Sampler};

    /// A model that repeats what it is asked, behind `before`; refuses prompts with the word "long".
    struct Echo {
        chat: bool,
        before: &'static str,
        asked: Vec<usize>,
    }

    impl Echo {
        fn answer(&mut self, prompts: Vec<String>) -> Vec<Result<Sample, Refusal>> {
            self.asked.push(prompts.len());
            let sample = |prompt: String| {
                if prompt.contains("long") {
                    let message = "a prompt is longer than the model's context";
                    return Err(Refusal::new(RefusalCause::Prompt, message));
                }
                let (token_ids, logps, finish) = (None, None, FinishReason::Eos);
                Ok(Sample { text: format!("{}{prompt}", self.before), token_ids, logps, finish })
            };
            prompts.into_iter().map(sample).collect()
        }
    }

    impl Sampler for Echo {
        type Error = Problem;
        fn sample(
            &mut self,
            requests: &[SampleRequest],
            _: &SamplingParams,
        ) -> Result<Vec<Result<Sample, Refusal>>, Problem> {
            assert!(!self.chat && requests.iter().all(|one| one.prompt.ends_with("\n\nComparison:")));
            Ok(self.answer(requests.iter().map(|one| one.prompt.clone()).collect()))
        }
    }

    impl ChatSampler for Echo {
        fn has_chat_format(&self) -> bool {
            self.chat
        }
        fn sample_chat(
            &mut self,
            requests: &[ChatRequest],
            params: &SamplingParams,
        ) -> Result<Vec<Result<Sample, Refusal>>, Problem> {
            assert!(self.chat && params.temperature == 0.0);
            Ok(self.answer(requests.iter().map(|one| one.messages[0].content.clone()).collect()))
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Problem(String);

    fn comparison<'a>(response_a: &'a str) -> Comparison<'a> {
        Comparison { query: "q", constitution: "c", response_a, response_b: "b" }
    }

    fn judge(chat: bool, before: &'static str, responses: &[&str]) -> (Vec<Verdict>, Vec<usize>) {
        let echo = Echo { chat, before, asked: Vec::new() };
        let mut judge = ModelJudge::new(echo, |it: &Comparison<'_>| match it.response_a {
            "unprintable" => Err("the template failed"),
            text => Ok(text.to_owned()),
        });
        let comparisons: Vec<_> = responses.iter().map(|text| comparison(text)).collect();
        (judge.judge(&comparisons), judge.sampler.asked)
    }

    #[test]
    fn a_chat_model_is_asked_in_turns_and_each_comparison_fails_alone() {
        let failed = |reason: &str| Verdict::Failed { reason: reason.to_owned() };
        let (verdicts, asked) =
            judge(true, "", &["Final Response: A", "unprintable", "Final Response: B", "who knows, not me"]);
        assert_eq!(verdicts[..3], [Verdict::A, failed("the template failed"), Verdict::B]);
        assert_eq!(verdicts[3], Verdict::Unparsable { answer: "who knows, not me".into() });
        assert_eq!(asked, [3]);
        let (verdicts, asked) = judge(true, "", &["Final Response: A", "too long", "Final Response: tie"]);
        assert_eq!(
            verdicts,
            [Verdict::A, failed("a prompt is longer than the model's context"), Verdict::Tie]
        );
        assert_eq!(asked, [3]);
        assert!(judge(true, "", &[]).0.is_empty());
    }

    #[test]
    fn a_base_model_is_heard_to_its_first_choice() {
        let goes_on = " A is short.\nFinal Response:\n**B**\n\nComparison: next\nFinal Response: A\n";
        assert_eq!(judge(false, goes_on, &["x"]).0, [Verdict::B]);
        let never_ends = " ÄÖ and so on, FINAL RESPONSE";
        assert!(matches!(judge(false, never_ends, &["x"]).0[..], [Verdict::Unparsable { .. }]));
    }
}
