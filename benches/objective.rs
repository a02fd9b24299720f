//! The objective's speed: loss and gradient in `f32` into the caller's buffers, at the shapes of `docs/performance.md`,
//! with the floor beside it, one pass that reads L and writes G.
//!
//! `cargo bench --bench objective --no-default-features` needs no LibTorch. `benches/objective_pytorch.py` runs the same
//! binary with `--serve` to take turns with PyTorch on the same inputs.
#![allow(missing_docs, reason = "criterion's macros write functions without any")]
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench answers its script, and stops where it cannot"
)]

use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use ndarray::Array3;
use rayon::prelude::*;
use sami_core::{Objective, Workspace, mutual_information};

/// Number of queries and of constitutions.
const SHAPES: [(usize, usize); 4] = [(1_000_000, 2), (200_000, 4), (4096, 64), (1, 4096)];

/// Log-probabilities between −4 and 0, as means over tokens are.
fn logps(b: usize, c: usize) -> Array3<f32> {
    let mut state = 20_240_422u64;
    Array3::from_shape_simple_fn((b, c, c), || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 * -4.0
    })
}

/// Everything one call needs.
struct Buffers {
    logps: Array3<f32>,
    per_query: Vec<f32>,
    grad: Array3<f32>,
    workspace: Workspace<f32>,
}

impl Buffers {
    fn new(logps: Array3<f32>) -> Self {
        let grad = Array3::zeros(logps.dim());
        Self { per_query: vec![0.0; logps.dim().0], logps, grad, workspace: Workspace::new() }
    }

    fn objective(&mut self) -> f32 {
        let Self { logps, per_query, grad, workspace } = self;
        Objective::default()
            .batch_loss_and_grad_into(logps.view(), per_query, grad.view_mut(), workspace)
            .expect("the inputs are finite")
    }

    /// Reads L and writes G, with next to nothing in between, on as many threads.
    fn floor(&mut self) {
        let (Some(from), Some(to)) = (self.logps.as_slice(), self.grad.as_slice_mut()) else { return };
        from.par_chunks(1 << 16).zip(to.par_chunks_mut(1 << 16)).for_each(|(from, to)| {
            for (l, g) in from.iter().zip(to) {
                *g = 0.5 * l;
            }
        });
        black_box(to);
    }
}

fn objective(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("objective");
    group.sample_size(20);
    for (b, c) in SHAPES {
        let mut buffers = Buffers::new(logps(b, c));
        let shape = format!("B={b} C={c}");
        group.throughput(Throughput::Elements((b * c * c) as u64));
        group.bench_function(BenchmarkId::new("loss and gradient", &shape), |bench| {
            bench.iter(|| black_box(buffers.objective()));
        });
        group.bench_function(BenchmarkId::new("floor", &shape), |bench| bench.iter(|| buffers.floor()));
    }
    group.finish();
}

/// What calls query by query cost, as a training loop makes them.
fn one_query(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one query");
    for c in [2, 4, 16] {
        let mut buffers = Buffers::new(logps(1, c));
        group.bench_function(BenchmarkId::new("loss and gradient", c), |bench| {
            bench.iter(|| black_box(buffers.objective()));
        });
        let sums = logps(1, c).index_axis(ndarray::Axis(0), 0).mapv(|l| f64::from(l) * 60.0);
        group.bench_function(BenchmarkId::new("mutual information", c), |bench| {
            bench.iter(|| black_box(mutual_information(sums.view())));
        });
    }
    group.finish();
}

criterion_group!(benches, objective, one_query);

/// Answers lines on standard input: `load B C FILE` (raw little-endian f32), then any number of `objective` and `floor`,
/// each with the seconds that one call took; `loss` with what was found, and after it the sum of |G|.
fn serve() {
    let mut buffers = Buffers::new(logps(1, 1));
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let words: Vec<&str> = line.split(' ').collect();
        let begun = Instant::now();
        match words[..] {
            ["load", b, c, path] => {
                let bytes = std::fs::read(path).expect("the script wrote the file");
                let entries = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                let (b, c) = (b.parse().expect("a number"), c.parse().expect("a number"));
                buffers = Buffers::new(Array3::from_shape_vec((b, c, c), entries).expect("B C C entries"));
                println!("loaded");
            }
            ["objective"] => {
                black_box(buffers.objective());
                println!("{:e}", begun.elapsed().as_secs_f64());
            }
            ["floor"] => {
                buffers.floor();
                println!("{:e}", begun.elapsed().as_secs_f64());
            }
            ["loss"] => {
                let loss = buffers.objective();
                let size: f64 = buffers.grad.iter().map(|g| f64::from(g.abs())).sum();
                println!("{loss:e} {size:e}");
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
