//! What cannot work is said before work starts, and nothing is damaged.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::fs;
use std::path::Path;

use common::{World, snapshot};
use sami_data::DataError;
use sami_driver::recipe::{Recipe, load, parse};
use sami_driver::{Blame, DriverError};

#[test]
fn another_recipe_is_refused_by_field_and_nothing_is_touched() {
    let world = World::new(200);
    let mut recipe = world.recipe();
    recipe.training.iterations = 1;
    world.run(&recipe, "run");
    let before = snapshot(&world.path("run"));
    recipe.seed = 4;
    recipe.training.micro_batch = Some(2);
    let error = world.driver(&recipe, "run").unwrap_err();
    assert_eq!(error.blame(), Blame::Input);
    assert_eq!(
        error.to_string(),
        format!(
            "{} was made by another recipe: seed, training.micro_batch differ; choose another directory, or restore the recipe",
            world.path("run/recipe.toml").display()
        )
    );
    assert_eq!(snapshot(&world.path("run")), before);
}

#[test]
fn a_run_keeps_a_recipe_that_runs_again() {
    let world = World::new(200);
    let recipe = world.recipe();
    drop(world.driver(&recipe, "run").unwrap());
    let kept = load(&world.path("run/recipe.toml")).unwrap();
    let provenance = kept.provenance.clone().unwrap();
    assert_eq!(provenance.data[0].queries, 200);
    assert_eq!(provenance.data[0].sha256.len(), 64);
    assert_eq!(Recipe { provenance: None, ..Recipe::clone(&kept) }, recipe);
    world.driver(&kept, "run").unwrap();
    let constitutions = fs::read_to_string(world.path("run/constitutions.json")).unwrap();
    assert_eq!(constitutions.matches("\"id\"").count(), 4);
}

#[test]
fn a_run_in_use_is_refused() {
    let world = World::new(200);
    let _holder = world.driver(&world.recipe(), "run").unwrap();
    let error = world.driver(&world.recipe(), "run").unwrap_err();
    assert!(matches!(error, DriverError::Data(DataError::Locked { .. })), "{error}");
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let world = World::new(200);
    fs::create_dir(world.path("thesis")).unwrap();
    fs::write(world.path("thesis/chapter-1.tex"), "x").unwrap();
    let error = world.driver(&world.recipe(), "thesis").unwrap_err();
    let shown = world.path("thesis").display().to_string();
    assert_eq!(error.to_string(), format!("{shown} is not empty and holds no run; choose another directory"));
    assert_eq!(fs::read_dir(world.path("thesis")).unwrap().count(), 1);
    fs::create_dir(world.path("empty")).unwrap();
    world.driver(&world.recipe(), "empty").unwrap();
}

#[test]
fn shortage_is_said_before_anything_is_written() {
    let world = World::new(60);
    let error = world.driver(&world.recipe(), "run").unwrap_err();
    assert!(
        matches!(error, DriverError::TooFewQueries { iteration: 2, needed: 32, split: 2, available: 25 }),
        "{error}"
    );
    let mut recipe = world.recipe();
    recipe.constitutions.n_constitutions = 5;
    let error = world.driver(&recipe, "run").unwrap_err().to_string();
    assert!(
        error.contains("5 distinct constitutions per query are asked for") && error.contains('4'),
        "{error}"
    );
    assert!(!world.path("run").exists());
}

#[test]
fn queries_that_run_out_are_told_with_the_reasons() {
    // Enough by number, but the fake says nothing now and then.
    let world = World::new(106);
    let mut recipe = world.recipe();
    recipe.sampling.max_new_tokens = 1;
    let error = world.driver(&recipe, "run").unwrap().run(&mut (), &mut |_| Ok(())).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the queries ran out: of "), "{text}");
    assert!(
        text.contains(" are needed; rejected were empty ")
            && text.contains(", identical ")
            && text.contains(". Add data"),
        "{text}"
    );
    assert_eq!(error.blame(), Blame::Input);
}

#[test]
fn pairs_of_other_data_are_refused() {
    let world = World::new(200);
    let mut recipe = world.recipe();
    recipe.training.iterations = 1;
    let _ = world.driver(&recipe, "run").unwrap().run(&mut common::CancelAt::new(3), &mut |_| Ok(()));
    let pairs = world.path("run/iteration-1/pairs.jsonl");
    let text = fs::read_to_string(&pairs).unwrap();
    fs::write(&pairs, text.replace("\"id\":\"q", "\"id\":\"x")).unwrap();
    let error = world.driver(&recipe, "run").unwrap().run(&mut (), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, DriverError::ForeignPair { line: 1, .. }), "{error}");
}

#[test]
fn recipes_are_refused_with_line_and_field() {
    let base = "[model]\nbase = \"b\"\n[data]\nfiles = [\"f\"]\n";
    let cases = [
        ("", "recipe r.toml, line 1: model.base is missing; name the directory of the base model"),
        ("[model]\nbase = \"b\"\n[data]\n", "line 3: data.files is missing; list at least one file"),
        ("[model]\nbase = 3\n", "line 2: invalid type: integer `3`"),
        ("[modle]\n", "line 1: unknown field `modle`"),
        ("seed = \n", "line 1"),
        ("{base}[training]\nbatch_size = 0\n", "line 6: training.batch_size is 0; it must be at least 1"),
        (
            "{base}[training]\nbatchsize = 1\n",
            "line 6: unknown field `batchsize`, expected one of `iterations`, `batch_size`",
        ),
        (
            "{base}[training]\nlearning_rate = -1.0\n",
            "line 6: training.learning_rate is -1; it must be a finite number above 0",
        ),
        ("{base}[training]\nlearning_rate = nan\n", "training.learning_rate is NaN"),
        (
            "{base}[training]\noptimizer = \"adam\"\n",
            "line 6: unknown variant `adam`, expected `adamw` or `rmsprop`",
        ),
        (
            "{base}[training]\noptimizer = \"rmsprop\"\nbetas = [0.9, 0.99]\n",
            "line 7: training.betas belongs to adamw, but the optimizer is rmsprop; remove it",
        ),
        ("{base}[training]\nalpha = 0.9\n", "line 6: training.alpha belongs to rmsprop"),
        ("{base}[training]\nbetas = [0.9, 1.0]\n", "line 6: training.betas is 1; it must lie in [0, 1)"),
        ("{base}[training]\nweight_decay = -0.1\n", "line 6: training.weight_decay is -0.1"),
        (
            "{base}[training]\nmax_grad_norm = 0.0\n",
            "line 6: training.max_grad_norm is 0; it must be a finite number above 0",
        ),
        ("{base}[training]\nmicro_batch = 0\n", "line 6: training.micro_batch is 0"),
        (
            "{base}[constitutions]\nn_constitutions = 1\n",
            "line 6: constitutions.n_constitutions is 1; it must be at least 2",
        ),
        ("{base}[sampling]\ntop_p = 1.5\n", "line 6: sampling.top_p is 1.5; it must lie in (0, 1]"),
        ("{base}[sampling]\nmax_new_tokens = 0\n", "line 6: sampling.max_new_tokens"),
        ("{base}[objective]\nside = \"both\"\n", "line 6: unknown variant `both`"),
        (
            "{base}[objective]\nweights = { over_responses = 0.0, over_constitutions = 1.0 }\n",
            "line 5: objective side two_sided needs both weights above 0",
        ),
        ("{base}[model.x]\n", "line 5: unknown field `x`"),
        (
            "[model]\nbase = \"b\"\ndevice = \"gpu\"\n",
            "line 3: device is \"gpu\"; it must be \"cpu\" or \"cuda:N\"",
        ),
        (
            "[model]\nbase = \"b\"\ndtype = \"f32\"\n[data]\nfiles = [\"f\"]\n[training]\nupdates = \"bf16-pure\"\n",
            "line 7: training.updates is \"bf16-pure\", but model.dtype is \"f32\"",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(Path::new("r.toml"), &text.replace("{base}", base)).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n got: {error}\nwant: {expected}");
    }
    let valid = parse(Path::new("r.toml"), base).unwrap();
    assert_eq!((1..=3).map(|i| valid.training.steps(i)).collect::<Vec<_>>(), [2, 4, 6]);
    assert_eq!((valid.training.queries(3), valid.training.learning_rate), (768, 5e-7));
}

#[test]
fn relative_paths_start_at_the_recipe() {
    let world = World::new(3);
    fs::write(
        world.path("r.toml"),
        "[model]\nbase = \"base\"\n[data]\nfiles = [\"queries.jsonl\", \"/abs.jsonl\"]\n",
    )
    .unwrap();
    let recipe = load(&world.path("r.toml")).unwrap();
    assert_eq!(recipe.model.base, world.path("base"));
    assert_eq!(recipe.data.files, [world.path("queries.jsonl"), "/abs.jsonl".into()]);
    let error = load(&world.path("none.toml")).unwrap_err().to_string();
    assert!(error.contains("none.toml: No such file"), "{error}");
}
