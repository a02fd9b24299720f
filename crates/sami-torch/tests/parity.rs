//! Parity with PyTorch 2.11 + transformers 5 (fixtures/parity, made by fixtures/make_parity.py). `cargo xtask parity` makes the
//! same comparisons with freshly drawn models.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::compare::{Case, Check};
use common::*;
use sami_core::mutual_information;
use sami_policy::{ContrastPolicy, SampleRequest, Sampler, SamplingParamsBuilder, StreamKey};

/// Makes one comparison for every model and returns how many there were.
fn agree(compare: impl Fn(&Case) -> Vec<Check>) -> usize {
    let mut seen = 0;
    for model in MODELS {
        for check in compare(&Case { root: fixtures(), model }) {
            seen += 1;
            assert!(check.passes(), "{model}, {}: {:e} > {:e}", check.what, check.ours, check.limit);
        }
    }
    seen
}

#[test]
fn logits_agree() {
    assert_eq!(agree(Case::logits), MODELS.len());
}

#[test]
fn matrices_of_2_3_4_and_8_constitutions_agree() {
    assert_eq!(agree(Case::matrices), 8 * MODELS.len());
}

#[test]
fn in_bf16_the_noise_is_bf16s_own() {
    assert_eq!(agree(Case::bf16_matrices), MODELS.len());
}

#[test]
fn gradients_of_every_parameter_agree() {
    assert!(agree(Case::gradients) >= 2 * MODELS.len());
}

#[test]
fn updates_of_twelve_steps_in_three_iterations_agree() {
    assert!(agree(Case::updates) >= 4, "no update fixtures were found");
}

#[test]
fn greedy_continuations_agree_token_for_token() {
    assert_eq!(agree(Case::greedy), MODELS.len());
}

#[test]
fn mutual_information_agrees() {
    for model in MODELS {
        let mut policy = open(model, &options());
        for label in compare::LABELS {
            let scores = policy.score(&sets(model, &format!("pairs-{label}.jsonl"))).unwrap();
            for (index, logps) in scores.iter().enumerate() {
                let mi = mutual_information(logps.sum_logps.view()).unwrap();
                let expected = &expected(model)[label]["mi_f64"][index];
                for (got, name) in [
                    (mi.constitutions, "constitutions"),
                    (mi.responses, "responses"),
                    (mi.two_sided, "two_sided"),
                ] {
                    let expected = expected[name].as_f64().unwrap();
                    assert!(
                        (got - expected).abs() <= 1e-3,
                        "{model} {label} {index} {name}: {got} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn sampled_logps_are_those_that_scoring_gives() {
    for model in MODELS {
        let mut policy = open(model, &options());
        let prompt = "Human: Tell me about ladders.\n\nAssistant:".to_owned();
        let request = SampleRequest { prompt: prompt.clone(), stream: StreamKey::new(5, 0, 0, 0) };
        let params =
            SamplingParamsBuilder { max_new_tokens: 20, temperature: 1.0, logps: true, ..Default::default() };
        let sample = policy.sample(&[request], &params.check().unwrap()).unwrap().remove(0).unwrap();
        let response =
            sami_policy::ContrastResponse { text: sample.text, token_ids: sample.token_ids, constitution: 0 };
        let set = sami_policy::ContrastSet::new("s", vec![prompt], vec![response]).unwrap();
        let scored = policy.score(&[set]).unwrap()[0].sum_logps[[0, 0]];
        let sampled: f64 = sample.logps.unwrap().iter().map(|&logp| f64::from(logp)).sum();
        assert!((scored - sampled).abs() < 1e-4, "{model}: {scored} {sampled}");
    }
}
