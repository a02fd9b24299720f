//! A sampler that refuses some requests, and can tell only by trying, as a server does.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::fs;

use common::{World, assert_same, snapshot};
use sami_data::Rejection;
use sami_driver::recipe::Recipe;
use sami_driver::{Driver, DriverError, RunReport};
use sami_policy::fake::{FakeError, FakePolicy, FakeProvider};
use sami_policy::{
    PolicyProvider, Refusal, RefusalCause, Sample, SampleRequest, Sampler, SamplingParams, Start,
};

/// Refuses prompts with a word in them.
#[derive(Debug)]
struct Choosy {
    inner: FakeProvider,
    word: &'static str,
}

struct ChoosySampler {
    inner: FakePolicy,
    word: &'static str,
}

impl Sampler for ChoosySampler {
    type Error = FakeError;

    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, FakeError> {
        let mut outcomes = self.inner.sample(requests, params)?;
        for (request, outcome) in requests.iter().zip(&mut outcomes) {
            if request.prompt.contains(self.word) {
                *outcome = Err(Refusal::new(RefusalCause::Server, format!("no {} here", self.word)));
            }
        }
        Ok(outcomes)
    }
}

impl PolicyProvider for Choosy {
    type Sampler = ChoosySampler;
    type Policy = FakePolicy;

    fn sampler(&self, start: Start<'_>) -> Result<ChoosySampler, FakeError> {
        Ok(ChoosySampler { inner: self.inner.sampler(start)?, word: self.word })
    }

    fn policy(&self, start: Start<'_>) -> Result<FakePolicy, FakeError> {
        self.inner.policy(start)
    }
}

fn run(world: &World, recipe: &Recipe, word: &'static str, out: &str) -> Result<RunReport, DriverError> {
    let provider = Choosy { inner: world.provider(), word };
    let driver = Driver::new(recipe.clone().check().unwrap(), &world.path(out), provider)?;
    driver.run(&mut (), &mut |_| Ok(()))
}

#[test]
fn refused_queries_are_rejected_replaced_and_counted() {
    let world = World::new(400);
    let recipe = world.recipe();
    let report = run(&world, &recipe, "wasps", "run").unwrap();
    let pairs: Vec<_> = (1..=3).flat_map(|iteration| world.pairs("run", iteration)).collect();
    let (refused, others): (Vec<_>, Vec<_>) = pairs.iter().partition(|record| record.query.contains("wasps"));
    assert!(!refused.is_empty());
    for record in &refused {
        assert!(record.rejected.contains(&Rejection::ServerRefused), "{record:?}");
        assert_eq!((record.refusal.as_deref(), record.responses.len()), (Some("no wasps here"), 0));
    }
    assert!(others.iter().all(|record| record.refusal.is_none()));
    assert_eq!(report.refused.get(&Rejection::ServerRefused), refused.len());
    let kept = world.pairs("run", 1).iter().filter(|record| record.is_kept()).count();
    assert_eq!(kept, 16, "refused queries are replaced by others");

    // Stopped while it sampled, and continued: the same bytes.
    let whole = snapshot(&world.path("run"));
    let path = world.path("run/iteration-1/pairs.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    fs::remove_file(world.path("run/state.json")).unwrap();
    for gone in ["run/iteration-2", "run/iteration-3", "run/final", "run/iteration-1/checkpoint"] {
        fs::remove_dir_all(world.path(gone)).unwrap();
    }
    fs::remove_file(world.path("run/iteration-1/metrics.jsonl")).unwrap();
    let again = run(&world, &recipe, "wasps", "run").unwrap();
    assert_eq!(again.refused, report.refused);
    assert_same(&snapshot(&world.path("run")), &whole, "continued");
}

#[test]
fn strict_names_the_first_and_nothing_left_is_an_error() {
    let world = World::new(400);
    let mut recipe = world.recipe();
    recipe.data.strict = true;
    let message = run(&world, &recipe, "wasps", "strict").unwrap_err().to_string();
    assert!(
        message.ends_with("is refused, and strict allows none to be left out: no wasps here"),
        "{message}"
    );
    recipe.data.strict = false;
    let message = run(&world, &recipe, "Question", "all").unwrap_err().to_string();
    assert!(message.starts_with("all 10 queries are refused, so nothing is left to work with"), "{message}");
    assert!(message.ends_with(": no Question here"), "{message}");
    // Without held-out queries the first iteration says it.
    recipe.evaluation.queries = 0;
    let message = run(&world, &recipe, "Question", "none").unwrap_err().to_string();
    assert!(message.starts_with("all ") && message.ends_with(": no Question here"), "{message}");
}
