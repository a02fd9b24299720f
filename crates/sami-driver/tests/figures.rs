//! Figures that are not finite are never written, and files that cannot be read are said or made anew.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use common::{World, assert_same, snapshot};
use sami_driver::recipe::Recipe;
use sami_driver::{Blame, Driver, DriverError, RunStatus, TrainDir};
use sami_policy::fake::{FakeError, FakePolicy, FakeProvider};
use sami_policy::{
    ContrastPolicy, ContrastSet, GradientOf, PolicyProvider, SetGradient, SetLogps, Start, TrainablePolicy,
    UpdateReport,
};

/// A fake policy whose `at`-th update reports `value` as its norm, and whose every set has a KL of `kl`
/// once its gradient is known.
struct Odd {
    inner: FakePolicy,
    updates: Rc<Cell<usize>>,
    at: usize,
    value: f64,
    kl: f64,
}

impl ContrastPolicy for Odd {
    type Error = FakeError;

    fn score(&mut self, sets: &[ContrastSet]) -> Result<Vec<SetLogps>, FakeError> {
        self.inner.score(sets)
    }

    fn contrast_step(
        &mut self,
        sets: &[ContrastSet],
        gradient: &mut GradientOf<'_>,
    ) -> Result<Vec<SetLogps>, FakeError> {
        let mut found = self.inner.contrast_step(sets, &mut |index, logps| {
            assert_eq!(logps.kl, None, "the KL is not known before the gradient is");
            Ok(SetGradient { kl: 0.0, ..gradient(index, logps)? })
        })?;
        for (logps, index) in found.iter_mut().zip(0_u8..) {
            logps.kl = Some(self.kl + f64::from(index));
        }
        Ok(found)
    }
}

impl TrainablePolicy for Odd {
    fn optimizer_step(&mut self, lr_factor: f64) -> Result<UpdateReport, FakeError> {
        let report = self.inner.optimizer_step(lr_factor)?;
        let update = self.updates.get();
        self.updates.set(update + 1);
        let update_norm = if update == self.at { self.value } else { report.update_norm };
        Ok(UpdateReport { update_norm, ..report })
    }

    fn save(&self, dir: &Path) -> Result<(), FakeError> {
        self.inner.save(dir)
    }

    fn save_state(&self, dir: &Path) -> Result<(), FakeError> {
        self.inner.save_state(dir)
    }

    fn load_state(&mut self, dir: &Path) -> Result<(), FakeError> {
        self.inner.load_state(dir)
    }
}

#[derive(Clone)]
struct OddProvider {
    inner: FakeProvider,
    updates: Rc<Cell<usize>>,
    at: usize,
    value: f64,
}

impl PolicyProvider for OddProvider {
    type Sampler = FakePolicy;
    type Policy = Odd;

    fn sampler(&self, start: Start<'_>) -> Result<FakePolicy, FakeError> {
        self.inner.sampler(start)
    }

    fn policy(&self, start: Start<'_>) -> Result<Odd, FakeError> {
        let (updates, at, value) = (Rc::clone(&self.updates), self.at, self.value);
        Ok(Odd { inner: self.inner.policy(start)?, updates, at, value, kl: 0.25 })
    }
}

fn short(world: &World) -> Recipe {
    let mut recipe = world.recipe();
    recipe.training.iterations = 2;
    recipe.training.batch_size = 4;
    recipe.training.micro_batch = Some(2);
    recipe.evaluation.queries = 4;
    recipe
}

fn run(world: &World, recipe: &Recipe, out: &str, at: usize, value: f64) -> Result<(), DriverError> {
    let provider = OddProvider { inner: world.provider(), updates: Rc::default(), at, value };
    let driver = Driver::new(recipe.clone().check().unwrap(), &world.path(out), provider)?;
    driver.run(&mut (), &mut |_| Ok(())).map(|_| ())
}

#[test]
fn a_step_whose_figures_are_not_finite_is_an_error_and_writes_nothing() {
    let world = World::new(80);
    let recipe = short(&world);
    run(&world, &recipe, "whole", usize::MAX, 0.0).unwrap();
    let expected = snapshot(&world.path("whole"));
    for (at, value, shown) in
        [(0, f64::NAN, "NaN"), (1, f64::INFINITY, "inf"), (3, f64::NEG_INFINITY, "-inf")]
    {
        let out = format!("run-{at}");
        let error = run(&world, &recipe, &out, at, value).unwrap_err();
        let (iteration, step) = if at < 2 { (1, at + 1) } else { (2, at - 1) };
        let begin = format!(
            "iteration {iteration}, step {step}: update_norm is {shown}, which is not a finite number; \
             training has diverged"
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert_eq!(error.blame(), Blame::Failure);
        let metrics = world.path(&out).join(format!("iteration-{iteration}/metrics.jsonl"));
        assert_eq!(fs::read_to_string(metrics).unwrap().lines().count(), step - 1);
        // The same command goes on, and ends with the same bytes.
        run(&world, &recipe, &out, usize::MAX, 0.0).unwrap();
        assert_same(&snapshot(&world.path(&out)), &expected, &out);
    }
}

#[test]
fn extreme_but_finite_figures_are_kept_to_the_bit() {
    let world = World::new(80);
    let recipe = short(&world);
    let values = [-0.0, 1e308, -1e308, f64::MIN_POSITIVE, 5e-324, f64::MAX, 0.1 + 0.2];
    for (index, value) in values.into_iter().enumerate() {
        let out = format!("run-{index}");
        run(&world, &recipe, &out, 1, value).unwrap();
        let found = world.metrics(&out, 1)[1].update_norm;
        assert_eq!(found.to_bits(), value.to_bits(), "{value}");
    }
}

#[test]
fn the_kl_of_a_step_is_the_mean_over_its_queries() {
    let world = World::new(80);
    run(&world, &short(&world), "run", usize::MAX, 0.0).unwrap();
    // In each half of a batch of four, 0.25 and 1.25.
    for step in world.metrics("run", 1).iter().chain(&world.metrics("run", 2)) {
        assert_eq!(step.kl, Some(0.75));
    }
}

#[test]
fn what_earlier_versions_wrote_for_a_diverged_step_is_read() {
    let world = World::new(80);
    let recipe = short(&world);
    world.run(&recipe, "run");
    let path = world.path("run/iteration-1/metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last_mut().unwrap();
    for name in ["update_norm", "train/mi"] {
        last[name] = serde_json::Value::Null;
    }
    last["mi"]["responses"] = serde_json::Value::Null;
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    // The run goes on (there is nothing left to do), and its status says what it found.
    world.run(&recipe, "run");
    let status = RunStatus::read(&world.path("run")).unwrap();
    assert!(status.models[1].last_step.unwrap().update_norm.is_nan());
    assert!(status.to_string().contains("(step 2 has figures that are not finite)"), "{status}");
    let train = TrainDir::open(&world.path("train"), serde_json::Map::new()).unwrap();
    fs::copy(&path, train.metrics()).unwrap();
    assert!(train.steps().unwrap()[1].mi.responses.is_nan());
}

#[test]
fn damaged_figures_are_made_anew_and_a_status_goes_on_without_them() {
    let world = World::new(80);
    let recipe = short(&world);
    world.run(&recipe, "run");
    let expected = snapshot(&world.path("run"));
    let summary = "eval/iteration-1/summary.json";
    for broken in ["", "{\"queries\": 4", "{\"version\": 9}", "[]", "\u{0}\u{0}"] {
        let before = RunStatus::read(&world.path("run")).unwrap();
        assert!(before.damaged.is_empty());
        fs::write(world.path("run").join(summary), broken).unwrap();
        let status = RunStatus::read(&world.path("run")).unwrap();
        assert_eq!(status.models[1].evaluation, None);
        assert_eq!(status.models[2], before.models[2]);
        let shown = status.to_string();
        assert!(shown.contains("\n  cannot be read: ") && shown.contains(summary), "{shown}");
        world.run(&recipe, "run");
        assert_same(&snapshot(&world.path("run")), &expected, broken);
    }
}

#[test]
fn a_status_counts_what_it_can_read() {
    let world = World::new(80);
    world.run(&short(&world), "run");
    let run = world.path("run");
    let whole = RunStatus::read(&run).unwrap();
    for (name, content) in [
        ("state.json", "{\"format\": "),
        ("iteration-1/metrics.jsonl", "{\"iteration\"}\n"),
        ("iteration-2/pairs.jsonl", "nonsense\n"),
    ] {
        fs::write(run.join(name), content).unwrap();
    }
    // A directory where a file should be is damage too, and ends.
    fs::remove_file(run.join("iteration-1/pairs.jsonl")).unwrap();
    fs::create_dir(run.join("iteration-1/pairs.jsonl")).unwrap();
    let status = RunStatus::read(&run).unwrap();
    assert_eq!(status.damaged.len(), 4, "{:?}", status.damaged);
    assert_eq!((status.models[1].steps, status.models[2].sampled), (0, 0));
    assert_eq!(status.models[2].evaluation, whole.models[2].evaluation);
    assert_eq!(status.models[0].evaluation, whole.models[0].evaluation);
}
