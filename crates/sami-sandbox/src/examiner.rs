//! Holds one exam for the base model and for every model that grows from it.

use sami_policy::{PolicyProvider, Sampler, SamplingParams, Start};

use crate::exam::{Answers, Exam, ExamError, Marks, policy};

/// The number of the base model's answers that all others are compared with, and that of the answers that are marked. Different
/// streams: a model that has not moved wins half of the comparisons, and no answer wins because it had the same luck.
const BASE: u64 = 0;
const MARKED: u64 = 1;

/// An exam, the base model and its answers.
#[derive(Debug)]
pub struct Examiner<'a, P> {
    exam: Exam,
    params: SamplingParams,
    provider: &'a P,
    base_answers: Answers,
}

impl<'a, P> Examiner<'a, P>
where
    P: PolicyProvider,
    P::Policy: Sampler,
{
    /// Lets the provider's base answer the exam.
    ///
    /// # Errors
    ///
    /// What the model refuses.
    pub fn new(exam: Exam, params: SamplingParams, provider: &'a P) -> Result<Self, ExamError> {
        let base_answers = exam.answers(&mut provider.policy(Start::Base).map_err(policy)?, &params, BASE)?;
        Ok(Self { exam, params, provider, base_answers })
    }

    /// The exam.
    pub fn exam(&self) -> &Exam {
        &self.exam
    }

    /// What the base answered.
    pub fn base_answers(&self) -> &Answers {
        &self.base_answers
    }

    /// Examines the base itself (from other random streams), or a model that was trained from it.
    ///
    /// # Errors
    ///
    /// What the models refuse.
    pub fn examine(&self, model: Start<'_>) -> Result<(Answers, Marks), ExamError> {
        let mut model = self.provider.policy(model).map_err(policy)?;
        let mut base = self.provider.policy(Start::Base).map_err(policy)?;
        let answers = self.exam.answers(&mut model, &self.params, MARKED)?;
        let marks = self.exam.mark(&mut model, &answers, &mut base, &self.base_answers)?;
        Ok((answers, marks))
    }
}
