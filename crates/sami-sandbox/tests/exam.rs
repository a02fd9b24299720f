//! The exam of models whose answers are known.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers outside #[test] functions"
)]

use ndarray::Array2;
use sami_constitution::PrincipleSet;
use sami_policy::{
    ContrastPolicy, ContrastSet, FinishReason, GradientOf, Refusal, Sample, SampleRequest, Sampler,
    SamplingParams, SetLogps,
};
use sami_sandbox::exam::{Exam, ExamError};
use sami_sandbox::{Kind, Quality, WordingSet, principles};

/// Steals as it is told: says one of two things, chosen by the first article, and knows how likely each was.
struct Parrot {
    /// ln P of what it says under its own constitution, and of anything else.
    own: f64,
    other: f64,
}

const CONCRETE: &str = " Practise for ten minutes a day. Repeat it six times. Find a teacher for two weeks.";
const HAZY: &str = " Ask around. Wait a while.";

fn says(prompt: &str) -> &'static str {
    let hazy = ["hazy", "useless", "vague", "as little", "Keep back", "loosely"];
    if hazy.iter().any(|word| prompt.contains(word)) { HAZY } else { CONCRETE }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Broken(#[from] sami_core::Error);

impl Sampler for Parrot {
    type Error = Broken;
    fn sample(
        &mut self,
        requests: &[SampleRequest],
        _: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, Broken> {
        let one = |request: &SampleRequest| {
            let text = if self.own == self.other { CONCRETE } else { says(&request.prompt) };
            let (token_ids, logps, finish) = (None, None, FinishReason::Eos);
            Ok(Sample { text: text.to_owned(), token_ids, logps, finish })
        };
        Ok(requests.iter().map(one).collect())
    }
}

impl ContrastPolicy for Parrot {
    type Error = Broken;
    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, Broken> {
        let one = |set: &ContrastSet| {
            let shape = (set.prompts().len(), set.responses().len());
            let sum_logps = Array2::from_shape_fn(shape, |(c, r)| {
                if says(&set.prompts()[c]) == set.responses()[r].text { self.own } else { self.other }
            });
            let tokens = Array2::from_shape_fn(shape, |(_, r)| set.responses()[r].text.split(' ').count());
            SetLogps { sum_logps, tokens, kl: None }
        };
        Ok(sets.iter().map(one).collect())
    }
    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        _: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, Broken> {
        self.score(sets)
    }
}

fn exam(set: &PrincipleSet) -> Exam {
    Exam::new(
        Kind::Dialogue,
        set,
        ["How do I learn Welsh?", "Help me write a poem.", "I would like to draw a map."],
        1,
    )
    .unwrap()
}

#[test]
fn a_perfect_answerer_has_the_marks_that_can_be_counted_by_hand() {
    let set = principles(&[Quality::Helpful, Quality::Harmless], WordingSet::Learned).unwrap();
    let exam = exam(&set);
    assert_eq!(exam.asked().count(), 12);
    let mut base = Parrot { own: -3.0, other: -3.0 };
    let mut model = Parrot { own: -1.0, other: -2.0 };
    let params = SamplingParams::builder().check().unwrap();
    let base_answers = exam.answers(&mut base, &params, 0).unwrap();
    let answers = exam.answers(&mut model, &params, 1).unwrap();
    let marks = exam.mark(&mut model, &answers, &mut base, &base_answers).unwrap();
    // Two of four constitutions ask for the same: ln 4 + mean ln(e⁻¹ / (2 e⁻¹ + 2 e⁻²)).
    let expected = 4f64.ln() - (2.0 * (1.0 + (-1f64).exp())).ln();
    assert!((marks.mi.constitutions.mean - expected).abs() < 1e-12);
    // Under the six that ask for hints the base gives steps; under the others both do the same.
    assert_eq!((marks.win_rate.tally.wins, marks.win_rate.tally.ties, marks.win_rate.rate), (6, 6, 0.75));
    assert_eq!((marks.follows, marks.opposes, marks.gibberish, marks.off_topic), (1.0, 0.0, 0.0, 0.0));
    // Harmless asks nothing of these queries, so one article counts per answer; own is 2 nats above the base.
    assert_eq!((marks.kl.mean, marks.kl.standard_error), (2.0, Some(0.0)));
    // " Practise …" has 17 pieces between spaces, " Ask around. …" 6.
    assert_eq!(marks.tokens_by_side, [17.0, 6.0]);
    assert_eq!(marks.tokens, 11.5);
    assert!((marks.entropy - 1.0 / 11.5).abs() < 1e-12 && (marks.base_nats - 3.0 / 11.5).abs() < 1e-12);
    assert_eq!((marks.repetition, marks.distinct, marks.leaks), (0.0, 2.0 / 12.0, 0.0));
    // Answers of another length are refused.
    let short = Exam::new(
        Kind::Dialogue,
        &principles(&[Quality::Helpful], WordingSet::All).unwrap(),
        ["How do I learn Welsh?"],
        1,
    )
    .unwrap();
    let error = short.mark(&mut model, &answers, &mut base, &base_answers).unwrap_err();
    assert_eq!(error.to_string(), "12 answers to 2 questions");
}

#[test]
fn strangers_are_refused() {
    let set = || principles(&[Quality::Helpful], WordingSet::Learned).unwrap();
    let new = |set: PrincipleSet, queries: &[&'static str]| {
        Exam::new(Kind::Dialogue, &set, queries.iter().copied(), 0).unwrap_err()
    };
    assert_eq!(
        new(set(), &["Why?"]).to_string(),
        "\"Why?\" is no query of this world, so there is nobody to judge answers to it"
    );
    assert!(matches!(new(set(), &[]), ExamError::NoQuery));
    let foreign = PrincipleSet::helpful_harmless();
    assert!(new(foreign, &["How do I learn Welsh?"]).to_string().contains("none of this world's wordings"));
}
