//! Interrupted anywhere, the same run ends with the same bytes.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use common::{CancelAt, World, assert_same, snapshot};
use sami_driver::recipe::Recipe;
use sami_driver::{Blame, Driver, DriverError};
use sami_policy::fake::{FakeError, FakePolicy, FakeProvider};
use sami_policy::{
    ContrastPolicy, ContrastSet, GradientOf, PolicyProvider, Refusal, Sample, SampleRequest, Sampler,
    SamplingParams, SetLogps, Start, TrainablePolicy, UpdateReport,
};

/// Small: these tests run it hundreds of times.
fn short(world: &World) -> Recipe {
    let mut recipe = world.recipe();
    recipe.training.iterations = 2;
    recipe.training.batch_size = 3;
    recipe.evaluation.queries = 4;
    recipe.sampling.chunk = 2;
    recipe.sampling.max_new_tokens = 6;
    recipe
}

#[test]
fn cancelled_after_any_chunk_or_step() {
    let world = World::new(60);
    let recipe = short(&world);
    let mut whole = CancelAt::new(usize::MAX);
    world.driver(&recipe, "whole").unwrap().run(&mut whole, &mut |_| Ok(())).unwrap();
    let expected = snapshot(&world.path("whole"));
    let questions = whole.asked.get();
    assert!(questions > 10, "{questions}");
    for at in 0..questions {
        let name = format!("cut-{at}");
        let ended = world.driver(&recipe, &name).unwrap().run(&mut CancelAt::new(at), &mut |_| Ok(()));
        assert!(matches!(ended, Err(DriverError::Cancelled { .. })), "{at}");
        world.run(&recipe, &name);
        assert_same(&snapshot(&world.path(&name)), &expected, &format!("cancelled at {at}"));
    }
    // Every chance taken: one run that is cancelled again and again.
    let mut rounds = 0;
    while world.driver(&recipe, "often").unwrap().run(&mut CancelAt::new(0), &mut |_| Ok(())).is_err() {
        rounds += 1;
    }
    assert_eq!(rounds, questions);
    assert_same(&snapshot(&world.path("often")), &expected, "often");
}

#[test]
fn half_written_lines_and_directories_are_made_anew() {
    let world = World::new(60);
    let recipe = short(&world);
    world.run(&recipe, "whole");
    let expected = snapshot(&world.path("whole"));
    let mut torn = 0;
    for at in [2, 4, 6, 8, 10, 12] {
        let name = format!("torn-{at}");
        let ended = world.driver(&recipe, &name).unwrap().run(&mut CancelAt::new(at), &mut |_| Ok(()));
        assert!(ended.is_err());
        // What was growing is torn.
        let dirs = [2, 1].map(|iteration| world.path(&name).join(format!("iteration-{iteration}")));
        let dir = dirs.iter().find(|dir| dir.exists()).unwrap();
        let growing = match (dir.join("checkpoint").exists(), dir.join("metrics.jsonl").exists()) {
            (true, _) => {
                world.path(&name).join(if dir == &dirs[0] { "eval/iteration-2" } else { "eval/iteration-1" })
            }
            (_, true) => dir.join("metrics.jsonl"),
            _ => dir.join("pairs.jsonl"),
        };
        let growing = if growing.is_dir() { growing.join("scores.jsonl") } else { growing };
        if let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(growing) {
            file.write_all(b"{\"id\": \"q1").unwrap();
            torn += 1;
        }
        fs::create_dir_all(dir.join("training-state/step-99.partial")).unwrap();
        fs::create_dir_all(dir.join("checkpoint.partial")).unwrap();
        world.run(&recipe, &name);
        let mut got = snapshot(&world.path(&name));
        got.retain(|name, _| !name.contains(".partial"));
        assert_same(&got, &expected, &format!("torn at {at}"));
    }
    assert!(torn > 3);
}

#[test]
fn a_chunk_that_was_written_in_part_is_sampled_whole() {
    let world = World::new(60);
    let recipe = short(&world);
    world.run(&recipe, "whole");
    let expected = snapshot(&world.path("whole"));
    let text = fs::read_to_string(world.path("whole/iteration-1/pairs.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for kept in 0..lines.len() {
        let name = format!("lines-{kept}");
        let ended = world.driver(&recipe, &name).unwrap().run(&mut CancelAt::new(2), &mut |_| Ok(()));
        assert!(ended.is_err());
        let head: String = lines[..kept].iter().map(|line| format!("{line}\n")).collect();
        fs::write(world.path(&name).join("iteration-1/pairs.jsonl"), head).unwrap();
        world.run(&recipe, &name);
        assert_same(&snapshot(&world.path(&name)), &expected, &format!("{kept} lines were left"));
    }
}

/// Fails at the `at`-th call (from 0) of any kind, as a full disk or a lost device would.
#[derive(Clone)]
struct Fuse {
    left: Rc<Cell<usize>>,
}

impl Fuse {
    fn burn(&self) -> Result<(), FakeError> {
        match self.left.get() {
            0 => {
                let source = std::io::ErrorKind::StorageFull.into();
                Err(FakeError::Io { path: "fuse".into(), source })
            }
            left => {
                self.left.set(left - 1);
                Ok(())
            }
        }
    }
}

struct Fused(FakePolicy, Fuse);

impl Sampler for Fused {
    type Error = FakeError;
    fn sample(
        &mut self,
        requests: &[SampleRequest],
        params: &SamplingParams,
    ) -> Result<Vec<Result<Sample, Refusal>>, FakeError> {
        self.1.burn()?;
        self.0.sample(requests, params)
    }
}

impl ContrastPolicy for Fused {
    type Error = FakeError;
    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, FakeError> {
        self.1.burn()?;
        self.0.score(sets)
    }
    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, FakeError> {
        self.1.burn()?;
        self.0.contrast_step(sets, gradient)
    }
}

impl TrainablePolicy for Fused {
    fn optimizer_step(&mut self, lr_factor: f64) -> Result<UpdateReport, FakeError> {
        self.1.burn()?;
        self.0.optimizer_step(lr_factor)
    }
    fn save(&self, dir: &Path) -> Result<(), FakeError> {
        self.1.burn()?;
        self.0.save(dir)?;
        // Also right after: the checkpoint is there, and state.json does not know.
        self.1.burn()
    }
    fn save_state(&self, dir: &Path) -> Result<(), FakeError> {
        self.1.burn()?;
        self.0.save_state(dir)?;
        self.1.burn()
    }
    fn load_state(&mut self, dir: &Path) -> Result<(), FakeError> {
        self.0.load_state(dir)
    }
}

struct FusedProvider(FakeProvider, Fuse);

impl PolicyProvider for FusedProvider {
    type Sampler = Fused;
    type Policy = Fused;
    fn sampler(&self, start: Start<'_>) -> Result<Fused, FakeError> {
        Ok(Fused(self.0.sampler(start)?, self.1.clone()))
    }
    fn policy(&self, start: Start<'_>) -> Result<Fused, FakeError> {
        Ok(Fused(self.0.policy(start)?, self.1.clone()))
    }
}

#[test]
fn failed_at_any_call_of_the_policy() {
    let world = World::new(60);
    let mut recipe = short(&world);
    for save_state_every in [1, 0] {
        recipe.training.save_state_every = save_state_every;
        let run = |name: &str, at: usize| {
            let provider = FusedProvider(world.provider(), Fuse { left: Rc::new(Cell::new(at)) });
            Driver::new(recipe.clone().check().unwrap(), &world.path(name), provider)
                .unwrap()
                .run(&mut (), &mut |_| Ok(()))
        };
        let whole = format!("whole-{save_state_every}");
        run(&whole, usize::MAX).unwrap();
        let expected = snapshot(&world.path(&whole));
        let mut at = 0;
        loop {
            let name = format!("fuse-{save_state_every}-{at}");
            let Err(error) = run(&name, at) else { break };
            assert!(matches!(error, DriverError::Policy { .. }) && error.blame() == Blame::Failure);
            world.run(&recipe, &name);
            assert_same(&snapshot(&world.path(&name)), &expected, &format!("failed at call {at}"));
            at += 1;
        }
        assert!(at > 20, "{at}");
    }
}

#[test]
fn a_failing_hook_is_called_again() {
    let world = World::new(60);
    let recipe = short(&world);
    let driver = world.driver(&recipe, "run").unwrap();
    let error = driver.run(&mut (), &mut |finished| match finished.iteration {
        1 => Ok(()),
        _ => Err("the judge is away".into()),
    });
    assert_eq!(error.unwrap_err().to_string(), "the hook after iteration 2 failed");
    let mut again = Vec::new();
    driver
        .run(&mut (), &mut |finished| {
            again.push(finished.iteration);
            Ok(())
        })
        .unwrap();
    assert_eq!(again, [2]);
}
