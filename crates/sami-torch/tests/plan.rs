//! The memory plan: known sizes, what changes with what, and refusing early.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;
use sami_policy::ContrastPolicy;
use sami_torch::{
    Device, Dtype, EngineOptions, FreeMemory, MemoryLimit, MemoryPlan, ModelConfig, OptimizerConfig,
    OptimizerKind, Precision, TorchPolicy, TorchProvider, Work, plan_memory,
};
use serde_json::json;

const GIB: f64 = (1u64 << 30) as f64;

fn mistral_7b() -> ModelConfig {
    ModelConfig::parse(&json!({
        "architectures": ["MistralForCausalLM"], "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 32768, "sliding_window": null, "hidden_act": "silu"
    }))
    .unwrap()
}

fn free(gib: f64) -> Option<FreeMemory> {
    Some(FreeMemory { bytes: (gib * GIB) as u64, limit: MemoryLimit::System })
}

fn part(plan: &MemoryPlan, name: &str) -> f64 {
    plan.parts.iter().find(|part| part.name == name).map_or(0.0, |part| part.bytes as f64)
}

fn bf16() -> EngineOptions {
    EngineOptions { dtype: Dtype::Bf16, token_budget: Some(4096), ..Default::default() }
}

#[test]
fn what_lasts_is_counted_to_the_byte() {
    let config = mistral_7b();
    let p = 7_241_732_096.0;
    assert_eq!(config.parameters() as f64, p);
    let plan = |options: &EngineOptions, work| MemoryPlan::new(&config, options, work, Some(1024), None);
    let exact = plan(&bf16(), Work::Train);
    assert!(exact.fits(), "nobody knows what is free");
    let names = [
        "weights",
        "exact remainders of the weights",
        "gradients",
        "optimizer state",
        "the frozen reference",
    ];
    assert_eq!(names.map(|name| part(&exact, name)), [2.0 * p, 2.0 * p, 4.0 * p, 8.0 * p, 0.0]);
    let pure = EngineOptions { precision: Precision::Bf16Pure, keep_reference: true, ..bf16() };
    assert_eq!(
        names.map(|name| part(&plan(&pure, Work::Train), name)),
        [2.0 * p, 0.0, 2.0 * p, 4.0 * p, 2.0 * p]
    );
    let rms = EngineOptions {
        optimizer: OptimizerConfig::new(OptimizerKind::RmsProp, 5e-7),
        dtype: Dtype::F32,
        ..bf16()
    };
    assert_eq!(names.map(|name| part(&plan(&rms, Work::Train), name)), [4.0 * p, 0.0, 4.0 * p, 4.0 * p, 0.0]);
    assert_eq!(names.map(|name| part(&plan(&bf16(), Work::Score), name)), [2.0 * p, 0.0, 0.0, 0.0, 0.0]);
    // Adapters of rank 8 on queries (4,096 to 4,096) and values (4,096 to 1,024); the base is its own reference.
    let lora = EngineOptions { lora: Some(Default::default()), keep_reference: true, ..bf16() };
    let a = 32.0 * 8.0 * (8192.0 + 5120.0);
    assert_eq!(
        names.map(|name| part(&plan(&lora, Work::Train), name)),
        [2.0 * (p + a), 2.0 * a, 4.0 * a, 8.0 * a, 0.0]
    );
    // 64 sequences of 1,024 places: keys and values of 1,024 numbers in 32 layers, and one layer laid out anew.
    let sample = plan(&bf16(), Work::Sample);
    let element = if bf16().arithmetic() == Dtype::F32 { 4.0 } else { 2.0 };
    assert_eq!(part(&sample, "keys and values"), 64.0 * 1024.0 * 2.0 * 1024.0 * element * 33.0);
    // The peak is made of the parts.
    for plan in [exact, sample] {
        let sum: u64 = plan.parts.iter().map(|part| part.bytes).sum();
        assert!(plan.peak.abs_diff(sum) <= plan.parts.len() as u64, "{plan}");
    }
}

#[test]
fn more_work_at_once_takes_more() {
    let config = mistral_7b();
    let peak = |options: &EngineOptions, work, length| {
        MemoryPlan::new(&config, options, work, Some(length), None).peak
    };
    for work in [Work::Score, Work::Train, Work::Sample] {
        let small = EngineOptions { token_budget: Some(1024), ..bf16() };
        assert!(peak(&small, work, 512) < peak(&bf16(), work, 512), "{work}");
        assert!(peak(&bf16(), work, 512) < peak(&bf16(), work, 6000), "{work}");
        let f32 = peak(&EngineOptions { dtype: Dtype::F32, ..bf16() }, work, 512);
        // Exact training keeps 16 bytes a weight either way; bf16 saves activations, where they are computed in it.
        if work != Work::Train || bf16().arithmetic() == Dtype::Bf16 {
            assert!(peak(&bf16(), work, 512) < f32, "{work}");
        }
    }
    let kept = EngineOptions { recompute: false, ..bf16() };
    assert!(peak(&bf16(), Work::Train, 512) < peak(&kept, Work::Train, 512));
    assert_eq!(peak(&bf16(), Work::Score, 512), peak(&kept, Work::Score, 512));
}

#[test]
fn the_budget_follows_what_is_free() {
    let config = mistral_7b();
    let options = EngineOptions { token_budget: None, ..bf16() };
    let plan = |free| MemoryPlan::new(&config, &options, Work::Train, None, free);
    assert_eq!(plan(None).token_budget, 4096);
    assert_eq!(plan(free(1000.0)).token_budget, 4096);
    // Between what 2,048 and 4,096 tokens need with a margin: a little more or less changes nothing.
    let peak = |tokens| {
        let options = EngineOptions { token_budget: Some(tokens), ..options.clone() };
        MemoryPlan::new(&config, &options, Work::Train, None, None).peak as f64 / 0.85 / GIB
    };
    let (small, large) = (peak(2048), peak(4096));
    for share in [0.1, 0.5, 0.9] {
        let tight = plan(free(small + share * (large - small)));
        assert!(tight.fits());
        assert_eq!(tight.token_budget, 2048);
    }
    assert_eq!(plan(free(1.001 * large)).token_budget, 4096);
    assert_eq!(plan(free(1.0)).token_budget, 256);
    let asked = EngineOptions { token_budget: Some(777), ..options.clone() };
    assert_eq!(MemoryPlan::new(&config, &asked, Work::Train, None, free(1.0)).token_budget, 777);
    let gpu = EngineOptions { device: Device::Cuda(0), ..options.clone() };
    assert_eq!(MemoryPlan::new(&config, &gpu, Work::Train, None, free(1000.0)).token_budget, 16_384);
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let config = mistral_7b();
    let options = EngineOptions::default();
    let plan = |gib| MemoryPlan::new(&config, &options, Work::Train, None, free(gib));
    let changes = |gib| plan(gib).choices.iter().map(|choice| choice.change).collect::<Vec<_>>();
    assert!(plan(130.0).fits() && changes(130.0).is_empty());
    let rms = "the optimizer rmsprop";
    let both = "weights in bf16 and the optimizer rmsprop";
    let pure = "weights and updates in pure bf16, which loses most of small updates";
    let (lora, half_lora) = ("LoRA adapters instead of all weights", "LoRA adapters on weights in bf16");
    assert_eq!(changes(100.0), [rms, both, lora, half_lora, pure]);
    assert_eq!(changes(70.0), [lora, half_lora, pure]);
    assert_eq!(changes(20.0), [half_lora]);
    assert_eq!(changes(10.0), [""; 0]);
    for choice in plan(100.0).choices {
        assert!(choice.peak as f64 <= 100.0 * GIB);
    }
    let message = plan(70.0).check(&options).unwrap_err().to_string();
    assert!(message.starts_with("training this model takes about 1"), "{message}");
    assert!(
        message.contains(
            "GiB (54.0 GiB of it for optimizer state), but 70.0 GiB are available on this machine; what would fit: "
        ),
        "{message}"
    );
    let message = plan(10.0).check(&options).unwrap_err().to_string();
    assert!(
        message.ends_with("nothing that can be chosen makes it fit: use a smaller model or another machine"),
        "{message}"
    );
    assert!(plan(20.0).check(&EngineOptions { check_memory: false, ..options.clone() }).is_ok());
    // Scoring knows no optimizer.
    let score = MemoryPlan::new(&config, &options, Work::Score, None, free(20.0));
    assert_eq!(score.choices.iter().map(|choice| choice.change).collect::<Vec<_>>(), ["weights in bf16"]);
}

/// A checkpoint whose config asks for a model that no machine holds.
fn enormous() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 128_000, "hidden_size": 1_048_576, "intermediate_size": 4_194_304,
        "num_hidden_layers": 1000, "num_attention_heads": 8192, "num_key_value_heads": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 4096, "hidden_act": "silu"
    });
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_loaded_that_does_not_fit() {
    let dir = enormous();
    let options = EngineOptions::default();
    // No weights lie there: the refusal comes first.
    let messages = [
        TorchPolicy::open(dir.path(), &options).map(|_| ()).unwrap_err().to_string(),
        TorchProvider::new(dir.path(), options.clone()).map(|_| ()).unwrap_err().to_string(),
    ];
    for (message, work) in messages.iter().zip(["scoring", "training"]) {
        assert!(message.starts_with(&format!("{work} this model takes about ")), "{message}");
    }
    let unchecked = EngineOptions { check_memory: false, ..options };
    assert!(TorchProvider::new(dir.path(), unchecked).is_ok());
}

#[test]
fn a_small_model_fits_and_says_so() {
    let dir = fixture("mistral-f32").join("checkpoint");
    let plan = plan_memory(&dir, &options(), Work::Train, Some(128)).unwrap().check(&options()).unwrap();
    assert_eq!((plan.token_budget, plan.length), (4096, 128));
    let text = plan.to_string();
    assert!(
        text.starts_with("memory for training, 4096 tokens at once, up to 128 each, on cpu\n  weights "),
        "{text}"
    );
    let value = serde_json::to_value(&plan).unwrap();
    assert_eq!(value["work"], "train");
    assert_eq!(value["parameters"], plan.parameters);
    // And what is chosen is what runs.
    let sets = sets("mistral-f32", "pairs-c2.jsonl");
    let fixed = EngineOptions { token_budget: Some(4096), ..options() };
    assert_eq!(
        open("mistral-f32", &options()).score(&sets).unwrap(),
        open("mistral-f32", &fixed).score(&sets).unwrap()
    );
}

#[test]
fn a_gradient_without_an_update_needs_no_optimizer_state() {
    for options in [EngineOptions::default(), bf16()] {
        let plan =
            |work| plan_memory(&fixture("mistral-f32").join("checkpoint"), &options, work, None).unwrap();
        let part = |plan: &MemoryPlan, name: &str| {
            plan.parts.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
        };
        let (train, gradient) = (plan(Work::Train), plan(Work::Gradient));
        let state = ["optimizer state", "exact remainders of the weights"].map(|name| part(&train, name));
        assert!(state[0] > 0);
        assert_eq!(train.peak - gradient.peak, state.iter().sum::<u64>());
        assert!(gradient.peak > plan(Work::Score).peak);
    }
}
