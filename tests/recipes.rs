//! Every shipped recipe can be run as far as its text goes.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::path::{Path, PathBuf};

use sami::driver::recipe::{Recipe, load};

fn shipped(below: &str) -> Vec<PathBuf> {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(below)];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
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
    assert!(recipes.len() >= 2, "only {} recipes found", recipes.len());
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
