//! Every shipped recipe can be run as far as its text goes.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::path::{Path, PathBuf};

use sami::driver::recipe::{OptimizerName, Recipe, load};

fn shipped(below: &str) -> Vec<PathBuf> {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(below)];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Principles and tasks are TOML files too, but no recipes.
                dirs.extend(
                    Some(path).filter(|path| !path.ends_with("principles") && !path.ends_with("tasks")),
                );
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_recipe_is_valid_and_has_a_name() {
    let recipes = shipped("");
    assert!(recipes.len() >= 7, "only {} recipes found", recipes.len());
    for path in recipes {
        let recipe = load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(!recipe.name.is_empty(), "{} has no name", path.display());
    }
}

#[test]
fn every_value_of_the_paper_names_its_source() {
    let recipes = shipped("paper");
    assert!(!recipes.is_empty());
    for path in recipes {
        let text = std::fs::read_to_string(&path).unwrap();
        let values: Vec<_> = text.lines().enumerate().filter(|(_, line)| line.contains(" = ")).collect();
        let values = values.into_iter().filter(|(_, line)| !line.starts_with('#'));
        for (number, line) in values {
            assert!(line.contains('#'), "{}, line {}: no source", path.display(), number + 1);
        }
    }
}

#[test]
fn every_file_that_a_recipe_ships_with_is_there() {
    for path in shipped("paper") {
        let recipe = load(&path).unwrap();
        if let Some(principles) = &recipe.constitutions.principles {
            let set =
                sami::constitution::PrincipleSet::load(principles).unwrap_or_else(|error| panic!("{error}"));
            assert!(set.principles().len() >= 2);
        }
    }
}

#[test]
fn the_paper_index_names_every_recipe_of_the_paper() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let index = std::fs::read_to_string(root.join("docs/paper_index.md")).unwrap();
    for path in shipped("paper") {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        assert!(index.contains(&name), "docs/paper_index.md does not name {name}");
    }
}

/// Table 1: mixtral-8x7b differs from mistral-7b in optimizer and recomputation (and in the GPUs that it needs) alone.
#[test]
fn mixtral_differs_from_mistral_as_table_1_says() {
    for writer in ["weak", "strong"] {
        let read = |model: &str| {
            let name = format!("tldr-{model}-{writer}-writer.toml");
            let path = shipped("paper").into_iter().find(|path| path.ends_with(&name)).unwrap();
            Recipe::clone(&load(&path).unwrap())
        };
        let (mistral, mut mixtral) = (read("mistral-7b"), read("mixtral-8x7b"));
        assert_eq!(mixtral.training.optimizer, OptimizerName::RmsProp);
        assert!(mixtral.training.recompute);
        mixtral.name.clone_from(&mistral.name);
        mixtral.model.base.clone_from(&mistral.model.base);
        mixtral.model.gpus = mistral.model.gpus;
        mixtral.training.optimizer = OptimizerName::AdamW;
        mixtral.training.alpha = None;
        mixtral.training.weight_decay = mistral.training.weight_decay;
        assert_eq!(mixtral, mistral);
    }
}

/// Table 1 has no llama3-70b: everything but model, GPUs and principles is mistral-7b's.
#[test]
fn llama_differs_from_mistral_in_model_and_principles_alone() {
    let read = |name: &str| {
        let path = shipped("paper").into_iter().find(|path| path.ends_with(name)).unwrap();
        Recipe::clone(&load(&path).unwrap())
    };
    let (mistral, mut llama) = (read("tldr-mistral-7b-strong-writer.toml"), read("diverse-llama3-70b.toml"));
    let training = &llama.training;
    assert_eq!((training.iterations, training.batch_size, training.batches), (3, 128, 2));
    assert_eq!((1..=3).map(|iteration| training.steps(iteration)).collect::<Vec<_>>(), [2, 4, 6]);
    assert_eq!((training.learning_rate, training.optimizer), (5e-7, OptimizerName::AdamW));
    assert_eq!((llama.constitutions.n_constitutions, llama.model.gpus), (2, 8));
    llama.name.clone_from(&mistral.name);
    llama.model = mistral.model.clone();
    llama.constitutions = mistral.constitutions.clone();
    assert_eq!(llama, mistral);
}

/// The defaults are the paper's, so the paper's recipe says nothing else.
#[test]
fn defaults_are_those_of_experiment_1() {
    let path = shipped("paper").into_iter().find(|path| path.ends_with("hh-rlhf-mistral-7b.toml")).unwrap();
    let paper = load(&path).unwrap();
    let mut expected = Recipe {
        name: paper.name.clone(),
        model: paper.model.clone(),
        data: paper.data.clone(),
        evaluation: paper.evaluation,
        ..Recipe::default()
    };
    expected.training.batches_increment = Some(2);
    expected.training.weight_decay = Some(0.01);
    assert_eq!(*paper, expected);
    assert_eq!(paper.evaluation.queries, 250);
    assert!(paper.model.base.is_absolute() && paper.data.files.iter().all(|file| file.is_absolute()));
}
