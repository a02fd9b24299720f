//! The probe on a policy whose wiring is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use sami_constitution::{ConstitutionSpace, PrincipleSet, Task};
use sami_core::Objective;
use sami_data::ResponseFilter;
use sami_eval::probe::{Connection, GradientSignal, Prompts, ask, information};
use sami_policy::fake::{FakeOptimizer, FakePolicy};
use sami_policy::{ContrastPolicy, SamplingParams, SamplingParamsBuilder, TrainablePolicy};

/// The constitutions of [`contrasts`].
const IDS: [&str; 4] =
    ["harmless+helpful", "harmless+not-helpful", "helpful+not-harmless", "not-harmless+not-helpful"];

fn policy(wiring: f64) -> FakePolicy {
    FakePolicy::random(3, wiring, FakeOptimizer::Sgd { lr: 1.0 })
}

fn params() -> SamplingParams {
    let builder = SamplingParamsBuilder { max_new_tokens: 12, temperature: 1.0, ..SamplingParams::builder() };
    builder.check().unwrap()
}

fn filter() -> ResponseFilter {
    ResponseFilter::new(sami_constitution::ResponseRules::default()).unwrap()
}

/// `n` queries under the four constitutions of two principles.
fn contrasts(n: usize) -> Vec<Prompts> {
    let space = ConstitutionSpace::new(PrincipleSet::helpful_harmless());
    let task = Task::dialogue();
    let prompts = |i: usize| {
        let query = format!("Tell me about thing number {i}.");
        let sampling = space.all().map(|one| task.sampling_prompt(&one, &query).unwrap()).collect();
        let training = space.all().map(|one| task.training_prompt(&one, &query).unwrap()).collect();
        Prompts { id: format!("q:{i}"), sampling, training }
    };
    (0..n).map(prompts).collect()
}

/// The signal and noise from the norms are those of the gradients themselves.
#[test]
fn signal_and_noise_are_those_of_the_gradients() {
    let mut policy = policy(2.0);
    let sets = ask(&mut policy, &contrasts(20), &filter(), &params(), (1, 0)).unwrap().sets;
    assert!(sets.len() > 15, "{}", sets.len());
    let objective = Objective::default();
    let mut counted = 0;
    let weights = policy.weights().clone();
    let found = GradientSignal::measure(&mut policy, &sets, &objective, |_| counted += 1).unwrap().unwrap();
    assert_eq!((counted, found.queries), (sets.len(), sets.len()));
    assert_eq!(policy.weights(), weights, "a probe leaves the weights as they are");
    let mut gradients = Vec::new();
    for set in &sets {
        policy
            .contrast_step(std::slice::from_ref(set), &mut |_, logps| {
                let matrix = logps.reduce(objective.reduction());
                let step = objective.loss_and_grad_with_targets(matrix.view(), &set.targets())?;
                Ok(logps.gradient_in_sums(objective.reduction(), step.grad).into())
            })
            .unwrap();
        gradients.push(policy.accumulated_gradient().clone());
        policy.optimizer_step(0.0).unwrap();
    }
    let n = gradients.len() as f64;
    let mean = gradients.iter().skip(1).fold(gradients[0].clone(), |sum, one| sum + one) / n;
    // Unbiased: sample variance, and ‖mean‖² less its share of noise.
    let noise: f64 = gradients.iter().map(|one| (one - &mean).mapv(|x| x * x).sum()).sum::<f64>() / (n - 1.0);
    let signal = mean.mapv(|x| x * x).sum() - noise / n;
    approx::assert_relative_eq!(found.noise_squared, noise, max_relative = 1e-9);
    approx::assert_relative_eq!(found.signal_squared, signal, max_relative = 1e-6);
    approx::assert_relative_eq!(
        found.ratio(128),
        (signal.max(0.0) * 128.0 / noise).sqrt(),
        max_relative = 1e-6
    );
}

#[test]
fn a_wired_policy_is_told_from_one_that_ignores_its_prompt() {
    let estimate = |wiring: f64| {
        let mut policy = policy(wiring);
        // One prompt for both, or the estimate reads the difference between prompts too.
        let mut prompts = contrasts(60);
        prompts.iter_mut().for_each(|one| one.sampling.clone_from(&one.training));
        let asked = ask(&mut policy, &prompts, &filter(), &params(), (1, 0)).unwrap();
        information(&mut policy, &asked.sets, &IDS).unwrap().unwrap()
    };
    let (wired, deaf) = (estimate(4.0), estimate(0.0));
    assert_eq!(Connection::decide(&wired.all, None), Connection::Strong, "{wired:?}");
    assert!(deaf.all.mean.abs() < 1e-12, "{deaf:?}");
    assert_eq!(Connection::decide(&deaf.all, None), Connection::Absent);
    // Whatever is known about one side is known about the whole.
    let names: Vec<_> = wired.principles.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["harmless", "helpful"]);
    assert!(wired.principles.iter().all(|one| one.mi.mean < wired.all.mean && one.queries > 40), "{wired:?}");
}

/// Identical prompts say nothing: the floor of a floor.
#[test]
fn identical_constitutions_have_no_information() {
    let mut policy = policy(4.0);
    let mut prompts = contrasts(8);
    for one in &mut prompts {
        one.sampling = vec![one.sampling[0].clone(); 3];
        one.training = vec![one.training[0].clone(); 3];
    }
    let asked = ask(&mut policy, &prompts, &filter(), &params(), (1, 1)).unwrap();
    assert!(information(&mut policy, &asked.sets, &[]).unwrap().unwrap().all.mean.abs() < 1e-12);
    assert_eq!(information(&mut policy, &[], &IDS).unwrap(), None);
    assert!(
        GradientSignal::measure(&mut policy, &asked.sets[..1], &Objective::default(), |_| ())
            .unwrap()
            .is_none()
    );
}
