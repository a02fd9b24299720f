//! Fixtures: checkpoints and what PyTorch + transformers computed with them (fixtures/README.md).
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod compare;
pub mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use safetensors::SafeTensors;
use sami_core::Objective;
use sami_policy::{ContrastPolicy, ContrastResponse, ContrastSet, SetLogps};
use sami_torch::{EngineOptions, OptimizerConfig, OptimizerKind, TorchPolicy};
use serde_json::Value;

pub const MODELS: [&str; 11] = [
    "mistral-f32",
    "mistral-window",
    "llama-tied",
    "llama3-rope",
    "llama-linear",
    "qwen2-tied",
    "qwen3",
    "mixtral",
    "qwen3-yarn",
    "llama-dynamic",
    "mistral-longrope",
];

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity")
}

pub fn fixture(model: &str) -> PathBuf {
    fixtures().join(model)
}

pub fn open(model: &str, options: &EngineOptions) -> TorchPolicy {
    TorchPolicy::open(&fixture(model).join("checkpoint"), options).unwrap()
}

pub fn options() -> EngineOptions {
    EngineOptions { optimizer: OptimizerConfig::new(OptimizerKind::AdamW, 1e-4), ..Default::default() }
}

pub fn expected(model: &str) -> Value {
    json(&fixture(model).join("expected.json"))
}

pub fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn sets(model: &str, file: &str) -> Vec<ContrastSet> {
    read_sets(&fixture(model).join(file))
}

pub fn read_sets(path: &Path) -> Vec<ContrastSet> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let strings = |v: &Value| -> Vec<String> {
                v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
            };
            let responses = record["responses"].as_array().unwrap().iter().map(|response| ContrastResponse {
                text: response["text"].as_str().unwrap().to_owned(),
                token_ids: serde_json::from_value(response["token_ids"].clone()).unwrap(),
                constitution: response["constitution"].as_u64().unwrap() as usize,
            });
            ContrastSet::new(record["id"].as_str().unwrap(), strings(&record["prompts"]), responses.collect())
                .unwrap()
        })
        .collect()
}

/// An adapter of fixtures/adapters that PEFT opens, and what it computes.
pub struct AdapterCase {
    pub name: String,
    pub base: String,
    pub sums: Vec<f64>,
}

pub fn adapter_fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters")
}

/// Those that are opened here too.
pub fn adapters() -> Vec<AdapterCase> {
    let expected = json(&adapter_fixtures().join("expected.json"));
    let all = expected["adapters"].as_object().unwrap().iter();
    all.filter(|(name, _)| !["mixtral-gate", "mixtral-gate-up"].contains(&name.as_str()))
        .map(|(name, case)| AdapterCase {
            name: name.clone(),
            base: case["base"].as_str().unwrap().to_owned(),
            sums: numbers(&case["sums"]),
        })
        .collect()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Copies an adapter and lets it name its base by an absolute path.
pub fn bring_adapter(name: &str, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let from = adapter_fixtures().join(name);
    std::fs::copy(from.join("adapter_model.safetensors"), dir.join("adapter_model.safetensors")).unwrap();
    let mut config = json(&from.join("adapter_config.json"));
    let base = config["base_model_name_or_path"].as_str().unwrap();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(base).canonicalize().unwrap();
    config["base_model_name_or_path"] = base.to_str().unwrap().into();
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
}

/// Every tensor of a safetensors file as f64.
pub fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                safetensors::Dtype::F64 => {
                    data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
                }
                safetensors::Dtype::F32 => data
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                    .collect(),
                safetensors::Dtype::I32 => data
                    .chunks_exact(4)
                    .map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap())))
                    .collect(),
                safetensors::Dtype::BF16 => data
                    .chunks_exact(2)
                    .map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f64())
                    .collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name, values)
        })
        .collect()
}

pub fn flat(matrix: &Array2<f64>) -> Vec<f64> {
    matrix.iter().copied().collect()
}

/// Largest absolute difference per token between two sums.
pub fn per_token(logps: &SetLogps, sums: &[f64]) -> f64 {
    logps
        .sum_logps
        .iter()
        .zip(&logps.tokens)
        .zip(sums)
        .map(|((a, &tokens), b)| (a - b).abs() / tokens as f64)
        .fold(0.0, f64::max)
}

/// ‖a − b‖ / ‖b‖.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let size: f64 = b.iter().map(|&b| square(b)).sum();
    (apart / size).sqrt()
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// One training step's gradient on the mean two-sided loss of `sets`; returns the loss.
pub fn accumulate(policy: &mut TorchPolicy, sets: &[ContrastSet]) -> f64 {
    let objective = Objective::builder().check().unwrap();
    let n = sets.len() as f64;
    let mut loss = 0.0;
    policy
        .contrast_step(sets, &mut |_, logps: &SetLogps| {
            let reduced = logps.reduce(objective.reduction());
            let outcome = objective.loss_and_grad(reduced.view())?;
            loss += outcome.loss / n;
            Ok(logps.gradient_in_sums(objective.reduction(), outcome.grad / n).into())
        })
        .unwrap();
    loss
}

pub fn gradients(policy: &TorchPolicy) -> Vec<f64> {
    policy.gradients().unwrap().into_iter().flat_map(|(_, values)| wide(&values)).collect()
}

/// A copy of a fixture's checkpoint to change.
pub fn copy(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(model).join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// Rewrites a JSON file.
pub fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(file);
    let mut value = json(&path);
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}
