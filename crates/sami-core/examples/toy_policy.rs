//! SAMI without any framework: a softmax policy over a handful of responses, with its own hand-written gradient, trained
//! until the mutual information between constitutions and responses rises.
//!
//! The policy has a table of logits: `logits[c][y]` for constitution c and response y. It starts out almost deaf to the
//! constitution. Every step samples one response per constitution and query, as Algorithm 1 does, asks `sami-core` for
//! the loss and G = ∂loss/∂L, and carries G back through the softmax by hand.
//!
//!     cargo run -p sami-core --release --example toy_policy
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sami_core::ndarray::{Array2, Axis};
use sami_core::{Contrast, Error, MiAccumulator, MiEstimate, Objective, mutual_information};

const CONSTITUTIONS: usize = 4;
const RESPONSES: usize = 12;
const QUERIES: usize = 64;
const STEPS: usize = 120;
const LEARNING_RATE: f64 = 6.0;

/// log π(y | c) for every response, row by row.
fn log_softmax(logits: &Array2<f64>) -> Array2<f64> {
    let lse = logits.map_axis(Axis(1), |row| {
        let max = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        max + row.mapv(|l| (l - max).exp()).sum().ln()
    });
    logits - &lse.insert_axis(Axis(1))
}

fn sample(logps: &Array2<f64>, constitution: usize, rng: &mut ChaCha8Rng) -> usize {
    let mut left: f64 = rng.random();
    for (response, logp) in logps.row(constitution).iter().enumerate() {
        left -= logp.exp();
        if left < 0.0 {
            return response;
        }
    }
    RESPONSES - 1
}

/// One response per constitution, and the contrast matrix of how likely each is under each constitution.
fn contrast(logps: &Array2<f64>, rng: &mut ChaCha8Rng) -> (Vec<usize>, Array2<f64>) {
    let responses: Vec<usize> = (0..CONSTITUTIONS).map(|c| sample(logps, c, rng)).collect();
    let matrix = logps.select(Axis(1), &responses);
    (responses, matrix)
}

fn information(logps: &Array2<f64>, rng: &mut ChaCha8Rng) -> Result<Option<MiEstimate>, Error> {
    let mut figures = MiAccumulator::new();
    for _ in 0..2000 {
        figures.push(&mutual_information(contrast(logps, rng).1.view())?);
    }
    Ok(figures.finish())
}

fn main() -> Result<(), Error> {
    let mut rng = ChaCha8Rng::seed_from_u64(2404);
    // Nearly the same distribution under every constitution, with a faint preference that SAMI is to find.
    let mut logits = Array2::from_shape_simple_fn((CONSTITUTIONS, RESPONSES), || rng.random_range(-0.4..0.4));
    let objective = Objective::default();

    println!(
        "step   loss    MI over constitutions (nats, at most ln {CONSTITUTIONS} = {:.3})",
        (CONSTITUTIONS as f64).ln()
    );
    for step in 0..=STEPS {
        let logps = log_softmax(&logits);
        let (responses, matrices): (Vec<_>, Vec<_>) =
            (0..QUERIES).map(|_| contrast(&logps, &mut rng)).unzip();
        let queries: Vec<_> = matrices.iter().map(|matrix| Contrast::new(matrix.view())).collect();
        let batch = objective.ragged_loss_and_grad(&queries)?;
        if step % 20 == 0
            && let Some(figures) = information(&logps, &mut rng)?
        {
            let figure = figures.constitutions;
            println!(
                "{step:>4}  {:.4}  {:.4} ± {:.4}",
                batch.loss,
                figure.mean,
                figure.standard_error.unwrap_or(0.0)
            );
        }
        // ∂L[c, r]/∂logits[c, y] = [y = y_r] − π(y | c), so a query's row of G goes to the sampled responses' logits, and its
        // sum, spread by π, comes off all of them.
        let mut gradient = Array2::<f64>::zeros(logits.dim());
        for (responses, grad) in responses.iter().zip(&batch.grads) {
            for ((c, r), g) in grad.indexed_iter() {
                gradient[[c, responses[r]]] += g;
                gradient.row_mut(c).scaled_add(-g, &logps.row(c).mapv(f64::exp));
            }
        }
        logits.scaled_add(-LEARNING_RATE, &gradient);
    }
    Ok(())
}
