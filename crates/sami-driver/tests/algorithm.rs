//! Algorithm 1 end to end, on a policy without a network.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::collections::HashSet;

use approx::assert_relative_eq;
use common::World;
use sami_data::{PairRecord, RunDir};
use sami_driver::recipe::{EvaluationSection, Recipe, StartFrom};
use sami_driver::{DriverError, Event, Observer, contrast_set};
use sami_policy::fake::FakeOptimizer;

fn ids(records: &[PairRecord], kept: bool) -> HashSet<String> {
    records.iter().filter(|record| !kept || record.is_kept()).map(|record| record.id.clone()).collect()
}

#[test]
fn mutual_information_rises_and_loss_falls() {
    let world = World::new(1100);
    let mut recipe = Recipe { evaluation: EvaluationSection { queries: 200 }, ..world.recipe() };
    recipe.training.batch_size = 64;
    let report = world.run_with(FakeOptimizer::Adam { lr: 0.1 }, &recipe, "run");

    assert_eq!(report.checkpoints.len(), 3);
    assert_eq!(report.evaluations.len(), 4);
    let mi: Vec<_> = report.evaluations.iter().map(|one| one.mi.constitutions).collect();
    let error = mi[0].standard_error.unwrap().hypot(mi[3].standard_error.unwrap());
    assert!(mi[3].mean - mi[0].mean > 4.0 * error, "{mi:?}");
    assert!(report.evaluations[3].loss.mean < report.evaluations[0].loss.mean - 0.01);
    assert!(report.evaluations.iter().all(|one| one.mi.cap == std::f64::consts::LN_2));

    for (iteration, steps) in [(1, 2), (2, 4), (3, 6)] {
        let metrics = world.metrics("run", iteration);
        assert_eq!(metrics.iter().map(|line| line.step).collect::<Vec<_>>(), (1..=steps).collect::<Vec<_>>());
        assert!(
            metrics.iter().all(|line| line.queries == 64 && line.grad_norm > 0.0 && line.update_kept > 0.999)
        );
        // Every iteration starts from the base: its first loss is that of unlearned weights.
        assert!((metrics[0].loss - report.evaluations[0].loss.mean).abs() < 0.05, "{metrics:?}");
    }
    let text = std::fs::read_to_string(world.path("run/iteration-1/metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["loss"], line["train/loss"]);
    assert_eq!(line["mi"]["constitutions"], line["train/mi"]);
    for name in ["step", "seconds", "train/accuracy_row", "train/accuracy_col", "train/grad_norm", "tokens"] {
        assert!(line[name].is_number(), "{name}");
    }
}

#[test]
fn splits_alternate_and_no_model_samples_what_it_was_trained_on() {
    let world = World::new(400);
    world.run(&world.recipe(), "run");
    let pairs = [1, 2, 3].map(|iteration| world.pairs("run", iteration));
    for (records, wanted) in pairs.iter().zip([16, 32, 48]) {
        assert_eq!(ids(records, true).len(), wanted);
        assert_eq!(ids(records, false).len(), records.len(), "no query is asked twice in an iteration");
    }
    // π_1 was trained on the first iteration's queries and sampled the second's, π_2 likewise.
    for (trained, sampled) in [(0, 1), (1, 2)] {
        assert!(ids(&pairs[trained], true).is_disjoint(&ids(&pairs[sampled], false)));
    }
    // Held-out queries are in no training.
    let held_out: HashSet<_> = (0..10).map(|i| format!("q{i}")).collect();
    assert!(pairs.iter().all(|records| ids(records, false).is_disjoint(&held_out)));
}

#[test]
fn continuing_uses_every_query_once_and_other_weights() {
    let world = World::new(400);
    let mut recipe = world.recipe();
    recipe.training.start = StartFrom::Previous;
    world.run(&recipe, "continued");
    let pairs = [1, 2, 3].map(|iteration| ids(&world.pairs("continued", iteration), false));
    assert!(
        pairs[0].is_disjoint(&pairs[2]) && pairs[0].is_disjoint(&pairs[1]) && pairs[1].is_disjoint(&pairs[2])
    );
    world.run(&world.recipe(), "restarted");
    assert_eq!(world.weights("continued", 1).weights(), world.weights("restarted", 1).weights());
    assert_ne!(world.weights("continued", 2).weights(), world.weights("restarted", 2).weights());
}

#[test]
fn records_hold_what_the_model_saw() {
    let world = World::new(400);
    world.run(&world.recipe(), "run");
    let records = world.pairs("run", 1);
    let orders: HashSet<_> = records
        .iter()
        .flat_map(|record| &record.prompts)
        .map(|prompt| {
            let [helpful, harmless] = ["1. ", "2. "].map(|number| {
                let rest = &prompt[prompt.find(number).unwrap() + 3..];
                rest.lines().next().unwrap().to_owned()
            });
            helpful < harmless
        })
        .collect();
    assert_eq!(orders.len(), 2, "principles are shuffled for training");
    for record in &records {
        assert_eq!((record.constitutions.len(), record.prompts.len(), record.responses.len()), (2, 2, 2));
        assert_ne!(record.constitutions[0].id, record.constitutions[1].id);
        assert!(
            record.prompts.iter().all(|prompt| prompt.contains(&record.query) && !prompt.contains("[insert"))
        );
        if record.is_kept() {
            // The sampled end of sequence, token 0 of the fake, is dropped by default.
            assert!(record.responses.iter().all(|one| one.token_ids.iter().flatten().all(|&id| id != 0)));
            assert_eq!(contrast_set(record).unwrap().targets(), [0, 1]);
        } else {
            assert!(matches!(contrast_set(record), Err(DriverError::RejectedPair { .. })));
        }
    }
    let rejected = records.iter().filter(|record| !record.is_kept()).count();
    assert!(rejected > 0, "the fake now and then says nothing, and such sets are replaced");

    let mut scored = world.recipe();
    scored.task.score_eos = true;
    world.run(&scored, "scored");
    let eos = |record: &PairRecord| {
        record.responses.iter().any(|one| one.token_ids.as_ref().is_some_and(|ids| ids.last() == Some(&0)))
    };
    assert!(world.pairs("scored", 1).iter().any(eos));
}

#[test]
fn chunks_change_nothing() {
    let world = World::new(400);
    world.run(&world.recipe(), "fives");
    let mut recipe = world.recipe();
    recipe.sampling.chunk = 64;
    world.run(&recipe, "large");
    assert_eq!(world.pairs("fives", 3), world.pairs("large", 3));
}

#[test]
fn micro_batches_change_rounding_only() {
    let world = World::new(400);
    world.run(&world.recipe(), "whole");
    for micro_batch in [1, 3, 8, 100] {
        let mut recipe = world.recipe();
        recipe.training.micro_batch = Some(micro_batch);
        let name = format!("micro-{micro_batch}");
        world.run(&recipe, &name);
        let (a, b) = (world.weights("whole", 1), world.weights(&name, 1));
        for (a, b) in a.weights().iter().zip(b.weights()) {
            assert_relative_eq!(a, b, max_relative = 1e-9, epsilon = 1e-12);
        }
        for (a, b) in world.metrics("whole", 1).iter().zip(world.metrics(&name, 1)) {
            assert_relative_eq!(a.loss, b.loss, max_relative = 1e-12);
            assert_relative_eq!(a.grad_norm, b.grad_norm, max_relative = 1e-9);
        }
    }
}

/// Names of events, in order.
#[derive(Default)]
struct Names(Vec<String>);

impl Observer for Names {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(match event {
            Event::IterationBegun { iteration, .. } => format!("begin {iteration}"),
            Event::StageBegun { stage, .. } => format!("{stage}"),
            Event::Evaluated { iteration, .. } => format!("evaluated {iteration}"),
            Event::IterationFinished { iteration, .. } => format!("finished {iteration}"),
            _ => return,
        });
    }
}

#[test]
fn events_and_hook_follow_the_algorithm() {
    let world = World::new(400);
    let driver = world.driver(&world.recipe(), "run").unwrap();
    let (mut names, mut hooked) = (Names::default(), Vec::new());
    driver
        .run(&mut names, &mut |finished| {
            assert!(finished.checkpoint.is_dir() && finished.pairs.is_file());
            hooked.push(finished.iteration);
            Ok(())
        })
        .unwrap();
    assert_eq!(hooked, [1, 2, 3]);
    let one = |i: usize| format!("begin {i}, generate, train, generate, score, evaluated {i}, finished {i}");
    let expected = format!("begin 0, generate, score, evaluated 0, {}, {}, {}", one(1), one(2), one(3));
    assert_eq!(names.0.join(", "), expected);
    // A finished run has nothing to do, and says the same.
    let mut again = Names::default();
    driver.run(&mut again, &mut |_| panic!("the hook has been called")).unwrap();
    assert_eq!(again.0, ["evaluated 0", "evaluated 1", "evaluated 2", "evaluated 3"]);
    let state = RunDir::new(world.path("run")).read_state().unwrap().unwrap();
    assert_eq!(state.finished().len(), 10);
}
