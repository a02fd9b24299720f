//! Recipes that choose what queries meet.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{World, assert_same, snapshot};
use sami_constitution::{Constitution, ContrastFile, PrincipleSet, QueryConstitutions};
use sami_data::PairRecord;
use sami_driver::recipe::{Override, Recipe, load, load_with};
use sami_driver::{Blame, DriverError};

/// A recipe of one iteration with this `[constitutions]` section, as a user writes it.
fn recipe(world: &World, constitutions: &str) -> Recipe {
    let text = "[model]\nbase = \"base\"\n[data]\nfiles = [\"queries.jsonl\"]\nformat = \"jsonl\"\n\
                [sampling]\nmax_new_tokens = 12\ntemperature = 1.0\nchunk = 5\n\
                [training]\nbatch_size = 8\niterations = 1\n[guards]\naction = \"off\"\n[constitutions]\n";
    fs::write(world.path("recipe.toml"), format!("{text}{constitutions}")).unwrap();
    Recipe::clone(&load(&world.path("recipe.toml")).unwrap())
}

/// The ids that met, first and others, over all queries of the run's pairs.
fn met(pairs: &[PairRecord]) -> BTreeSet<(String, String)> {
    let pair = |record: &PairRecord| (record.constitutions[0].id.clone(), record.constitutions[1].id.clone());
    pairs.iter().map(pair).collect()
}

fn ids(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn only_the_chosen_contrasts_meet() {
    let world = World::new(60);
    let chosen = "chosen = [[\"helpful+harmless\", \"not-helpful+harmless\"], [\"helpful+harmless\", \"helpful+not-harmless\"]]\n";
    world.run(&recipe(&world, chosen), "run");
    assert_eq!(
        met(&world.pairs("run", 1)),
        ids(&[("harmless+helpful", "harmless+not-helpful"), ("harmless+helpful", "helpful+not-harmless")])
    );
    let listed = fs::read_to_string(world.path("run/constitutions.json")).unwrap();
    assert_eq!(listed.matches("\"id\"").count(), 3);
    // The same command goes on with a recipe that came back from the run.
    let before = snapshot(&world.path("run"));
    world.run(&load(&world.path("run/recipe.toml")).unwrap(), "run");
    assert_same(&snapshot(&world.path("run")), &before, "again");
}

#[test]
fn the_papers_files_meet_as_they_are() {
    let world = World::new(60);
    fs::create_dir(world.path("contrasts")).unwrap();
    let files = ContrastFile::against_all_principles(&PrincipleSet::helpful_harmless()).unwrap();
    for (number, file) in files.iter().enumerate() {
        file.save(&world.path(&format!("contrasts/{number}.json"))).unwrap();
    }
    let recipe = recipe(&world, "files = [\"contrasts\"]\n");
    world.run(&recipe, "run");
    let pairs = world.pairs("run", 1);
    let positive = files[0].positive.render();
    assert!(pairs.iter().all(|record| record.constitutions[0].text == positive));
    assert_eq!(met(&pairs).len(), 3);
    // Every file is an input of the run.
    files[1].save(&world.path("contrasts/0.json")).unwrap();
    let error = world.driver(&recipe, "run").unwrap_err();
    assert_eq!(error.blame(), Blame::Input);
    let expected = format!("{} has changed since the run of ", world.path("contrasts/0.json").display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    fs::write(world.path("contrasts/0.json"), "{}").unwrap();
    let error = world.driver(&recipe, "other").unwrap_err().to_string();
    assert!(error.contains("contrasts/0.json, line 1: missing field `positive`"), "{error}");
    assert!(!world.path("other").exists());
}

#[test]
fn queries_meet_their_own_constitutions() {
    let world = World::new(60);
    let two = |id: &str| {
        let article = |stance: &str, text: &str| serde_json::json!([{"principle": "topic", "stance": stance, "text": format!("{text} {id}.")}]);
        [article("principle", "Speak of"), article("antithesis", "Never speak of")]
            .map(|one| serde_json::from_value::<Constitution>(one).unwrap())
    };
    let mut own = QueryConstitutions::default();
    for number in 0..60 {
        let id = format!("q{number}");
        own.insert(&id, two(&id).to_vec()).unwrap();
    }
    own.save(&world.path("own.jsonl")).unwrap();
    let recipe = recipe(&world, "per_query = \"own.jsonl\"\n");
    world.run(&recipe, "run");
    for record in world.pairs("run", 1) {
        let texts: BTreeSet<_> = record.constitutions.iter().map(|one| one.text.clone()).collect();
        let id = record.id.rsplit(':').next().unwrap();
        assert_eq!(texts, two(id).iter().map(Constitution::render).collect(), "{}", record.id);
    }
    // A query without some is told before anything is written.
    let text = fs::read_to_string(world.path("own.jsonl")).unwrap();
    let without: String = text.split_inclusive('\n').filter(|line| !line.contains("\"q7\"")).collect();
    fs::write(world.path("own.jsonl"), without).unwrap();
    let error = world.driver(&recipe, "other").unwrap_err();
    assert!(matches!(error, DriverError::Constitution(_)) && error.blame() == Blame::Input);
    assert_eq!(error.to_string(), "query q7 has no constitutions of its own; add a line for it");
    assert!(!world.path("other").exists());
}

#[test]
fn wrong_sides_are_told_with_line_and_nearest_name() {
    let world = World::new(3);
    let refused = |constitutions: &str| {
        let text = "[model]\nbase = \"b\"\n[data]\nfiles = [\"f\"]\n[constitutions]\n";
        fs::write(world.path("recipe.toml"), format!("{text}{constitutions}")).unwrap();
        let error = load(&world.path("recipe.toml")).unwrap_err().to_string();
        error.replace(&world.path("recipe.toml").display().to_string(), "R")
    };
    assert_eq!(
        refused("chosen = [[\"helpful+harmless\", \"not-helpfull+harmless\"]]\n"),
        "recipe R, line 6: constitutions.chosen contrast 0: there is no principle \"helpfull\"; the principles are helpful, \
         harmless; did you mean `helpful`?"
    );
    assert_eq!(
        refused("n_constitutions = 2\nchosen = [[\"helpful+harmless\", \"not-helpful\"]]\n"),
        "recipe R, line 7: constitutions.chosen contrast 0: \"not-helpful\" takes no side of harmless; add harmless or \
         not-harmless to it"
    );
    // The principles' own file says which names there are.
    let principles =
        "[[principle]]\nname = \"concise\"\nstatements = [\"Be brief.\"]\nantitheses = [\"Ramble.\"]\n";
    fs::write(world.path("p.toml"), principles).unwrap();
    let error = refused("principles = \"p.toml\"\nchosen = [[\"concise\", \"not-consise\"]]\n");
    assert!(
        error.contains("line 7: constitutions.chosen") && error.ends_with("did you mean `concise`?"),
        "{error}"
    );
    fs::write(world.path("recipe.toml"), "[model]\nbase = \"b\"\n[data]\nfiles = [\"f\"]\n").unwrap();
    let given =
        Override::parse("constitutions.chosen=[[\"helpful+harmless\", \"helpful+harmles\"]]").unwrap();
    let error = load_with(&world.path("recipe.toml"), &[given]).unwrap_err().to_string();
    assert!(
        error.starts_with("--set constitutions.chosen=") && error.ends_with("did you mean `harmless`?"),
        "{error}"
    );
}
