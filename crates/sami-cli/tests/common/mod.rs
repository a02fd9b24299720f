//! The installed command, a tiny random checkpoint, and queries.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside #[test] functions")]

pub mod kills;
pub mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use sami_torch::{RandomCheckpoint, random_checkpoint};
use serde_json::Value;
use tempfile::TempDir;

/// The files of a tiny random checkpoint; made once for all tests of a binary.
fn checkpoint() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = RandomCheckpoint {
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            vocab_size: 512,
            corpus: sami_sandbox::corpus::texts(2000, 0).unwrap(),
            ..RandomCheckpoint::default()
        };
        random_checkpoint(dir.path(), &checkpoint).unwrap();
        let file = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        };
        std::fs::read_dir(dir.path()).unwrap().map(|entry| file(entry.unwrap())).collect()
    })
}

/// A directory with a checkpoint in `model` and queries in `queries.jsonl`.
pub struct World {
    dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        // In memory where the system offers that: killed runs wait for the disk at every step otherwise.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        std::fs::create_dir(dir.path().join("model")).unwrap();
        for (name, bytes) in checkpoint() {
            std::fs::write(dir.path().join("model").join(name), bytes).unwrap();
        }
        let queries: String = sami_sandbox::DIALOGUE_JSONL.split_inclusive('\n').take(256).collect();
        std::fs::write(dir.path().join("queries.jsonl"), queries).unwrap();
        Self { dir }
    }

    /// A directory that looks like the repository to the sandbox's recipes; it stays where `parent` is given.
    pub fn sandbox(parent: Option<PathBuf>) -> Self {
        let keep = parent.is_some();
        let parent = parent.unwrap_or_else(|| PathBuf::from("/dev/shm"));
        let mut dir = tempfile::tempdir_in(parent).or_else(|_| tempfile::tempdir()).unwrap();
        dir.disable_cleanup(keep);
        sami_sandbox::install(&dir.path().join("crates/sami-sandbox")).unwrap();
        let recipes = dir.path().join("recipes/sandbox");
        std::fs::create_dir_all(&recipes).unwrap();
        let recipe = include_str!("../../../../recipes/sandbox/dialogue.toml");
        std::fs::write(recipes.join("dialogue.toml"), recipe).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A recipe of three iterations that takes seconds.
    pub fn recipe(&self) -> PathBuf {
        self.write(
            "recipe.toml",
            "seed = 5\n[model]\nbase = \"model\"\ndtype = \"f32\"\n[data]\nfiles = [\"queries.jsonl\"]\n\
             [sampling]\nmax_new_tokens = 6\ntemperature = 1.0\nchunk = 3\n\
             [training]\nbatch_size = 2\nlearning_rate = 1e-3\n[evaluation]\nqueries = 5\n",
        )
    }

    /// The command in this directory, with one thread, so that runs are the same.
    pub fn command(&self, arguments: &str) -> Command {
        // SAMI_BIN: a copy that later builds leave alone, for tests of hours.
        let program = std::env::var_os("SAMI_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sami").into());
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace()).current_dir(self.dir.path());
        // All that the command would set for itself, so that it need not start once more.
        for (name, value) in [
            ("OMP_NUM_THREADS", "1"),
            ("MKL_NUM_THREADS", "1"),
            ("RAYON_NUM_THREADS", "1"),
            ("MKL_DYNAMIC", "FALSE"),
            ("OMP_WAIT_POLICY", "PASSIVE"),
        ] {
            command.env(name, value);
        }
        command.env_remove("SAMI_LOG").env_remove("RUST_BACKTRACE");
        command
    }

    pub fn sami(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.sami(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "sami {arguments}\n{out}{err}");
        out
    }

    /// Runs a command that must succeed, and parses the JSON that it prints.
    pub fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.succeed(&format!("--json {arguments}"))).unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn matrix(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every file of a run with its bytes; the clock's readings and the process number are left out.
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
                let mut lines: Vec<Value> =
                    text(&bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                for line in &mut lines {
                    line["seconds"] = Value::Null;
                    line["peak_memory"] = Value::Null;
                }
                bytes = serde_json::to_vec(&lines).unwrap();
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
