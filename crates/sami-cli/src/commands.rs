//! One function per command: open, call, print.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use sami_constitution::{ConstitutionSpace, PrincipleSet, Task};
use sami_data::{OnBadLine, PairReader, QueryFormat, RunDir, atomic_write, read_queries};
use sami_driver::{
    Batches, Driver, DriverError, GenerateJob, Order, SetScore, TrainJob, Wanted, contrast_set, read_sets,
    recipe,
};
use sami_policy::{SampleRequest, Sampler, StreamKey, TrainablePolicy};
use sami_torch::TorchProvider;
use serde::Deserialize;
use serde_json::json;

use crate::args::{GenerateArgs, InspectArgs, RunArgs, SampleArgs, ScoreArgs, TrainArgs};
use crate::failure::Failure;
use crate::output::{result, say};
use crate::progress::{Progress, interrupted};
use crate::wiring::engine;

/// Prompts that are sampled between two looks at progress and interrupts.
const SAMPLE_CHUNK: usize = 256;
/// Queries that are scored between two looks at progress and interrupts.
const SCORE_CHUNK: usize = 16;

pub(crate) fn run(args: &RunArgs, json: bool) -> Result<(), Failure> {
    let recipe = recipe::load(&args.recipe).map_err(DriverError::from)?;
    let provider = TorchProvider::new(&recipe.model.base, engine(&recipe))?;
    let driver = Driver::new(recipe, &args.out, provider)?;
    let report = driver.run(&mut Progress::new(), &mut |_| Ok(()))?;
    let run: &RunDir = driver.run_dir();
    let last = report.checkpoints.last().map(|path| path.display().to_string()).unwrap_or_default();
    let text = format!("finished; the trained model is {last}");
    result(
        &json!({"run": run.root(), "checkpoints": report.checkpoints, "evaluations": report.evaluations}),
        &text,
        json,
    )
}

pub(crate) fn generate(args: &GenerateArgs, json: bool) -> Result<(), Failure> {
    let principles = match &args.principles {
        Some(file) => PrincipleSet::load(file)?,
        None => PrincipleSet::helpful_harmless(),
    };
    let task = match &args.task {
        Some(file) => Task::load(file)?,
        None => Task::dialogue(),
    };
    let format: QueryFormat = serde_json::from_value(json!(args.format))
        .map_err(|error| Failure::Argument { argument: "--format", reason: error.to_string() })?;
    let params = args.sampling.params(args.max_new_tokens, task.stop_strings().to_vec())?;
    let queries = read_queries(&args.data, format, OnBadLine::Stop)?;
    say(&queries.report.to_string());
    let mut policy = args.model.open(&args.model.engine())?;
    let order: Vec<usize> = (0..queries.queries.len()).collect();
    let job = GenerateJob {
        seed: args.sampling.seed,
        iteration: 0,
        queries: &queries.queries,
        order: &order,
        wanted: args.queries.map_or(Wanted::All, Wanted::Kept),
        space: &ConstitutionSpace::new(principles),
        n_constitutions: args.n_constitutions,
        task: &task,
        params: &params,
        score_eos: args.score_eos,
        chunk: args.chunk,
        out: args.out.clone(),
    };
    let report = sami_driver::generate(&mut policy, &job, &mut Progress::new())?;
    let text = format!("{} pairs in {}", report.kept, args.out.display());
    result(&report, &text, json)
}

pub(crate) fn train(args: &TrainArgs, json: bool) -> Result<(), Failure> {
    let sets = read_sets(&args.pairs)?;
    let mut policy = args.model.open(&args.engine())?;
    std::fs::create_dir_all(&args.out).map_err(|source| Failure::Io { path: args.out.clone(), source })?;
    let order = if args.no_shuffle { Order::Sequential } else { Order::Shuffled { seed: args.seed } };
    let batches = Batches::new(sets.len(), args.batch_size, order).ok_or_else(|| Failure::Argument {
        argument: "--pairs",
        reason: format!("{} holds no pair to train on", args.pairs.display()),
    })?;
    let job = TrainJob {
        iteration: 1,
        objective: &Default::default(),
        steps: args.steps,
        batches,
        micro_batch: args.micro_batch,
        metrics: args.out.join("metrics.jsonl"),
        state: args.out.join("state"),
        save_state_every: 0,
    };
    let steps = sami_driver::train(&mut policy, &sets, &job, &mut Progress::new())?;
    policy.save(&args.out)?;
    let text = format!("trained {} steps; checkpoint {}", steps.len(), args.out.display());
    result(&json!({"checkpoint": args.out, "steps": steps}), &text, json)
}

pub(crate) fn score(args: &ScoreArgs, json: bool) -> Result<(), Failure> {
    // Once through for the number and for bad lines, before a model is loaded.
    let mut total = 0;
    for record in PairReader::open(&args.pairs)? {
        total += usize::from(record?.is_kept());
    }
    let mut policy = args.model.open(&args.model.engine())?;
    let sets = PairReader::open(&args.pairs)?
        .filter(|record| record.as_ref().map_or(true, |record| record.is_kept()))
        .map(|record| contrast_set(&record?));
    let mut scored: Result<_, Failure> = Err(Failure::Interrupted);
    let written = atomic_write(&args.out, |file| {
        let mut refused = None;
        let mut sink = |score: &SetScore| {
            // The first failed write is the one to report; the file is dropped then.
            if refused.is_none() {
                refused = write_line(file, score).err();
            }
            Ok(())
        };
        let outcome =
            sami_driver::score(&mut policy, sets, total, SCORE_CHUNK, &mut sink, &mut Progress::new());
        if let Some(error) = refused {
            return Err(error);
        }
        scored = outcome.map_err(Failure::from);
        if scored.is_ok() { Ok(()) } else { Err(std::io::Error::other("not finished")) }
    });
    let summary = match (scored, written) {
        (Ok(summary), Ok(())) => summary,
        (Ok(_), Err(error)) | (Err(Failure::Interrupted), Err(error)) => return Err(error.into()),
        (Err(failure), _) => return Err(failure),
    };
    if policy.boundary_merges() > 0 {
        say(&format!(
            "note: in {} entries a token spans the end of the prompt; what is counted begins at the prompt's own length",
            policy.boundary_merges()
        ));
    }
    result(&summary, &summary, json)
}

pub(crate) fn sample(args: &SampleArgs, json: bool) -> Result<(), Failure> {
    let params = args.sampling.params(args.max_new_tokens, args.stop.clone())?;
    let prompts = read_prompts(&args.prompts)?;
    let requests: Vec<SampleRequest> = (0u64..)
        .zip(&prompts)
        .map(|(index, prompt)| SampleRequest {
            prompt: prompt.clone(),
            stream: StreamKey::new(args.sampling.seed, 0, index, 0),
        })
        .collect();
    let mut policy = args.model.open(&args.model.engine())?;
    let mut progress = Progress::new();
    progress.begin("sample", 0, requests.len());
    let mut samples = Vec::with_capacity(requests.len());
    for chunk in requests.chunks(SAMPLE_CHUNK) {
        if interrupted() {
            return Err(Failure::Interrupted);
        }
        samples.extend(policy.sample(chunk, &params)?);
        progress.advance("sample", samples.len(), requests.len());
    }
    progress.end();
    atomic_write(&args.out, |file| {
        for (prompt, sample) in prompts.iter().zip(&samples) {
            write_line(file, &json!({"prompt": prompt, "text": sample.text, "tokens": sample.token_ids}))?;
        }
        Ok(())
    })?;
    let text = format!("{} samples in {}", samples.len(), args.out.display());
    result(&json!({"samples": samples.len(), "out": args.out}), &text, json)
}

pub(crate) fn inspect(args: &InspectArgs, json: bool) -> Result<(), Failure> {
    let summary = sami_torch::inspect(&args.model)?;
    result(&summary, &summary, json)
}

pub(crate) fn doctor(json: bool) -> Result<(), Failure> {
    let environment = sami_torch::environment();
    result(&environment, &environment, json)
}

fn write_line<W: Write + ?Sized, T: serde::Serialize>(file: &mut W, value: &T) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

/// Prompts, one JSON string or {"prompt": …} per line.
fn read_prompts(path: &Path) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Prompt {
        Text(String),
        Object { prompt: String },
    }
    let io = |source| Failure::Io { path: path.to_owned(), source };
    let mut prompts = Vec::new();
    for (index, line) in BufReader::new(std::fs::File::open(path).map_err(io)?).lines().enumerate() {
        let at = |reason: String| Failure::Line { path: PathBuf::from(path), line: index + 1, reason };
        let line = line.map_err(|error| at(error.to_string()))?;
        let expected = "expected a JSON string or {\"prompt\": \"…\"}";
        let prompt = serde_json::from_str(&line).map_err(|error| at(format!("{expected} ({error})")))?;
        prompts.push(match prompt {
            Prompt::Text(prompt) | Prompt::Object { prompt } => prompt,
        });
    }
    if prompts.is_empty() {
        return Err(Failure::Line {
            path: path.to_owned(),
            line: 1,
            reason: "the file holds no prompt".into(),
        });
    }
    Ok(prompts)
}
