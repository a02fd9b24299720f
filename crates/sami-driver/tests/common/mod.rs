//! A small world for the driver's tests: a fake base model, a file of queries, a recipe, and ways to look at a run.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sami_data::{PairRecord, StepMetrics, read_pairs};
use sami_driver::recipe::{GuardAction, Recipe, parse};
use sami_driver::{Driver, DriverError, Event, Observer, RunReport};
use sami_policy::TrainablePolicy;
use sami_policy::fake::{FakeOptimizer, FakePolicy, FakeProvider};
use tempfile::TempDir;

pub const ADAM: FakeOptimizer = FakeOptimizer::Adam { lr: 0.05 };

/// A directory with a base model and queries.
pub struct World {
    pub dir: TempDir,
}

const TOPICS: [&str; 8] = ["kettles", "locks", "poems", "taxes", "knots", "wasps", "bread", "maps"];

impl World {
    pub fn new(queries: usize) -> Self {
        // In memory where the system offers that: these tests wait for the disk thousands of times otherwise.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        FakePolicy::random(1, 0.6, ADAM).save(&dir.path().join("base")).unwrap();
        let lines: String = (0..queries)
            .map(|i| format!("{{\"query\": \"Question {i} about {}?\", \"id\": \"q{i}\"}}\n", TOPICS[i % 8]))
            .collect();
        std::fs::write(dir.path().join("queries.jsonl"), lines).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run_with(&self, optimizer: FakeOptimizer, recipe: &Recipe, out: &str) -> RunReport {
        let provider = FakeProvider::new(self.path("base"), optimizer);
        let driver = Driver::new(recipe.clone().check().unwrap(), &self.path(out), provider).unwrap();
        driver.run(&mut (), &mut |_| Ok(())).unwrap()
    }

    pub fn provider(&self) -> FakeProvider {
        FakeProvider::new(self.path("base"), ADAM)
    }

    /// Three iterations of 2, 4, 6 steps of 8 queries, 10 held-out queries, chunks of 5, T = 1.
    pub fn recipe(&self) -> Recipe {
        let text = "seed = 3\n[model]\nbase = \"base\"\n[data]\nfiles = [\"queries.jsonl\"]\nformat = \"jsonl\"\n\
                    [sampling]\nmax_new_tokens = 12\ntemperature = 1.0\nchunk = 5\n\
                    [training]\nbatch_size = 8\n[evaluation]\nqueries = 10\n";
        let mut recipe = Recipe::clone(&parse(Path::new("test.toml"), text).unwrap());
        recipe.model.base = self.path("base");
        // A model of 200 weights moves far at once; tests of the guards switch them on.
        recipe.guards.action = GuardAction::Off;
        recipe.data.files = vec![self.path("queries.jsonl")];
        recipe
    }

    pub fn driver(&self, recipe: &Recipe, out: &str) -> Result<Driver<FakeProvider>, DriverError> {
        Driver::new(recipe.clone().check().unwrap(), &self.path(out), self.provider())
    }

    pub fn run(&self, recipe: &Recipe, out: &str) -> RunReport {
        self.driver(recipe, out).unwrap().run(&mut (), &mut |_| Ok(())).unwrap()
    }

    pub fn pairs(&self, out: &str, iteration: usize) -> Vec<PairRecord> {
        read_pairs(&self.path(out).join(format!("iteration-{iteration}/pairs.jsonl"))).unwrap()
    }

    pub fn metrics(&self, out: &str, iteration: usize) -> Vec<StepMetrics> {
        let path = self.path(out).join(format!("iteration-{iteration}/metrics.jsonl"));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn weights(&self, out: &str, iteration: usize) -> FakePolicy {
        FakePolicy::open(&self.path(out).join(format!("iteration-{iteration}/checkpoint")), ADAM).unwrap()
    }
}

/// Every file of a run with its bytes, the clock's readings and the process number left out.
pub fn snapshot(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mut bytes = std::fs::read(&path).unwrap();
            if name.ends_with("metrics.jsonl") {
                let without_clock = |line: &str| {
                    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(line.as_object_mut().unwrap().remove("seconds").is_some());
                    line.as_object_mut().unwrap().remove("peak_memory");
                    line.to_string()
                };
                let lines: Vec<_> = std::str::from_utf8(&bytes).unwrap().lines().map(without_clock).collect();
                bytes = lines.join("\n").into_bytes();
            }
            if name != "lock" {
                files.insert(name, bytes);
            }
        }
    }
    files
}

/// Fails with the names of the files that differ.
pub fn assert_same(got: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, case: &str) {
    let names: std::collections::BTreeSet<_> = got.keys().chain(expected.keys()).collect();
    let differing: Vec<_> = names.into_iter().filter(|name| got.get(*name) != expected.get(*name)).collect();
    assert!(differing.is_empty(), "{case}: {differing:?} differ");
}

/// Cancels at the `at`-th question (from 0), and counts the questions.
pub struct CancelAt {
    pub at: usize,
    pub asked: std::cell::Cell<usize>,
}

impl CancelAt {
    pub fn new(at: usize) -> Self {
        Self { at, asked: 0.into() }
    }
}

impl Observer for CancelAt {
    fn event(&mut self, _: Event<'_>) {}

    fn cancelled(&self) -> bool {
        let asked = self.asked.get();
        self.asked.set(asked + 1);
        asked == self.at
    }
}
