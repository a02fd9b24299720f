//! AdamW and RMSprop with torch's semantics, and updates that bf16 does not swallow.
//!
//! With bf16 weights and [`Precision::Exact`] the true weight is f32, kept as the bf16 weight of the forward pass (rounded to
//! nearest) and a signed 16-bit remainder: bits(f32) = bits(bf16)·2¹⁶ + remainder. Nothing is lost, at 4 bytes a weight.
//!
//! Work goes chunk by chunk, so that a chunk's weights, gradient and state stay in cache over all operations on it; each thread takes
//! the next chunk that is left.

use sami_policy::UpdateReport;
use tch::{Kind, Tensor, no_grad};

use crate::checkpoint::{StateReader, Stored};
use crate::crew::Crew;
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::model::Parameter;
use crate::options::{OptimizerConfig, OptimizerKind, Precision};

/// Elements of a chunk: cache-sized on the processor, large on a GPU, where launching is what costs.
fn chunk_elements(device: tch::Device) -> i64 {
    if device.is_cuda() { 1 << 26 } else { 1 << 16 }
}

/// Splits f32 into bf16, rounded to nearest, and the 16 bits that rounding takes away.
pub(crate) fn split(exact: &Tensor) -> Result<(Tensor, Tensor)> {
    let bits = exact.f_contiguous()?.f_view_dtype(Kind::Int)?;
    let high = bits.f_add_scalar(0x8000)?.f_bitwise_right_shift_tensor_scalar(16)?;
    let remainder = bits.f_sub(&high.f_mul_scalar(0x1_0000)?)?.f_to_kind(Kind::Int16)?;
    Ok((high.f_to_kind(Kind::Int16)?.f_view_dtype(Kind::BFloat16)?, remainder))
}

/// The f32 that [`split`] took apart.
pub(crate) fn join(weight: &Tensor, remainder: &Tensor) -> Result<Tensor> {
    let high =
        weight.f_contiguous()?.f_view_dtype(Kind::Int16)?.f_to_kind(Kind::Int)?.f_mul_scalar(0x1_0000)?;
    Ok(high.f_add(&remainder.f_to_kind(Kind::Int)?)?.f_view_dtype(Kind::Float)?)
}

/// An update rule and its state for every parameter.
pub(crate) struct Optimizer {
    config: OptimizerConfig,
    steps: i64,
    /// By parameter; `None` for those that are not trained.
    state: Vec<Option<ParameterState>>,
}

struct ParameterState {
    /// AdamW's mean of gradients; absent for RMSprop.
    first: Option<Tensor>,
    /// Mean of squared gradients.
    second: Tensor,
    /// What the bf16 weight lacks of the exact one.
    remainder: Option<Tensor>,
}

/// Sums that the report is made of, in f64.
#[derive(Default)]
struct Norms {
    asked: f64,
    kept: f64,
    changed: f64,
    elements: f64,
}

impl Optimizer {
    /// `remainders`: what loading in bf16 rounded away, by parameter.
    pub(crate) fn new(
        config: OptimizerConfig,
        precision: Precision,
        parameters: &[Parameter],
        remainders: Vec<Option<Tensor>>,
    ) -> Result<Self> {
        let state = parameters
            .iter()
            .zip(remainders)
            .map(|(parameter, remainder)| {
                if !parameter.trainable {
                    return Ok(None);
                }
                let weight = &parameter.tensor;
                let exact = precision == Precision::Exact;
                let kind = if exact { Kind::Float } else { weight.kind() };
                let zeros = |kind| Tensor::f_zeros(weight.size(), (kind, weight.device()));
                let split = exact && weight.kind() == Kind::BFloat16;
                Ok(Some(ParameterState {
                    first: match config.kind {
                        OptimizerKind::AdamW => Some(zeros(kind)?),
                        OptimizerKind::RmsProp => None,
                    },
                    second: zeros(kind)?,
                    remainder: match remainder {
                        _ if !split => None,
                        Some(remainder) => Some(remainder),
                        None => Some(zeros(Kind::Int16)?),
                    },
                }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, steps: 0, state })
    }

    /// Number of updates so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.unsigned_abs()
    }

    /// One step with the accumulated gradients, which are released as they are used.
    pub(crate) fn step(
        &mut self,
        crew: &Crew,
        parameters: &[Parameter],
        grads: &mut Gradients,
        lr_factor: f64,
    ) -> Result<UpdateReport> {
        let grad_norm = global_norm(crew, parameters, grads)?;
        let scale = match self.config.max_grad_norm {
            // torch.nn.utils.clip_grad_norm_'s formula.
            Some(limit) => (limit / (grad_norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        self.steps += 1;
        let steps = self.steps;
        let mut chunks = Vec::new();
        for (index, (parameter, state)) in parameters.iter().zip(&self.state).enumerate() {
            let Some(state) = state else { continue };
            let mut config = self.config;
            config.lr *= lr_factor;
            if config.decay_matrices_only && parameter.tensor.dim() < 2 {
                config.weight_decay = 0.0;
            }
            let grad = grads.take(index);
            chunks.extend(Chunk::all(config, &parameter.tensor, grad, state)?);
        }
        let mut norms = Norms::default();
        for of_chunk in crew.map(chunks, |chunk| chunk.update(steps, scale))? {
            norms += of_chunk;
        }
        let asked = norms.asked.sqrt();
        Ok(UpdateReport {
            grad_norm,
            update_norm: asked,
            update_kept: if norms.asked > 0.0 { norms.kept / norms.asked } else { 1.0 },
            fraction_changed: norms.changed / norms.elements.max(1.0),
        })
    }

    /// The weight as it is to be saved at full precision.
    pub(crate) fn exact(&self, index: usize, weight: &Tensor) -> Stored {
        match self.state[index].as_ref().and_then(|state| state.remainder.as_ref()) {
            Some(remainder) => {
                Stored::Split { weight: weight.shallow_clone(), remainder: remainder.shallow_clone() }
            }
            None => Stored::Plain(weight.shallow_clone()),
        }
    }

    /// Everything that going on needs beside the weights.
    pub(crate) fn save(&self, parameters: &[Parameter]) -> Result<Vec<(String, Stored)>> {
        let mut tensors = vec![("steps".to_owned(), Stored::Plain(Tensor::f_from_slice(&[self.steps])?))];
        for (index, (parameter, state)) in parameters.iter().zip(&self.state).enumerate() {
            let Some(state) = state else { continue };
            let name = &parameter.name;
            tensors.push((format!("weight.{name}"), self.exact(index, &parameter.tensor)));
            tensors.push((format!("second.{name}"), Stored::Plain(state.second.shallow_clone())));
            if let Some(first) = &state.first {
                tensors.push((format!("first.{name}"), Stored::Plain(first.shallow_clone())));
            }
        }
        Ok(tensors)
    }

    /// Names and shapes of what [`Optimizer::save`] writes.
    fn tensors(&self, parameters: &[Parameter]) -> Vec<(String, Vec<i64>)> {
        let mut tensors = vec![("steps".to_owned(), vec![1])];
        for (parameter, state) in parameters.iter().zip(&self.state) {
            let Some(state) = state else { continue };
            let parts = ["weight", "second"].into_iter().chain(state.first.as_ref().map(|_| "first"));
            tensors.extend(parts.map(|part| (format!("{part}.{}", parameter.name), parameter.tensor.size())));
        }
        tensors
    }

    /// Goes on from [`Optimizer::save`], weights included. A state of another model or optimizer is refused, and changes nothing.
    pub(crate) fn load(&mut self, parameters: &[Parameter], reader: &StateReader) -> Result<()> {
        reader.check(&self.tensors(parameters))?;
        no_grad(|| {
            self.steps = reader.tensor("steps")?.f_int64_value(&[0])?;
            for (parameter, state) in parameters.iter().zip(&mut self.state) {
                let Some(state) = state else { continue };
                let name = &parameter.name;
                let mut weight = parameter.tensor.f_detach()?;
                let exact = reader.tensor(&format!("weight.{name}"))?.f_to_device(weight.device())?;
                match &mut state.remainder {
                    Some(remainder) => {
                        let (high, low) = split(&exact)?;
                        weight.f_copy_(&high)?;
                        remainder.f_copy_(&low)?;
                    }
                    None => weight.f_copy_(&exact)?,
                }
                state.second.f_copy_(&reader.tensor(&format!("second.{name}"))?)?;
                if let Some(first) = &mut state.first {
                    first.f_copy_(&reader.tensor(&format!("first.{name}"))?)?;
                }
            }
            Ok(())
        })
    }
}

/// A part of a parameter with all that belongs to it, flat.
struct Chunk {
    config: OptimizerConfig,
    weight: Tensor,
    /// `None` is zero.
    grad: Option<Tensor>,
    first: Option<Tensor>,
    second: Tensor,
    remainder: Option<Tensor>,
}

impl Chunk {
    /// All chunks of a parameter.
    fn all(
        config: OptimizerConfig,
        weight: &Tensor,
        grad: Option<Tensor>,
        state: &ParameterState,
    ) -> Result<Vec<Self>> {
        let grad = grad.map(|grad| grad.f_contiguous()).transpose()?;
        let (total, size) = (weight.numel() as i64, chunk_elements(weight.device()));
        let starts = (0..total).step_by(size as usize);
        starts
            .map(|start| {
                let part =
                    |t: &Tensor| t.f_detach()?.f_view([-1])?.f_narrow(0, start, size.min(total - start));
                Ok(Self {
                    config,
                    weight: part(weight)?,
                    grad: grad.as_ref().map(part).transpose()?,
                    first: state.first.as_ref().map(part).transpose()?,
                    second: part(&state.second)?,
                    remainder: state.remainder.as_ref().map(part).transpose()?,
                })
            })
            .collect()
    }

    fn update(mut self, steps: i64, scale: f64) -> Result<Norms> {
        let before = copy(&self.weight)?;
        let grad = match self.grad {
            Some(grad) if scale != 1.0 => grad.f_mul_scalar(scale)?,
            Some(grad) => grad,
            None => self.second.f_zeros_like()?,
        };
        let exact = match &self.remainder {
            Some(remainder) => join(&self.weight, remainder)?,
            None => copy(&self.weight)?,
        };
        let updated = rule(&self.config, steps, &exact, &grad, self.first, self.second)?;
        match &mut self.remainder {
            Some(remainder) => {
                let (high, low) = split(&updated.weight)?;
                self.weight.f_copy_(&high)?;
                remainder.f_copy_(&low)?;
            }
            None => self.weight.f_copy_(&updated.weight)?,
        }
        Norms::of(&updated.asked, &self.weight, &before)
    }
}

struct Updated {
    weight: Tensor,
    /// What the rule asked to add to the weight.
    asked: Tensor,
}

/// torch.optim's arithmetic, in its order. The state is updated in place.
fn rule(
    config: &OptimizerConfig,
    steps: i64,
    weight: &Tensor,
    grad: &Tensor,
    first: Option<Tensor>,
    mut second: Tensor,
) -> Result<Updated> {
    let (beta1, beta2) = config.betas;
    match (config.kind, first) {
        (OptimizerKind::AdamW, Some(mut first)) => {
            let decayed = weight.f_mul_scalar(1.0 - config.lr * config.weight_decay)?;
            let _ = first.f_lerp_(grad, 1.0 - beta1)?;
            let _ = second.f_mul_scalar_(beta2)?.f_add_(&grad.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
            let correction1 = 1.0 - beta1.powi(steps as i32);
            let correction2 = (1.0 - beta2.powi(steps as i32)).sqrt();
            let denominator = second.f_sqrt()?.f_div_scalar_(correction2)?.f_add_scalar_(config.eps)?;
            let delta = first.f_div(&denominator)?.f_mul_scalar_(-config.lr / correction1)?;
            let asked = weight.f_mul_scalar(-config.lr * config.weight_decay)?.f_add_(&delta)?;
            Ok(Updated { weight: decayed.f_add(&delta)?, asked })
        }
        _ => {
            let grad = if config.weight_decay == 0.0 {
                grad.shallow_clone()
            } else {
                grad.f_add(&weight.f_mul_scalar(config.weight_decay)?)?
            };
            let _ = second.f_mul_scalar_(beta2)?.f_add_(&grad.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
            let denominator = second.f_sqrt()?.f_add_scalar_(config.eps)?;
            let asked = grad.f_div(&denominator)?.f_mul_scalar_(-config.lr)?;
            Ok(Updated { weight: weight.f_add(&asked)?, asked })
        }
    }
}

impl Norms {
    fn of(asked: &Tensor, after: &Tensor, before: &Tensor) -> Result<Self> {
        let asked = asked.f_to_kind(Kind::Float)?;
        let moved = after.f_to_kind(Kind::Float)?.f_sub(&before.f_to_kind(Kind::Float)?)?;
        Ok(Self {
            asked: asked.f_dot(&asked)?.f_double_value(&[])?,
            kept: asked.f_dot(&moved)?.f_double_value(&[])?,
            changed: moved.f_count_nonzero(0)?.f_double_value(&[])?,
            elements: after.numel() as f64,
        })
    }
}

impl std::ops::AddAssign for Norms {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.kept += other.kept;
        self.changed += other.changed;
        self.elements += other.elements;
    }
}

/// Global L2 norm; names the parameter whose gradient is not finite.
fn global_norm(crew: &Crew, parameters: &[Parameter], grads: &Gradients) -> Result<f64> {
    let found: Vec<_> = parameters
        .iter()
        .enumerate()
        .filter_map(|(index, parameter)| Some((parameter.name.as_str(), grads.get(index)?.shallow_clone())))
        .collect();
    let squares = crew.map(found, |(name, grad)| {
        let norm = grad.f_to_kind(Kind::Float)?.f_norm()?.f_double_value(&[])?;
        if !norm.is_finite() {
            return Err(Error::NonFinite { what: format!("the gradient of {name}") });
        }
        Ok(norm * norm)
    })?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

/// A tensor of its own with the same numbers.
fn copy(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_to_dtype(x.kind(), false, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    /// What torch.optim did with given gradients; made by fixtures/make_parity.py.
    fn fixture() -> StateReader {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/optimizers.safetensors");
        StateReader::open(&path).unwrap()
    }

    fn crew() -> Crew {
        Crew::new(tch::Device::Cpu).unwrap()
    }

    fn largest(x: &Tensor) -> f64 {
        x.f_abs().unwrap().f_max().unwrap().f_double_value(&[]).unwrap()
    }

    #[test]
    fn identical_gradients_give_torchs_weights_and_state() {
        let (reader, crew) = (fixture(), crew());
        let names = ["matrix", "vector", "cube"];
        let cases = [
            ("adamw", OptimizerConfig::new(OptimizerKind::AdamW, 1e-3)),
            ("adamw-slow", OptimizerConfig::new(OptimizerKind::AdamW, 5e-7)),
            ("rmsprop", OptimizerConfig::new(OptimizerKind::RmsProp, 1e-2)),
            ("rmsprop-slow", OptimizerConfig::new(OptimizerKind::RmsProp, 5e-7)),
        ];
        for (case, config) in cases {
            let parameters: Vec<Parameter> = names
                .iter()
                .map(|name| Parameter {
                    name: (*name).into(),
                    tensor: reader.tensor(&format!("initial.{name}")).unwrap(),
                    trainable: true,
                })
                .collect();
            let mut optimizer =
                Optimizer::new(config, Precision::Exact, &parameters, vec![None, None, None]).unwrap();
            for step in 1..=5 {
                let mut grads = Gradients::new(names.len(), Kind::Float);
                let found = names.iter().enumerate();
                let found = found
                    .map(|(index, name)| (index, reader.tensor(&format!("grad.{step}.{name}")).unwrap()));
                grads.add_all(&crew, vec![found.collect()]).unwrap();
                optimizer.step(&crew, &parameters, &mut grads, 1.0).unwrap();
                for parameter in &parameters {
                    let expected = reader.tensor(&format!("{case}.f32.{step}.{}", parameter.name)).unwrap();
                    let apart = largest(&(&parameter.tensor - &expected)) / largest(&expected);
                    assert!(apart <= 1e-7, "{case} step {step} {}: {apart}", parameter.name);
                }
            }
        }
    }

    #[test]
    fn exact_updates_reach_bf16_weights_that_pure_bf16_loses() {
        let run = |precision| {
            let weight = Tensor::from_slice(&[0.25f32; 1000]).to_kind(Kind::BFloat16);
            let parameters = [Parameter { name: "w".into(), tensor: weight, trainable: true }];
            let config =
                OptimizerConfig { weight_decay: 0.0, ..OptimizerConfig::new(OptimizerKind::AdamW, 5e-7) };
            let mut optimizer = Optimizer::new(config, precision, &parameters, vec![None]).unwrap();
            let mut kept = 0.0;
            for _ in 0..12 {
                let kind = if precision == Precision::Exact { Kind::Float } else { Kind::BFloat16 };
                let mut grads = Gradients::new(1, kind);
                grads.add_all(&crew(), vec![vec![(0, Tensor::from_slice(&[1.0f32; 1000]))]]).unwrap();
                kept += optimizer.step(&crew(), &parameters, &mut grads, 1.0).unwrap().update_kept;
            }
            let exact = match optimizer.exact(0, &parameters[0].tensor) {
                Stored::Split { weight, remainder } => join(&weight, &remainder).unwrap(),
                Stored::Plain(weight) => weight.to_kind(Kind::Float),
            };
            (0.25 - exact.double_value(&[0]), kept)
        };
        let (moved, kept) = run(Precision::Exact);
        assert!((moved - 6e-6).abs() < 2e-7, "{moved}");
        // The forward weight is 1/4 in bf16 still: the report says so.
        assert_eq!(kept, 0.0);
        assert_eq!(run(Precision::Bf16Pure).0, 0.0);
    }

    #[test]
    fn a_factor_is_another_learning_rate_and_vectors_can_be_left_undecayed() {
        let run = |config: OptimizerConfig, factor: f64| {
            let parameters = [
                Parameter {
                    name: "matrix".into(),
                    tensor: Tensor::full([2, 2], 1.0, (Kind::Float, tch::Device::Cpu)),
                    trainable: true,
                },
                Parameter {
                    name: "norm".into(),
                    tensor: Tensor::full([2], 1.0, (Kind::Float, tch::Device::Cpu)),
                    trainable: true,
                },
            ];
            let mut optimizer =
                Optimizer::new(config, Precision::Exact, &parameters, vec![None, None]).unwrap();
            let mut grads = Gradients::new(2, Kind::Float);
            let grad = Tensor::from_slice(&[0f32, 1.0, 2.0, -3.0]).view([2, 2]);
            grads.add_all(&crew(), vec![vec![(0, grad)]]).unwrap();
            optimizer.step(&crew(), &parameters, &mut grads, factor).unwrap();
            parameters.map(|p| Vec::<f32>::try_from(p.tensor.view([-1])).unwrap())
        };
        let config = OptimizerConfig { weight_decay: 0.5, ..OptimizerConfig::new(OptimizerKind::AdamW, 0.2) };
        let halved = OptimizerConfig { lr: 0.1, ..config };
        assert_eq!(run(config, 0.5), run(halved, 1.0));
        assert_ne!(run(config, 1.0), run(halved, 1.0));
        let [matrix, norm] = run(config, 1.0);
        // No gradient: decay alone, (1 - lr · decay).
        assert_eq!((matrix[0], norm[0]), (0.9, 0.9));
        let [matrix, norm] = run(OptimizerConfig { decay_matrices_only: true, ..config }, 1.0);
        assert_eq!((matrix[0], norm[0]), (0.9, 1.0));
    }

    proptest! {
        #[test]
        fn splitting_loses_nothing_and_rounds_to_nearest(values in prop::collection::vec(-3e38f32..3e38, 1..50)) {
            let exact = Tensor::from_slice(&values);
            let (weight, remainder) = split(&exact).unwrap();
            let joined = Vec::<f32>::try_from(join(&weight, &remainder).unwrap()).unwrap();
            for (joined, value) in joined.iter().zip(&values) {
                prop_assert_eq!(joined.to_bits(), value.to_bits());
            }
            let rounded = Vec::<f32>::try_from(weight.to_kind(Kind::Float)).unwrap();
            for (rounded, value) in rounded.iter().zip(&values) {
                let nearest = half::bf16::from_f32(*value).to_f32();
                prop_assert!((rounded - value).abs() <= (nearest - value).abs());
            }
        }
    }
}
