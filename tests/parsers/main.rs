//! Everything that reads foreign bytes reads or refuses them: the functions of the fuzz targets, on stable Rust.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "torch")]
mod checkpoints;
mod entries;

use ::sami as readers;

use std::path::{Path, PathBuf};

use entries::{ENTRIES, Entry};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[cfg(not(feature = "torch"))]
const CHECKPOINT_ENTRIES: [Entry; 0] = [];
#[cfg(feature = "torch")]
use checkpoints::CHECKPOINT_ENTRIES;

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parsers/seeds").join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A seed as it is, cut short, with a byte changed, with a piece doubled or with foreign bytes put in.
fn changed(seed: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let places = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (Just(seed), 0..5u8, places, any::<u8>(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(
        |(mut seed, how, (one, other), byte, bytes)| {
            let (a, b) = (one.index(seed.len()), other.index(seed.len()));
            let (a, b) = (a.min(b), a.max(b));
            match how {
                0 => seed.truncate(a),
                1 => seed[a] = byte,
                2 => drop(seed.drain(a..b)),
                3 => {
                    let piece = seed[a..b].to_vec();
                    seed.splice(b..b, piece);
                }
                _ => drop(seed.splice(a..a, bytes)),
            }
            seed
        },
    )
}

#[test]
fn whatever_comes_is_read_or_refused() {
    try_all(&ENTRIES, 300);
}

#[test]
fn whatever_a_checkpoint_holds_is_read_or_refused() {
    try_all(&CHECKPOINT_ENTRIES, 60);
}

/// Gives every entry its seeds, and `cases` inputs of each kind.
fn try_all(entries: &[Entry], cases: u32) {
    // SAMI_CASES=20000: for minutes instead of seconds.
    let cases = std::env::var("SAMI_CASES").map_or(cases, |cases| cases.parse().unwrap());
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (name, entry) in entries {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        for (path, seed) in &seeds {
            assert!(seed.len() > 4, "{} is empty", path.display());
            entry(dir.path(), seed);
        }
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let bytes = prop::collection::vec(any::<u8>(), 0..200);
        runner
            .run(&bytes, |bytes| {
                entry(dir.path(), &bytes);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        runner
            .run(&"\\PC{0,80}", |text| {
                entry(dir.path(), text.as_bytes());
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        for (path, seed) in seeds {
            let run = |bytes: Vec<u8>| {
                entry(dir.path(), &bytes);
                Ok(())
            };
            runner
                .run(&changed(seed), run)
                .unwrap_or_else(|e| panic!("{name}, from {}: {e}", path.display()));
        }
    }
}

/// A target per entry, or fuzzing would leave it out.
#[test]
fn every_entry_is_a_fuzz_target() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let manifest = std::fs::read_to_string(targets.with_file_name("Cargo.toml")).unwrap();
    let entries: Vec<_> = ENTRIES.iter().chain(&CHECKPOINT_ENTRIES).collect();
    for (name, _) in &entries {
        let text = std::fs::read_to_string(targets.join(format!("{name}.rs"))).unwrap();
        assert!(
            text.contains(&format!("\"{name}\"")) && manifest.contains(&format!("name = \"{name}\"")),
            "{name}"
        );
    }
    if cfg!(feature = "torch") {
        assert_eq!(std::fs::read_dir(&targets).unwrap().count(), entries.len());
    }
}
