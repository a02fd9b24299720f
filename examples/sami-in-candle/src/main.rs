//! SAMI with candle's tensors and autograd. The bridge is two plain vectors: token log-probabilities out of a tensor, and
//! token weights back into one.
//!
//! The model is as small as a model can be, a table of logits [constitution, token], and a response is a few tokens drawn
//! from one of its rows. Put a transformer in its place, and nothing between the two marked lines changes.
//!
//!     cargo run -p sami-in-candle --release
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use candle_core::{D, DType, Device, Tensor, Var};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sami_core::ndarray::{Array3, ArrayView3};
use sami_core::{MiAccumulator, Objective, Reduction, mutual_information};

const CONSTITUTIONS: usize = 3;
const VOCABULARY: usize = 16;
/// Longest response; they end at random before it.
const TOKENS: usize = 6;
const QUERIES: usize = 32;
const STEPS: usize = 60;
const LEARNING_RATE: f64 = 4.0;

/// One response per constitution: token ids, padded, and which are real.
struct Responses {
    ids: Vec<u32>,
    mask: Vec<bool>,
}

fn sample(logps: &[Vec<f32>], rng: &mut ChaCha8Rng) -> Responses {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for row in logps {
        let length = rng.random_range(2..=TOKENS);
        for t in 0..TOKENS {
            let mut left: f32 = rng.random();
            let token = row.iter().position(|logp| {
                left -= logp.exp();
                left < 0.0
            });
            ids.push(token.unwrap_or(VOCABULARY - 1) as u32);
            mask.push(t < length);
        }
    }
    Responses { ids, mask }
}

/// log π(token t of response r | constitution c) as a tensor [C, R, T] that candle can differentiate.
fn score(logits: &Tensor, responses: &Responses) -> candle_core::Result<Tensor> {
    let max = logits.max_keepdim(D::Minus1)?;
    let lse = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max)?;
    let ids = Tensor::from_slice(&responses.ids, CONSTITUTIONS * TOKENS, logits.device())?;
    logits.broadcast_sub(&lse)?.index_select(&ids, 1)?.reshape((CONSTITUTIONS, CONSTITUTIONS, TOKENS))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, mut rng) = (Device::Cpu, ChaCha8Rng::seed_from_u64(14313));
    let start: Vec<f32> = (0..CONSTITUTIONS * VOCABULARY).map(|_| rng.random_range(-0.3..0.3)).collect();
    let logits = Var::from_vec(start, (CONSTITUTIONS, VOCABULARY), &device)?;
    let objective = Objective::default();
    let shape = (CONSTITUTIONS, CONSTITUTIONS, TOKENS);

    println!("step   loss    MI over constitutions (nats, at most {:.3})", (CONSTITUTIONS as f64).ln());
    for step in 0..=STEPS {
        let max = logits.max_keepdim(D::Minus1)?;
        let lse = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max)?;
        let logps = logits.broadcast_sub(&lse)?.to_vec2::<f32>()?;
        let mut surrogate = Tensor::zeros((), DType::F32, &device)?;
        let (mut loss, mut information) = (0.0, MiAccumulator::new());
        for _ in 0..QUERIES {
            let responses = sample(&logps, &mut rng);
            let per_token = score(&logits, &responses)?;

            // ---- from candle: one vector of token log-probabilities ----
            let values = per_token.flatten_all()?.to_vec1::<f32>()?;
            let mask = ArrayView3::from_shape((1, CONSTITUTIONS, TOKENS), &responses.mask)?;
            // The mask is the same under every constitution here.
            let mask = mask.broadcast(shape).ok_or("the mask has one row")?;
            let values = Array3::from_shape_vec(shape, values)?;
            let matrix = objective.reduction().matrix(values.view(), mask)?;
            let query = objective.loss_and_grad(matrix.view())?;
            let weights = objective.reduction().matrix_token_weights(query.grad.view(), mask)?;
            loss += query.loss / QUERIES as f32;
            let sums = Reduction::Sum.matrix(values.view(), mask)?.mapv(f64::from);
            information.push(&mutual_information(sums.view())?);
            // ---- to candle: one vector of weights, a constant for autograd ----

            let weights = Tensor::from_vec(weights.into_raw_vec_and_offset().0, shape, &device)?;
            surrogate = (surrogate + (weights * per_token)?.sum_all()?)?;
        }
        if step % 10 == 0
            && let Some(figures) = information.finish()
        {
            let figure = figures.constitutions;
            println!(
                "{step:>4}  {loss:.4}  {:.4} ± {:.4}",
                figure.mean,
                figure.standard_error.unwrap_or(0.0)
            );
        }
        let gradients = (surrogate / QUERIES as f64)?.backward()?;
        if let Some(gradient) = gradients.get(&logits) {
            logits.set(&(logits.as_tensor() - (gradient * LEARNING_RATE)?)?)?;
        }
    }
    Ok(())
}
