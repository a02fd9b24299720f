//! An instruct model where a base model is expected: every prompt becomes a user's turn in its chat format.

use std::path::Path;

use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, ContrastPolicy, ContrastSet, GradientOf, Refusal, Role, Sample,
    SampleRequest, Sampler, SamplingParams, SetLogps,
};
use sami_torch::{ChatTemplate, Error, TorchPolicy};

use crate::failure::Failure;

/// Samples and scores alike through the chat format, so that mutual information is estimated under the prompts that were asked.
pub(crate) struct Instructed {
    policy: TorchPolicy,
    template: ChatTemplate,
}

impl Instructed {
    /// A checkpoint with a chat template.
    pub(crate) fn new(policy: TorchPolicy, model: &Path) -> Result<Self, Failure> {
        let Some(template) = ChatTemplate::open(model)? else {
            let reason = format!(
                "{} has no chat template; a base model reads the prompts as they are, with --reference",
                model.display()
            );
            return Err(Failure::Argument { argument: "--instruct", reason });
        };
        Ok(Self { policy, template })
    }

    fn turn(&self, prompt: &str) -> Result<String, Error> {
        self.template.render(&[ChatMessage::new(Role::User, prompt)], true)
    }

    fn turns(&self, sets: &[ContrastSet]) -> Result<Vec<ContrastSet>, Error> {
        let each = sets.iter().map(|set| {
            let prompts =
                set.prompts().iter().map(|prompt| self.turn(prompt)).collect::<Result<_, Error>>()?;
            ContrastSet::new(set.id(), prompts, set.responses().to_vec())
                .map_err(|error| Error::Option { option: "chat_template", reason: error.to_string() })
        });
        each.collect()
    }
}

impl Sampler for Instructed {
    type Error = Error;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, Error> {
        let turn = |request: &SampleRequest| ChatRequest {
            messages: vec![ChatMessage::new(Role::User, request.prompt.clone())],
            stream: request.stream,
        };
        self.policy.sample_chat(&requests.iter().map(turn).collect::<Vec<_>>(), params)
    }
}

impl ContrastPolicy for Instructed {
    type Error = Error;

    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, Error> {
        self.policy.score(&self.turns(sets)?)
    }

    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, Error> {
        self.policy.contrast_step(&self.turns(sets)?, gradient)
    }
}
