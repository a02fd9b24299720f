//! The fake must itself be right: what is tested with it relies on its gradient, its draws and its files.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use approx::assert_relative_eq;
use ndarray::{Array2, array};
use sami_policy::fake::{FakeError, FakeOptimizer, FakePolicy, FakeProvider};
use sami_policy::{
    ContrastPolicy, ContrastResponse, ContrastSet, FinishReason, PolicyProvider, SampleRequest, Sampler,
    SamplingParams, SamplingParamsBuilder, Start, StreamKey, TrainablePolicy,
};

const SGD: FakeOptimizer = FakeOptimizer::Sgd { lr: 1.0 };

fn set() -> ContrastSet {
    let prompts = vec!["Be safe. Query?".to_owned(), "Be daring, go on. Query?".to_owned()];
    let response =
        |text: &str, constitution| ContrastResponse { text: text.to_owned(), token_ids: None, constitution };
    ContrastSet::new("q", prompts, vec![response(" avoid danger please", 0), response(" gladly done.", 1)])
        .unwrap()
}

/// Σ G ⊙ sum_logps for a fixed G.
fn weighted(policy: &mut FakePolicy, g: &Array2<f64>) -> f64 {
    (&policy.score(&[set()]).unwrap()[0].sum_logps * g).sum()
}

#[test]
fn gradient_matches_central_differences() {
    let g = array![[0.7, -0.2], [0.1, -1.3]];
    let dir = tempfile::tempdir().unwrap();
    let mut policy = FakePolicy::random(3, 0.5, SGD);
    policy.contrast_step(&[set()], &mut |_, _| Ok(g.clone().into())).unwrap();
    let gradient = policy.accumulated_gradient().clone();
    assert!(gradient.iter().filter(|g| **g != 0.0).count() > 100);

    // A unit SGD step along −gradient changes the objective by −‖gradient‖² to first order; shrink it to see that.
    policy.save(&dir.path().join("base")).unwrap();
    let slope = |lr: f64| {
        let mut moved = FakePolicy::open(&dir.path().join("base"), FakeOptimizer::Sgd { lr }).unwrap();
        moved.contrast_step(&[set()], &mut |_, _| Ok(g.clone().into())).unwrap();
        moved.optimizer_step(1.0).unwrap();
        weighted(&mut moved, &g)
    };
    let directional = (slope(1e-4) - slope(-1e-4)) / 2e-4;
    let squared: f64 = gradient.iter().map(|g| g * g).sum();
    assert_relative_eq!(directional, -squared, max_relative = 1e-6);
}

#[test]
fn log_probabilities_of_all_words_sum_to_one() {
    let words = sami_policy::fake::WORDS;
    let one = |ids: Vec<u32>| ContrastResponse { text: String::new(), token_ids: Some(ids), constitution: 0 };
    let responses = (0..=words.len() as u32).map(|id| one(vec![id])).collect();
    let set = ContrastSet::new("q", vec!["any prompt".into()], responses).unwrap();
    let mut policy = FakePolicy::random(1, 0.5, SGD);
    let logps = policy.score(&[set]).unwrap();
    assert_relative_eq!(logps[0].sum_logps.mapv(f64::exp).sum(), 1.0, max_relative = 1e-12);
    assert!(logps[0].tokens.iter().all(|&tokens| tokens == 1));
}

fn request(query: u64) -> SampleRequest {
    SampleRequest { prompt: "Tell me a plan.".into(), stream: StreamKey::new(1, 1, query, 0) }
}

#[test]
fn draws_depend_on_the_stream_alone_and_follow_the_probabilities() {
    let mut policy = FakePolicy::random(5, 0.5, SGD);
    let params = SamplingParamsBuilder {
        temperature: 1.0,
        max_new_tokens: 1,
        logps: true,
        ..SamplingParams::builder()
    };
    let params = params.check().unwrap();
    let requests: Vec<_> = (0..20_000).map(request).collect();
    let all = policy.sample(&requests, &params).unwrap();
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(policy.sample(&requests[77..78], &params).unwrap()[0], Ok(all[77].clone()));

    let ends = all.iter().filter(|sample| sample.finish == FinishReason::Eos);
    let (count, p) =
        ends.fold((0, 0.0), |(n, _), sample| (n + 1, f64::from(sample.logps.as_ref().unwrap()[0]).exp()));
    let frequency = f64::from(count) / 20_000.0;
    let error = (p * (1.0 - p) / 20_000.0).sqrt();
    assert!((frequency - p).abs() < 4.0 * error, "{frequency} against {p} ± {error}");
}

#[test]
fn greedy_takes_the_likeliest_and_stop_strings_cut() {
    let mut policy = FakePolicy::random(5, 0.5, SGD);
    let greedy = SamplingParamsBuilder { max_new_tokens: 6, ..SamplingParams::builder() };
    let texts = policy.sample(&[request(1), request(2)], &greedy.clone().check().unwrap()).unwrap();
    let texts: Vec<_> = texts.into_iter().map(Result::unwrap).collect();
    assert_eq!(texts[0].text, texts[1].text);
    let words: Vec<_> = texts[0].text.split_whitespace().collect();
    assert!(words.len() > 2, "{words:?}");
    let stopped = SamplingParamsBuilder { stop: vec![words[1].to_owned()], ..greedy }.check().unwrap();
    let stopped = policy.sample(&[request(1)], &stopped).unwrap().remove(0).unwrap();
    assert_eq!(stopped.finish, FinishReason::Stop);
    assert_eq!(stopped.text, format!(" {} ", words[0]));
    assert_eq!(stopped.token_ids, None);
}

#[test]
fn state_goes_on_as_if_nothing_had_happened() {
    let dir = tempfile::tempdir().unwrap();
    let adam = FakeOptimizer::Adam { lr: 0.01 };
    let step = |policy: &mut FakePolicy| {
        policy.contrast_step(&[set()], &mut |_, _| Ok(array![[-0.5, 0.5], [0.5, -0.5]].into())).unwrap();
        policy.optimizer_step(1.0).unwrap()
    };
    let mut whole = FakePolicy::random(9, 0.5, adam);
    step(&mut whole);
    whole.save_state(&dir.path().join("state")).unwrap();
    let last = step(&mut whole);
    assert!(last.grad_norm > 0.0 && last.update_norm > 0.0);
    assert_relative_eq!(last.update_kept, 1.0, max_relative = 1e-9);

    let mut resumed = FakePolicy::random(1, 0.5, adam);
    resumed.load_state(&dir.path().join("state")).unwrap();
    assert_eq!(step(&mut resumed), last);
    assert_eq!(resumed.weights(), whole.weights());

    whole.save(&dir.path().join("checkpoint")).unwrap();
    let provider = FakeProvider::new(dir.path().join("absent"), adam);
    let opened = provider.policy(Start::Checkpoint(&dir.path().join("checkpoint"))).unwrap();
    assert_eq!(opened.weights(), whole.weights());
    assert!(matches!(provider.sampler(Start::Base), Err(FakeError::Io { .. })));
    std::fs::write(dir.path().join("checkpoint/fake-policy.bin"), b"not one").unwrap();
    assert!(matches!(
        FakePolicy::open(&dir.path().join("checkpoint"), adam),
        Err(FakeError::Foreign { bytes: 7, .. })
    ));
}
