//! An instruct model where a base model is expected: every prompt becomes a user's turn in its chat format.

use std::path::Path;

use sami_policy::{
    ChatMessage, ContrastPolicy, ContrastSet, GradientOf, Refusal, Role, Sample, SampleRequest, Sampler,
    SamplingParams, SetLogps,
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

    /// The request as a turn, or why the chat format refuses it.
    fn request(&self, request: &SampleRequest) -> Result<Result<SampleRequest, Refusal>, Error> {
        match self.turn(&request.prompt) {
            Ok(prompt) => Ok(Ok(SampleRequest { prompt, stream: request.stream })),
            Err(error) => error.into_refusal().map(Err),
        }
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
        let turns: Vec<_> = requests.iter().map(|request| self.request(request)).collect::<Result<_, _>>()?;
        let asked: Vec<SampleRequest> = turns.iter().flatten().cloned().collect();
        let mut samples = self.policy.sample(&asked, params)?.into_iter();
        let outcomes = turns.into_iter().filter_map(|turn| match turn {
            Ok(_) => samples.next(),
            Err(refusal) => Some(Err(refusal)),
        });
        Ok(outcomes.collect())
    }

    fn prompt_refusal(
        &self,
        request: &SampleRequest,
        params: &SamplingParams,
    ) -> Result<Option<Refusal>, Error> {
        match self.request(request)? {
            Ok(turn) => self.policy.prompt_refusal(&turn, params),
            Err(refusal) => Ok(Some(refusal)),
        }
    }

    fn set_refusal(&self, set: &ContrastSet) -> Result<Option<Refusal>, Error> {
        self.refusal(set)
    }
}

impl ContrastPolicy for Instructed {
    type Error = Error;

    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, Error> {
        self.policy.score(&self.turns(sets)?)
    }

    fn refusal(&self, set: &ContrastSet) -> Result<Option<Refusal>, Error> {
        match self.turns(std::slice::from_ref(set)) {
            Ok(turns) => turns.first().map_or(Ok(None), |set| self.policy.refusal(set)),
            Err(error) => error.into_refusal().map(Some),
        }
    }

    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, Error> {
        self.policy.contrast_step(&self.turns(sets)?, gradient)
    }
}
