//! A model whose text collapses ends its run, and the model before is the result.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::fs;

use common::{World, assert_same, snapshot};
use sami_driver::recipe::{GuardAction, GuardSection, Recipe};
use sami_driver::{Blame, Driver, DriverError, Event, Guard, GuardFigures, Observer, RunReport, RunStatus};
use sami_policy::fake::{FakeError, FakeOptimizer, FakePolicy, FakeProvider};
use sami_policy::{PolicyProvider, Refusal, Sample, SampleRequest, Sampler, SamplingParams, Start};

/// Sixteen times the learning rate of the other tests.
const WILD: FakeOptimizer = FakeOptimizer::Adam { lr: 0.8 };

fn recipe(world: &World) -> Recipe {
    let mut recipe = world.recipe();
    recipe.guards.action = GuardAction::Stop;
    recipe
}

/// No limit that matters here.
fn gentle(world: &World) -> Recipe {
    let mut recipe = recipe(world);
    recipe.guards =
        GuardSection { kl: 9.0, surprise: 9.0, repetition: 1.0, entropy: 9.0, length: 9.0, ..recipe.guards };
    recipe
}

fn run(
    world: &World,
    optimizer: FakeOptimizer,
    recipe: &Recipe,
    out: &str,
) -> Result<RunReport, DriverError> {
    let provider = FakeProvider::new(world.path("base"), optimizer);
    let driver = Driver::new(recipe.clone().check().unwrap(), &world.path(out), provider)?;
    driver.run(&mut (), &mut |_| Ok(()))
}

#[test]
fn a_good_run_has_figures_and_no_findings() {
    let world = World::new(200);
    let report = world.run(&gentle(&world), "run");
    assert_eq!((report.last, &report.stopped), (3, &None));
    let figures = |name: &str| -> GuardFigures {
        serde_json::from_slice(&fs::read(world.path("run").join(name)).unwrap()).unwrap()
    };
    let (base, first) = (figures("eval/iteration-0/guards.json"), figures("eval/iteration-1/guards.json"));
    assert_eq!((base.model, base.kl), (0, 0.0));
    assert_eq!(first.model, 1);
    // From the model's own samples: small at a small learning rate, and not nothing.
    assert!(first.kl.abs() > 1e-6 && first.kl.abs() < 9.0, "{first:?}");
    assert!(base.base_logps < 0.0 && base.text.words > 1.0 && base.text.entropy > 1.0, "{base:?}");
    // Pairs of iteration 2 were sampled by the model of iteration 1.
    assert_eq!(figures("iteration-2/guards.json").model, 1);
}

#[test]
fn collapse_stops_the_run_unless_it_is_let_go_on() {
    let world = World::new(200);
    let mut recipe = recipe(&world);
    // The first iteration has collapsed already: there is nothing to end with.
    let error = run(&world, WILD, &recipe, "wild").unwrap_err();
    let DriverError::Collapsed { report } = &error else { panic!("{error}") };
    assert!(report.findings.iter().any(|finding| finding.guard == Guard::Kl), "{report}");
    assert!(error.to_string().contains("KL to the base in nats per token is "), "{error}");
    let kept = snapshot(&world.path("wild"));
    assert!(kept.contains_key("iteration-1/pairs.jsonl") && !kept.contains_key("iteration-2/pairs.jsonl"));
    // The same command says the same and changes nothing.
    assert_eq!(run(&world, WILD, &recipe, "wild").unwrap_err().to_string(), error.to_string());
    assert_same(&snapshot(&world.path("wild")), &kept, "again");

    // Let go on, the same directory ends like a run that was never stopped.
    recipe.guards.action = GuardAction::Warn;
    struct Warnings(usize);
    impl Observer for Warnings {
        fn event(&mut self, event: Event<'_>) {
            self.0 += usize::from(matches!(event, Event::Collapsed(_)));
        }
    }
    let mut warnings = Warnings(0);
    let provider = FakeProvider::new(world.path("base"), WILD);
    let driver = Driver::new(recipe.clone().check().unwrap(), &world.path("wild"), provider).unwrap();
    let report = driver.run(&mut warnings, &mut |_| Ok(())).unwrap();
    assert!(warnings.0 >= 1);
    assert_eq!((report.last, &report.stopped), (3, &None));
    recipe.guards.action = GuardAction::Off;
    run(&world, WILD, &recipe, "off").unwrap();
    let without = |out: &str| {
        let mut files = snapshot(&world.path(out));
        files.retain(|name, _| !name.ends_with("guards.json") && name != "recipe.toml");
        files
    };
    assert_same(&without("wild"), &without("off"), "let go on");
    assert!(!snapshot(&world.path("off")).keys().any(|name| name.ends_with("guards.json")));
}

#[test]
fn a_run_that_collapses_later_ends_with_the_model_before() {
    let world = World::new(200);
    let mut recipe = recipe(&world);
    recipe.guards.action = GuardAction::Warn;
    let whole = world.run(&recipe, "whole");
    let kl = |iteration: usize| {
        let path = world.path(&format!("whole/eval/iteration-{iteration}/guards.json"));
        serde_json::from_slice::<GuardFigures>(&fs::read(path).unwrap()).unwrap().kl
    };
    assert!(kl(3) > kl(1), "{} {}", kl(1), kl(3));
    // A limit between the two: some later iteration passes it.
    let limit = (kl(1).max(0.0) + kl(3)) / 2.0;
    let off = GuardSection {
        surprise: 0.0,
        repetition: 0.0,
        entropy: 0.0,
        length: 0.0,
        leak: 0.0,
        ..recipe.guards
    };
    recipe.guards = GuardSection { kl: limit, action: GuardAction::Stop, ..off };
    let report = world.run(&recipe, "limited");
    let stopped = report.stopped.unwrap();
    assert_eq!(stopped.findings.iter().map(|finding| finding.guard).collect::<Vec<_>>(), [Guard::Kl]);
    assert!(report.last >= 1 && report.last < 3);
    let weights = |root: &str| fs::read(world.path(root).join("fake-policy.bin")).ok();
    let (last, final_model) =
        (format!("limited/iteration-{}/checkpoint", report.last), "limited/final".to_owned());
    assert_eq!(weights(&last), weights(&final_model));
    let card = fs::read_to_string(world.path("limited/final/README.md")).unwrap();
    assert!(card.contains("The run was ended early"), "{card}");
    assert_eq!(whole.last, 3);
}

#[test]
fn the_card_holds_data_recipe_and_figures() {
    let world = World::new(200);
    let report = world.run(&gentle(&world), "run");
    assert_eq!(report.final_model, world.path("run/final"));
    let card = fs::read_to_string(report.final_model.join("README.md")).unwrap();
    for part in [
        "library_name: transformers",
        "| optimizer steps per iteration | 2, 4, 6 |",
        "| queries.jsonl | 200 | ",
        "| 3 | ",
        "## Limits",
    ] {
        assert!(card.contains(part), "{part:?} is not in\n{card}");
    }
    assert_eq!(card.matches("\n| 0 | ").count(), 1, "{card}");
}

/// Trained models say the same under every constitution, which no filter lets through.
#[derive(Debug)]
struct Mute(FakeProvider);

#[derive(Debug)]
struct MuteSampler {
    inner: FakePolicy,
    mute: bool,
}

impl Sampler for MuteSampler {
    type Error = FakeError;

    fn sample(
        &mut self,
        asked: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, FakeError> {
        let mut samples = self.inner.sample(asked, params)?;
        for sample in samples.iter_mut().flatten().filter(|_| self.mute) {
            (sample.text, sample.token_ids) = (" No.".to_owned(), None);
        }
        Ok(samples)
    }
}

impl PolicyProvider for Mute {
    type Sampler = MuteSampler;
    type Policy = FakePolicy;

    fn sampler(&self, start: Start<'_>) -> Result<MuteSampler, FakeError> {
        let mute = matches!(start, Start::Checkpoint(_));
        Ok(MuteSampler { inner: self.0.sampler(start)?, mute })
    }

    fn policy(&self, start: Start<'_>) -> Result<FakePolicy, FakeError> {
        self.0.policy(start)
    }
}

fn run_mute(world: &World, recipe: &Recipe, out: &str) -> Result<RunReport, DriverError> {
    let driver = Driver::new(recipe.clone().check().unwrap(), &world.path(out), Mute(world.provider()))?;
    driver.run(&mut (), &mut |_| Ok(()))
}

#[test]
fn a_model_whose_answers_are_all_rejected_has_collapsed() {
    let world = World::new(200);
    let mut recipe = gentle(&world);
    // Seen in its answers to the held-out queries; without those, in the queries that run out while it samples.
    for (out, evaluation) in [("evaluated", 10), ("not-evaluated", 0)] {
        recipe.evaluation.queries = evaluation;
        let error = run_mute(&world, &recipe, out).unwrap_err();
        let DriverError::Collapsed { report } = &error else { panic!("{error}") };
        assert_eq!(report.findings.iter().map(|one| one.guard).collect::<Vec<_>>(), [Guard::Rejected]);
        assert_eq!((report.figures.model, report.figures.rejected), (1, 1.0));
        let said = "share of queries whose responses the filters reject beyond the base's is ";
        assert!(error.to_string().contains(said), "{error}");
        // The same command says the same and changes nothing; the run can be looked at.
        let kept = snapshot(&world.path(out));
        assert_eq!(run_mute(&world, &recipe, out).unwrap_err().to_string(), error.to_string());
        assert_same(&snapshot(&world.path(out)), &kept, "again");
        let status = RunStatus::read(&world.path(out)).unwrap();
        assert_eq!((status.finished, status.models[1].steps), (false, 2));
        assert_eq!(status.models[0].evaluation.is_some(), evaluation > 0);
    }
    // Nothing watches: the reason is told where the work ends.
    recipe.guards.action = GuardAction::Off;
    recipe.evaluation.queries = 10;
    let error = run_mute(&world, &recipe, "unwatched").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the filters rejected all 10 answers of π_1 to the held-out queries"), "{text}");
    assert!(text.contains("unwatched/eval/iteration-1/pairs.jsonl has them with the reasons"), "{text}");
    recipe.evaluation.queries = 0;
    let text = run_mute(&world, &recipe, "exhausted").unwrap_err().to_string();
    assert!(
        text.starts_with("the queries ran out: of ") && text.contains("rejected were identical "),
        "{text}"
    );
}

#[test]
fn a_base_whose_answers_are_all_rejected_is_told_before_training() {
    let world = World::new(200);
    let mut recipe = recipe(&world);
    let task = "name = \"strict\"\n[prompts]\nsampling = \"{{ constitution }} {{ query }}\"\n\
        training = \"{{ constitution }} {{ query }}\"\n[responses]\nrequire_endings = [\"the end\"]\n";
    let path = world.path("strict.toml");
    fs::write(&path, task).unwrap();
    recipe.task.file = Some(path);
    let error = run(&world, common::ADAM, &recipe, "run").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the filters rejected all 10 answers of π_0 to the held-out queries"), "{text}");
    assert!(text.contains("Loosen the task's [responses]"), "{text}");
    assert_eq!(error.blame(), Blame::Input);
    assert_eq!(run(&world, common::ADAM, &recipe, "run").unwrap_err().to_string(), text);
    assert!(!world.path("run/iteration-1").exists());
}
