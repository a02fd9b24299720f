//! Runs the experiments on the embedded world, and writes `docs/sandbox.md` from their figures.
//!
//! ```console
//! $ cargo run --release --example sandbox_experiments            # all of them, then the page
//! $ cargo run --release --example sandbox_experiments -- --page  # the page from what has been run
//! ```
//!
//! Every recipe in `recipes/sandbox` runs over the seeds that [`STUDIES`] gives it, two processes of one thread at a time. A
//! run that has been finished is skipped, so the command can be interrupted and given again.
#![allow(clippy::print_stdout, missing_docs)]

mod page;
mod prepare;
#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use clap::Parser;
use sami::constitution::PrincipleSet;
use sami::driver::recipe::{GuardAction, Recipe};
use sami::policy::Start;
use sami::sandbox::exam::Marks;
use sami::sandbox::{Examiner, Kind, Quality, WordingSet, main_qualities, principles};
use sami::torch::{TorchProvider, set_threads};
use serde::{Deserialize, Serialize};
use support::{Outcome, engine, exam, exam_params, recipe};

/// A recipe, and the seeds that it runs over; the most informative first.
pub(crate) const STUDIES: &[(&str, u64)] = &[
    ("dialogue", 5),
    ("temperature-1", 5),
    ("summaries", 3),
    ("columns", 2),
    ("rows", 2),
    ("lr-3e-4", 1),
    ("lr-1e-3", 1),
    ("lr-2e-3", 1),
    ("four-constitutions", 2),
    ("continue", 2),
    ("sum", 2),
    ("length-weighted", 1),
    ("four-principles", 2),
    ("sum-columns", 1),
    ("kl", 2),
    ("lr-1e-3-kl", 1),
    ("lr-2e-3-kl", 1),
    ("wiring-05", 2),
    ("wiring-10", 1),
    ("wiring-60", 1),
    ("varied-principles", 2),
];

#[derive(Parser)]
#[command(about = "Runs the experiments on the embedded world and writes docs/sandbox.md.")]
struct Args {
    /// Directory of the runs.
    #[arg(long, default_value = "target/sandbox-experiments")]
    out: PathBuf,
    /// Only write the page, from the runs that are there.
    #[arg(long)]
    page: bool,
    /// Run this recipe and seed only, in this process.
    #[arg(long, num_args = 2, value_names = ["RECIPE", "SEED"])]
    one: Option<Vec<String>>,
    /// Begin no run after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
}

/// What one run leaves in `result.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub recipe: String,
    pub seed: u64,
    /// The exam of π_0 … π_N on the trained principles and wordings.
    pub marks: Vec<Marks>,
    /// Exams of the last model that training gave no example of, by name.
    pub others: Vec<(String, Marks)>,
    pub seconds: f64,
}

/// Queries of the main exam, and of each other one.
const QUERIES: [usize; 2] = [128, 64];

fn main() -> Outcome<()> {
    let args = Args::parse();
    if let Some(one) = &args.one {
        let [name, seed] = one.as_slice() else { return Err("--one takes a recipe and a seed".into()) };
        set_threads(1);
        return run_one(&args.out, name, seed.parse()?);
    }
    if !args.page {
        run_all(&args)?;
    }
    page::write(&finished(&args.out)?)
}

fn place(out: &Path, name: &str, seed: u64) -> PathBuf {
    out.join(format!("{name}-{seed}"))
}

/// Two processes at a time, in the order of [`STUDIES`]: first seeds of all, then second ones.
fn run_all(args: &Args) -> Outcome<()> {
    let begun = Instant::now();
    let last = STUDIES.iter().map(|(_, seeds)| *seeds).max().unwrap_or(0);
    let mut waiting: VecDeque<_> = (0..last)
        .flat_map(|seed| {
            STUDIES.iter().filter(move |(_, seeds)| seed < *seeds).map(move |(name, _)| (*name, seed))
        })
        .filter(|(name, seed)| !place(&args.out, name, *seed).join("result.json").exists())
        .collect();
    println!("{} runs are left", waiting.len());
    for (name, _) in STUDIES {
        prepare::inputs(name, &recipe(name)?)?;
    }
    let mut active: Vec<(String, Child)> = Vec::new();
    while !(waiting.is_empty() && active.is_empty()) {
        if args.minutes.is_some_and(|minutes| begun.elapsed() > Duration::from_secs(60 * minutes)) {
            waiting.clear();
        }
        while active.len() < 2 {
            let Some((name, seed)) = waiting.pop_front() else { break };
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--out").arg(&args.out).args(["--one", name, &seed.to_string()]);
            command.env("OMP_NUM_THREADS", "1").stdout(std::process::Stdio::null());
            active.push((format!("{name}, seed {seed}"), command.spawn()?));
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut still = Vec::new();
        for (name, mut child) in active {
            match child.try_wait()? {
                None => still.push((name, child)),
                Some(status) if status.success() => println!("{name}: done; {} wait", waiting.len()),
                Some(status) => println!("{name}: {status}"),
            }
        }
        active = still;
    }
    Ok(())
}

fn run_one(out: &Path, name: &str, seed: u64) -> Outcome<()> {
    let begun = Instant::now();
    let dir = place(out, name, seed);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut recipe = Recipe { seed, ..recipe(name)? };
    // Runs that fall apart are to be seen to the end.
    recipe.guards.action = GuardAction::Off;
    prepare::inputs(name, &recipe)?;
    let kind = if recipe.name.contains("summaries") { Kind::Summaries } else { Kind::Dialogue };
    let recipe = recipe.check()?;
    let provider = TorchProvider::new(&recipe.model.base, engine(&recipe))?;
    let examiner = |kind, set: &PrincipleSet, queries| -> Outcome<Examiner<'_, TorchProvider>> {
        Ok(Examiner::new(exam(kind, set, queries, seed)?, exam_params(kind)?, &provider)?)
    };
    let main = principles(&main_qualities(kind), WordingSet::Learned)?;
    let own = examiner(kind, &main, QUERIES[0])?;
    let mut marks = Vec::new();
    let report = support::run(recipe, &dir.join("run"), &mut (), &mut |_, model| {
        marks.push(own.examine(model)?.1);
        Ok(())
    })?;
    let mut others = Vec::new();
    for (name, kind, set) in other_exams(kind)? {
        let last = Start::Checkpoint(&report.final_model);
        others.push((name, examiner(kind, &set, QUERIES[1])?.examine(last)?.1));
    }
    let run = Run { recipe: name.to_owned(), seed, marks, others, seconds: begun.elapsed().as_secs_f64() };
    let path = dir.join("result.json");
    fs::write(path.with_extension("tmp"), serde_json::to_vec_pretty(&run)?)?;
    Ok(fs::rename(path.with_extension("tmp"), path)?)
}

/// Other words for the trained principles, other principles, and the other task.
fn other_exams(kind: Kind) -> Outcome<Vec<(String, Kind, PrincipleSet)>> {
    use Quality::{Courteous, Curious, Formal, Hopeful, Orderly, Personal};
    let set = |name: &str, kind, qualities: &[Quality], wordings| -> Outcome<(String, Kind, PrincipleSet)> {
        Ok((name.to_owned(), kind, principles(qualities, wordings)?))
    };
    let other = if kind == Kind::Dialogue { Kind::Summaries } else { Kind::Dialogue };
    Ok(vec![
        set("paraphrases", kind, &main_qualities(kind), WordingSet::Paraphrases)?,
        set("courteous, formal", Kind::Dialogue, &[Courteous, Formal], WordingSet::All)?,
        set("orderly, hopeful", Kind::Dialogue, &[Orderly, Hopeful], WordingSet::All)?,
        set("curious, personal", Kind::Dialogue, &[Curious, Personal], WordingSet::All)?,
        set("the other task", other, &main_qualities(other), WordingSet::Learned)?,
    ])
}

fn finished(out: &Path) -> Outcome<Vec<Run>> {
    let mut runs = Vec::new();
    for (name, seeds) in STUDIES {
        for seed in 0..*seeds {
            if let Ok(bytes) = fs::read(place(out, name, seed).join("result.json")) {
                runs.push(serde_json::from_slice(&bytes)?);
            }
        }
    }
    Ok(runs)
}
