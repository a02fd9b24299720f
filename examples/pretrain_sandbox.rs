//! Makes the base model of the embedded world again, from its seed, with our own engine.
//!
//! ```console
//! $ cargo run --release --example pretrain_sandbox -- --out target/sandbox-base
//! ```
//!
//! A tokenizer is trained on the corpus, then a small Mistral-shaped model in phases: what a principle's words ask for is
//! hard to find out as long as authors rarely heed them, so the first phase is lessons, documents of heeding authors who add
//! little of their own, and the others the corpus as it is. At the end stands how far the model is from the corpus's entropy,
//! and how often it follows. About 40 minutes on two quiet cores.
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sami::policy::{
    SampleRequest, Sampler, SamplingParams, SamplingParamsBuilder, StreamKey, TrainablePolicy,
};
use sami::sandbox::corpus::{Document, Mixture, Wiring, Writer, texts};
use sami::sandbox::{Query, asked};
use sami::torch::{
    EngineOptions, LmExample, OptimizerConfig, OptimizerKind, RandomCheckpoint, TorchPolicy,
    random_checkpoint, set_threads,
};

#[derive(Parser)]
#[command(about = "Makes the sandbox's base model again, from its seed.")]
struct Args {
    /// Directory for the model; it must not exist.
    #[arg(long, default_value = "target/sandbox-base")]
    out: PathBuf,
    /// Weights, documents and their order come from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Share of authors who heed the constitution under the neutral line: the strength of the connection.
    #[arg(long, default_value_t = Wiring::default().heeding)]
    heeding: f64,
    /// Multiplies the number of steps: below 1 for a quick and worse model.
    #[arg(long, default_value_t = 1.0)]
    length: f64,
    /// The checkpoint that an earlier call left after its first phases (OUT.lessons, OUT.corpus, …): go on from there, for
    /// a model of another wiring say.
    #[arg(long)]
    from: Option<PathBuf>,
    /// How many phases the checkpoint of --from has behind it.
    #[arg(long, default_value_t = 1, requires = "from")]
    phases: usize,
    /// Threads of LibTorch.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Some steps on one mixture.
struct Phase {
    name: &'static str,
    steps: usize,
    /// Documents per step.
    batch: usize,
    mixture: Mixture,
    /// Added to the seed, for documents of its own.
    documents: u64,
    /// Learning rate at its start and end.
    rates: [f64; 2],
}

fn phases(args: &Args) -> [Phase; 5] {
    let last =
        Mixture { wiring: Wiring { heeding: args.heeding, ..Wiring::default() }, ..Mixture::default() };
    // Only what is asked for, and nothing else: the plainest lesson on what the words mean.
    let plain = Wiring { follow: 1.0, main_side: 0.04, other_side: 0.02, ..Wiring::default() };
    let lessons = Mixture {
        wiring: plain,
        lines: [0.0, 1.0, 0.0],
        articles: vec![0.3, 0.4, 0.2, 0.1],
        summaries: 0.25,
        ..last.clone()
    };
    let mut all = [
        Phase {
            name: "lessons",
            steps: 1500,
            batch: 32,
            mixture: lessons,
            documents: 0,
            rates: [3.5e-3, 2.5e-3],
        },
        Phase {
            name: "corpus",
            steps: 600,
            batch: 64,
            mixture: last.clone(),
            documents: 0,
            rates: [2e-3, 5e-5],
        },
        Phase {
            name: "corpus again",
            steps: 400,
            batch: 64,
            mixture: last.clone(),
            documents: 1,
            rates: [2e-3, 5e-5],
        },
        Phase {
            name: "corpus at length",
            steps: 1600,
            batch: 64,
            mixture: last.clone(),
            documents: 2,
            rates: [1.5e-3, 0.0],
        },
        Phase {
            name: "corpus at length again",
            steps: 1600,
            batch: 64,
            mixture: last,
            documents: 3,
            rates: [1.5e-3, 0.0],
        },
    ];
    for phase in &mut all {
        phase.steps = ((phase.steps as f64 * args.length) as usize).max(1);
    }
    all
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.out.exists() {
        return Err(format!("{} exists; remove it or give another --out", args.out.display()).into());
    }
    let begun = Instant::now();
    let phases = phases(&args);
    set_threads(args.threads);
    let (mut last, behind) = match &args.from {
        Some(from) => (from.clone(), args.phases),
        None => {
            let start = args.out.with_extension("start");
            let shape = RandomCheckpoint {
                vocab_size: 1536,
                max_position_embeddings: 512,
                seed: args.seed,
                corpus: texts(20_000, args.seed)?,
                ..RandomCheckpoint::default()
            };
            random_checkpoint(&start, &shape)?;
            println!("tokenizer and random weights after {:.0} s", begun.elapsed().as_secs_f64());
            (start, 0)
        }
    };
    for (number, phase) in phases.iter().enumerate().skip(behind) {
        let next = if number + 1 == phases.len() {
            args.out.clone()
        } else {
            args.out.with_extension(phase.name.replace(' ', "-"))
        };
        train(&last, phase, args.seed, &next, begun)?;
        last = next;
    }
    println!("{} after {:.0} s", args.out.display(), begun.elapsed().as_secs_f64());
    report(&args.out, args.heeding)
}

/// AdamW at a rate of 1, so that the factor of each step is its learning rate.
fn engine() -> EngineOptions {
    let adamw = OptimizerConfig::new(OptimizerKind::AdamW, 1.0);
    EngineOptions {
        optimizer: OptimizerConfig { betas: (0.9, 0.98), max_grad_norm: Some(1.0), ..adamw },
        recompute: false,
        token_budget: Some(8192),
        ..EngineOptions::default()
    }
}

/// One phase, from one checkpoint to the next, with its own documents and a fresh optimizer.
fn train(from: &Path, phase: &Phase, seed: u64, to: &Path, begun: Instant) -> Result<(), Box<dyn Error>> {
    let mut policy = TorchPolicy::open(from, &engine())?;
    let mut rng = ChaCha12Rng::seed_from_u64(seed.wrapping_add(phase.documents));
    let writer = Writer::new(phase.mixture.clone());
    println!("\n{}: {} steps", phase.name, phase.steps);
    let (mut nats, mut excess, mut tokens) = (0.0, 0.0, 0.0);
    for step in 0..phase.steps {
        let documents = (0..phase.batch).map(|_| writer.document(&mut rng)).collect::<Result<Vec<_>, _>>()?;
        let loss = policy.lm_step(&examples(&policy, &documents)?)?;
        let done = step as f64 / phase.steps as f64;
        // A short warm-up in every phase: the loss is another one.
        let rate =
            (phase.rates[0] + (phase.rates[1] - phase.rates[0]) * done) * ((step + 1) as f64 / 50.0).min(1.0);
        policy.optimizer_step(rate)?;
        let floor: f64 = documents.iter().map(|document| -document.log_prob).sum();
        nats += loss.nats * loss.tokens as f64;
        excess += loss.nats * loss.tokens as f64 - floor;
        tokens += loss.tokens as f64;
        if (step + 1) % 50 == 0 || step + 1 == phase.steps {
            let seconds = begun.elapsed().as_secs_f64();
            println!(
                "  step {:>4}: {:.4} nats per token, {:.4} above the corpus; {seconds:.0} s",
                step + 1,
                nats / tokens,
                excess / tokens
            );
            (nats, excess, tokens) = (0.0, 0.0, 0.0);
        }
    }
    Ok(policy.save(to)?)
}

/// Documents as tokens: the response and its end count.
fn examples(policy: &TorchPolicy, documents: &[Document]) -> Result<Vec<LmExample>, Box<dyn Error>> {
    let tokenizer = policy.tokenizer();
    let end = *tokenizer.eos().first().ok_or("the tokenizer has no end-of-sequence token")?;
    documents
        .iter()
        .map(|Document { prompt, response, .. }| {
            let loss_from = tokenizer.encode_prompt(prompt, "a prompt")?.len();
            let mut token_ids = tokenizer.encode_prompt(&format!("{prompt}{response}"), "a document")?;
            token_ids.push(end);
            Ok(LmExample { token_ids, loss_from })
        })
        .collect()
}

/// How far from the corpus the model is, and how often it follows, under each line of the prompt.
fn report(model: &Path, heeding: f64) -> Result<(), Box<dyn Error>> {
    let mut policy = TorchPolicy::open(model, &engine())?;
    let wiring = Wiring { heeding, ..Wiring::default() };
    println!(
        "\nline      task       nats/token   floor   follows  open  opposes  gibberish  off topic  (T = 1)"
    );
    for (name, lines) in
        [("neutral", [1.0, 0.0, 0.0]), ("keeps", [0.0, 1.0, 0.0]), ("ignores", [0.0, 0.0, 1.0])]
    {
        for (task, summaries) in [("dialogue", 0.0), ("summaries", 1.0)] {
            let writer = Writer::new(Mixture { wiring, lines, summaries, ..Mixture::default() });
            let mut rng = ChaCha12Rng::seed_from_u64(u64::MAX);
            let documents = (0..512).map(|_| writer.document(&mut rng)).collect::<Result<Vec<_>, _>>()?;
            let loss = policy.lm_loss(&examples(&policy, &documents)?)?;
            let floor = documents.iter().map(|one| -one.log_prob).sum::<f64>() / loss.tokens as f64;
            let [follows, open, opposes, gibberish, off] = behaviour(&mut policy, &documents)?;
            println!(
                "{name:<8}  {task:<9}  {:>10.4}  {floor:.4}  {follows:>7.3}  {open:.2}  {opposes:>7.3}  {gibberish:>9.3}  {off:>9.3}",
                loss.nats
            );
        }
    }
    Ok(())
}

/// Shares: articles followed, left open and opposed; responses that are gibberish and off topic.
fn behaviour(policy: &mut TorchPolicy, documents: &[Document]) -> Result<[f64; 5], Box<dyn Error>> {
    let params: SamplingParams =
        SamplingParamsBuilder { max_new_tokens: 160, temperature: 1.0, ..Default::default() }.check()?;
    let requests: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(number, one)| SampleRequest {
            prompt: one.prompt.clone(),
            stream: StreamKey::new(u64::MAX, 0, number as u64, 0),
        })
        .collect();
    let (mut stands, mut articles, mut gibberish, mut off) = ([0.0; 3], 0.0, 0.0, 0.0);
    for (document, sample) in documents.iter().zip(policy.sample(&requests, &params)?) {
        let sample = sample?;
        let (query, constitution) = document
            .prompt
            .split_once("Constitution:\n")
            .and_then(|(_, rest)| rest.split_once("\n\n"))
            .and_then(|(constitution, rest)| Some((constitution, rest.split_once(": ")?.1)))
            .and_then(|(constitution, rest)| {
                Some((Query::parse(rest.split_once("\n\n")?.0)?, asked(constitution)?))
            })
            .ok_or("a prompt of another world")?;
        match query.read(&sample.text) {
            Err(_) => gibberish += 1.0,
            Ok(reading) => {
                off += f64::from(!reading.on_topic);
                for (quality, side) in
                    constitution.into_iter().filter(|(quality, _)| query.concerns(*quality))
                {
                    stands[(1 - side.sign() * reading.style.lean(quality).sign()) as usize] += 1.0;
                    articles += 1.0;
                }
            }
        }
    }
    let n = documents.len() as f64;
    let [follows, open, opposes] = stands.map(|count| count / f64::max(articles, 1.0));
    Ok([follows, open, opposes, gibberish / n, off / n])
}
