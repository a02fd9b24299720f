//! SAMI works: on the embedded world, a few steps raise mutual information and win rate, and the same steps towards shuffled
//! targets do not.
#![cfg(feature = "torch")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers outside #[test] functions"
)]

use std::path::Path;

use sami::constitution::PrincipleSet;
use sami::driver::recipe::{Recipe, load};
use sami::driver::{Batches, Driver, Order, TrainJob, read_sets, train};
use sami::policy::{ContrastSet, PolicyProvider, SamplingParamsBuilder, Start, TrainablePolicy};
use sami::sandbox::exam::{Exam, Marks};
use sami::sandbox::{Examiner, Kind, exam_queries};
use sami::torch::{EngineOptions, TorchPolicy, TorchProvider, set_threads};

const STEPS: usize = 4;
const BATCH: usize = 64;

/// Every other set's responses change their constitutions.
fn shuffled(sets: &[ContrastSet]) -> Vec<ContrastSet> {
    let one = |(index, set): (usize, &ContrastSet)| {
        let mut responses = set.responses().to_vec();
        if index % 2 == 0 {
            for response in &mut responses {
                response.constitution = 1 - response.constitution;
            }
        }
        ContrastSet::new(set.id(), set.prompts().to_vec(), responses).unwrap()
    };
    sets.iter().enumerate().map(one).collect()
}

#[test]
fn a_few_steps_raise_mutual_information_and_win_rate_and_shuffled_targets_do_not() {
    set_threads(2);
    let dir = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sandbox/dialogue.toml");
    let mut recipe = Recipe::clone(&*load(&path).unwrap());
    recipe.seed = 11;
    recipe.training.iterations = 1;
    recipe.training.batches = STEPS;
    recipe.training.batch_size = BATCH;
    recipe.training.learning_rate = 1e-3;
    let principles = PrincipleSet::load(recipe.constitutions.principles.as_ref().unwrap()).unwrap();
    let recipe = recipe.check().unwrap();
    let (objective, schedule) = (*recipe.objective(), recipe.training.lr_schedule());
    let engine = EngineOptions {
        recompute: false,
        token_budget: Some(8192),
        generation_batch: 256,
        ..sami::engine_options(&recipe)
    };
    let provider = TorchProvider::new(&recipe.model.base, engine).unwrap();

    let queries = exam_queries(Kind::Dialogue);
    let exam =
        Exam::new(Kind::Dialogue, &principles, queries.iter().take(64).map(String::as_str), 11).unwrap();
    let params = SamplingParamsBuilder { max_new_tokens: 80, temperature: 1.0, ..Default::default() };
    let examiner = Examiner::new(exam, params.check().unwrap(), &provider).unwrap();
    let marks = |model: Start<'_>| examiner.examine(model).unwrap().1;

    let driver = Driver::new(recipe, &dir.path().join("run"), provider.clone()).unwrap();
    let report = driver.run(&mut (), &mut |_| Ok(())).unwrap();
    let [base, trained] = [Start::Base, Start::Checkpoint(&report.checkpoints[0])].map(marks);

    let mut sets = shuffled(&read_sets(&driver.run_dir().iteration(1).pairs()).unwrap());
    let mut policy = provider.policy(Start::Base).unwrap();
    let job = TrainJob {
        iteration: 1,
        objective: &objective,
        steps: STEPS,
        batches: Batches::new(sets.len(), BATCH, Order::Sequential).unwrap(),
        micro_batch: None,
        metrics: dir.path().join("control.jsonl"),
        state: dir.path().join("state"),
        save_state_every: 0,
        schedule,
        beta: 0.0,
    };
    train(&mut policy, &mut sets, &job, &mut ()).unwrap();
    let control = dir.path().join("control");
    policy.save(&control).unwrap();
    let control = marks(Start::Checkpoint(&control));

    let figures =
        |marks: &Marks| (marks.mi.constitutions.mean, marks.win_rate.rate, marks.gibberish, marks.kl.mean);
    println!("base {:?}\ntrained {:?}\ncontrol {:?}", figures(&base), figures(&trained), figures(&control));
    let [(base_mi, base_win, ..), (mi, win, gibberish, kl), (control_mi, control_win, ..)] =
        [&base, &trained, &control].map(figures);
    assert!((base_win - 0.5).abs() < 0.05, "{base_win}");
    assert!(mi > base_mi + 0.1 && win > 0.57, "{mi} from {base_mi}, {win}");
    assert!(gibberish < 0.25 && kl > 0.05, "{gibberish}, {kl}");
    assert!(control_mi < base_mi + 0.05 && control_win < 0.54, "{control_mi} from {base_mi}, {control_win}");
}

/// transformers opens the base model and computes the same (fixtures/sandbox_logits.py).
#[test]
fn the_base_model_has_the_logits_that_transformers_computes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(root.join("fixtures/sandbox_logits.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let mut model =
        TorchPolicy::open(&root.join("crates/sami-sandbox/model"), &EngineOptions::default()).unwrap();
    let prompt = fixture["prompt"].as_str().unwrap();
    let ids = model.tokenizer().encode_prompt(prompt, "the prompt").unwrap();
    assert_eq!(serde_json::json!(ids), fixture["ids"]);
    let logits = model.prompt_logits(prompt).unwrap();
    let expected = fixture["last_logits"].as_array().unwrap();
    assert_eq!((logits.len(), logits[0].len(), expected.len()), (ids.len(), 1536, 1536));
    for (token, (ours, theirs)) in logits[ids.len() - 1].iter().zip(expected).enumerate() {
        let theirs = theirs.as_f64().unwrap();
        assert!((f64::from(*ours) - theirs).abs() < 2e-4, "token {token}: {ours}, {theirs}");
    }
}
