//! The engine's speed: scoring, one training step, and sampling, on a random checkpoint that is made for the occasion.
//!
//! `benches/engine_pytorch.py` runs the same binary with `--serve` to take turns with PyTorch + transformers on the same weights and
//! pairs.
#![allow(missing_docs, reason = "criterion's macros write functions without any")]
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench answers its script, and stops where it cannot"
)]

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use criterion::{Criterion, criterion_group};
use sami::core::Objective;
use sami::driver::read_sets;
use sami::policy::{
    ContrastPolicy, ContrastResponse, ContrastSet, SampleRequest, Sampler, SamplingParamsBuilder,
    SetGradient, StreamKey, TrainablePolicy,
};
use sami::torch::{EngineOptions, RandomCheckpoint, TorchPolicy, random_checkpoint, set_threads};

/// A model that trains, and its sets.
struct Engine {
    policy: TorchPolicy,
    sets: Vec<ContrastSet>,
    objective: Objective,
}

/// What one step came to.
struct Stepped {
    loss: f64,
    seconds: f64,
}

impl Engine {
    fn open(model: &Path, sets: Vec<ContrastSet>, options: &EngineOptions) -> Self {
        let policy = TorchPolicy::open(model, options).expect("a checkpoint");
        Self { policy, sets, objective: Objective::default() }
    }

    /// One optimizer step on `queries` sets from the `first` on, around the end.
    fn step(&mut self, first: usize, queries: usize) -> Stepped {
        let batch: Vec<_> =
            self.sets.iter().cycle().skip(first % self.sets.len()).take(queries).cloned().collect();
        let begun = Instant::now();
        let mut loss = 0.0;
        let objective = &self.objective;
        let reduction = objective.reduction();
        self.policy
            .contrast_step(&batch, &mut |_, logps| {
                let found = objective.loss_and_grad(logps.reduce(reduction).view()).expect("finite numbers");
                loss += found.loss / queries as f64;
                let sum_logps = logps.gradient_in_sums(reduction, found.grad) / queries as f64;
                Ok(SetGradient { sum_logps, kl: 0.0 })
            })
            .expect("a gradient");
        self.policy.optimizer_step(1.0).expect("an update");
        Stepped { loss, seconds: begun.elapsed().as_secs_f64() }
    }
}

/// A small model, and texts that it knows the words of.
fn engine(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let words: Vec<String> = (0..200).map(|i| format!("word{i} then {} and", i * 7 % 50)).collect();
    let recipe = RandomCheckpoint {
        hidden_size: 256,
        intermediate_size: 768,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 2000,
        max_position_embeddings: 1024,
        gain: 1.0,
        seed: 1,
        corpus: words.clone(),
    };
    random_checkpoint(dir.path(), &recipe).expect("a checkpoint");
    let prompt = |set: usize, c: usize| format!("{c} {}", words[set * 5..set * 5 + 40].join(" "));
    let sets: Vec<ContrastSet> = (0..16)
        .map(|set| {
            let response = |c: usize| ContrastResponse {
                text: words[100 + set + c..110 + set + 3 * c].join(" "),
                token_ids: None,
                constitution: c,
            };
            ContrastSet::new(
                format!("{set}"),
                vec![prompt(set, 0), prompt(set, 1)],
                vec![response(0), response(1)],
            )
            .expect("a set")
        })
        .collect();
    let mut engine = Engine::open(dir.path(), sets, &EngineOptions::default());
    let mut group = criterion.benchmark_group("engine, 16 queries of two constitutions");
    group.sample_size(10);
    group.bench_function("score", |bench| {
        bench.iter(|| engine.policy.score(&engine.sets).expect("log-probabilities"));
    });
    group.bench_function("training step", |bench| bench.iter(|| engine.step(0, 16)));
    let requests: Vec<SampleRequest> = (0..16)
        .map(|set| SampleRequest { prompt: prompt(set, 0), stream: StreamKey::new(1, 1, set as u64, 0) })
        .collect();
    let params = SamplingParamsBuilder { max_new_tokens: 32, ..SamplingParamsBuilder::default() };
    let params = params.check().expect("possible parameters");
    group.bench_function("32 tokens for each of 16 prompts", |bench| {
        bench.iter(|| engine.policy.sample(&requests, &params).expect("responses"));
    });
    group.finish();
}

criterion_group!(benches, engine);

/// Answers lines on standard input: `open THREADS DTYPE MODEL PAIRS [BUDGET]`, then any number of `step FIRST QUERIES`, each with the
/// seconds that it took and its loss.
fn serve() {
    let mut engine: Option<Engine> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), &mut engine) {
            (["open", threads, dtype, model, pairs, budget @ ..], _) => {
                set_threads(threads.parse().expect("a number of threads"));
                let options = EngineOptions {
                    dtype: dtype.parse().expect("f32 or bf16"),
                    token_budget: budget.first().map(|tokens| tokens.parse().expect("a number of tokens")),
                    ..EngineOptions::default()
                };
                let sets = read_sets(Path::new(pairs)).expect("pairs");
                engine = Some(Engine::open(Path::new(model), sets, &options));
                println!("opened");
            }
            (["step", first, queries], Some(engine)) => {
                let (first, queries) = (first.parse().expect("a number"), queries.parse().expect("a number"));
                let Stepped { loss, seconds } = engine.step(first, queries);
                println!("{seconds:e} {loss:e}");
            }
            _ => println!("unknown: {line}"),
        }
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--serve") {
        serve();
    } else {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
}
