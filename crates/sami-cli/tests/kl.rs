//! `train/kl` in metrics: with β > 0 and with β = 0, equal to a KL computed from full logits.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use common::World;
use sami_torch::{EngineOptions, TorchPolicy};
use serde_json::Value;

/// Natural logarithms of the softmax, in f64.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    logits.iter().map(|logit| logit - most - sum.ln()).collect()
}

/// KL(π ‖ base) in nats per token, by hand: over the tokens of each response after its own prompt, then
/// over responses and queries.
fn kl_by_hand(policy: &mut TorchPolicy, base: &mut TorchPolicy, pairs: &[Value]) -> f64 {
    let mut of_responses = Vec::new();
    for pair in pairs {
        for response in pair["responses"].as_array().unwrap() {
            let own = response["constitution"].as_u64().unwrap() as usize;
            let prompt = pair["prompts"][own].as_str().unwrap();
            let text = format!("{prompt}{}", response["text"].as_str().unwrap());
            let start = policy.tokenizer().encode_prompt(prompt, "").unwrap().len();
            let (p, q) = (policy.prompt_logits(&text).unwrap(), base.prompt_logits(&text).unwrap());
            // A token is predicted at the place before it.
            let places = start - 1..p.len() - 1;
            let of_tokens = places.clone().map(|place| {
                let (p, q) = (log_softmax(&p[place]), log_softmax(&q[place]));
                p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
            });
            of_responses.push(of_tokens.sum::<f64>() / places.len() as f64);
        }
    }
    of_responses.iter().sum::<f64>() / of_responses.len() as f64
}

fn kls(world: &World, metrics: &str) -> Vec<Option<f64>> {
    world.lines(metrics).iter().map(|line| line["train/kl"].as_f64()).collect()
}

#[test]
fn every_step_reports_the_kl_to_the_base() {
    let world = World::new();
    world.recipe();
    world.succeed(
        "run recipe.toml --out run --no-guards --set training.iterations=1 --set training.batches=3",
    );
    assert_eq!(kls(&world, "run/iteration-1/metrics.jsonl"), [None; 3]);
    // Their text alone, which is tokenised as a user's would be.
    let mut pairs: Vec<Value> = world.lines("run/iteration-1/pairs.jsonl");
    pairs.retain(|pair| pair["rejected"].is_null());
    for response in pairs.iter_mut().flat_map(|pair| pair["responses"].as_array_mut().unwrap()) {
        response["token_ids"] = Value::Null;
    }
    let lines: String = pairs.iter().map(|pair| format!("{pair}\n")).collect();
    world.write("pairs.jsonl", &lines);

    let train = |out: &str, more: &str| {
        world.succeed(&format!(
            "train --model model --pairs pairs.jsonl --out {out} --batch-size 2 --no-shuffle --lr 1e-2 {more}"
        ));
    };
    for (name, kl) in [("with", "--beta 0.3"), ("without", "--measure-kl")] {
        train(&format!("{name}-1"), &format!("--steps 1 {kl}"));
        train(&format!("{name}-2"), &format!("--steps 2 --micro-batch 1 {kl}"));
        let found = kls(&world, &format!("{name}-2/metrics.jsonl"));
        assert!(found[0].unwrap().abs() < 1e-9, "the base is at no distance from itself: {found:?}");
        let options = EngineOptions::default();
        let mut policy = TorchPolicy::open(&world.path(&format!("{name}-1")), &options).unwrap();
        let mut base = TorchPolicy::open(&world.path("model"), &options).unwrap();
        let expected = kl_by_hand(&mut policy, &mut base, &pairs[2..4]);
        assert!(expected > 1e-3, "{expected}");
        let found = found[1].unwrap();
        assert!((found - expected).abs() < 1e-4 * expected, "{name}: {found} and {expected}");
    }
    // In a run, with and without a coefficient.
    for (out, beta) in [("zero", "0"), ("some", "0.1")] {
        world.succeed(&format!(
            "run recipe.toml --out {out} --no-guards --set training.iterations=1 \
             --set training.measure_kl=true --set training.beta={beta}"
        ));
        let found = kls(&world, &format!("{out}/iteration-1/metrics.jsonl"));
        assert!(found[0].unwrap().abs() < 1e-9 && found[1].unwrap() > 1e-6, "{out}: {found:?}");
    }
}
