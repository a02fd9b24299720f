//! Overrides, suggestions, and what a run keeps of its origin.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

mod common;

use std::fs;
use std::path::Path;

use common::{World, snapshot};
use sami_driver::recipe::{LoraTarget, Origin, Override, Recipe, Schedule, load_with, parse, render};
use sami_driver::{Blame, Driver, DriverError};

const BASE: &str = "[model]\nbase = \"b\"\n[data]\nfiles = [\"f\"]\n";

#[test]
fn a_wrong_name_is_answered_with_the_nearest_right_one() {
    for (text, line, name) in [
        ("[training]\nbatchsize = 3\n", 6, "batch_size"),
        ("[training]\nlearning-rate = 3\n", 6, "learning_rate"),
        ("[training]\niteration = 3\n", 6, "iterations"),
        ("[sampling]\ntemprature = 0.5\n", 6, "temperature"),
        ("[samplings]\n", 5, "sampling"),
        ("[training.lora]\nrnak = 3\n", 6, "rank"),
        ("[training.lora]\ntargets = [\"q_prj\"]\n", 6, "q_proj"),
        ("[training.lorra]\n", 5, "lora"),
        ("[objective]\nsied = \"two_sided\"\n", 6, "side"),
        ("[objective]\nside = \"two-sided\"\n", 6, "two_sided"),
        ("[guards]\nacton = \"stop\"\n", 6, "action"),
        ("[guards]\naction = \"warning\"\n", 6, "warn"),
        ("[constitutions]\nperquery = \"q\"\n", 6, "per_query"),
        ("[constitutions]\ncontrasts = \"against-all\"\n", 6, "against-all-principles"),
        ("[data]\n", 5, ""),
        ("[training]\noptimizer = \"adam\"\n", 6, "adamw"),
    ] {
        let error = parse(Path::new("r.toml"), &format!("{BASE}{text}")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("recipe r.toml, line {line}: ")), "{text}: {error}");
        if !name.is_empty() {
            assert!(error.ends_with(&format!("; did you mean `{name}`?")), "{text}: {error}");
        }
    }
    // Nothing is near: all that exist are listed, and none is suggested.
    let error = parse(Path::new("r.toml"), &format!("{BASE}[training]\nlr = 3\n")).unwrap_err().to_string();
    assert!(error.contains("`learning_rate`") && !error.contains("did you mean"), "{error}");
}

#[test]
fn contradictions_are_refused_with_field_and_line() {
    for (text, expected) in [
        (
            "[model]\nbase = \"b\"\ngpus = 8\n[data]\nfiles = [\"f\"]\n",
            "line 3: model.gpus contradicts model.device",
        ),
        ("{b}[task]\nname = \"tldr\"\nfile = \"t.toml\"\n", "line 6: task.name contradicts task.file"),
        (
            "{b}[training]\nwarmup_steps = 3\n",
            "line 6: training.warmup_steps is 3, but there are 2 optimizer steps",
        ),
        ("{b}[training]\nbeta = -0.1\n", "line 6: training.beta is -0.1"),
        (
            "{b}[training]\nupdates = \"bf16-pure\"\n",
            "line 5: training.save_dtype contradicts training.updates",
        ),
        ("{b}[training.lora]\nrank = 0\n", "line 6: training.lora.rank is 0; it must be at least 1"),
        ("{b}[training.lora]\nalpha = 0.0\n", "line 6: training.lora.alpha is 0"),
        ("{b}[training.lora]\ntargets = []\n", "line 6: training.lora.targets is missing; name at least one"),
        ("{b}[guards]\nlength = 0.5\n", "line 6: guards.length is 0.5; it must be at least 1, or 0"),
        ("{b}[guards]\nkl = -1.0\n", "line 6: guards.kl is -1"),
        ("{b}[guards]\nqueries = 0\n", "line 6: guards.queries is 0; it must be at least 1"),
        ("{b}[sampling]\ntop_p = 1.5\n", "line 6: sampling.top_p is 1.5; it must lie in (0, 1]"),
        ("{b}[sampling]\nstop = [\"\"]\n", "line 6: sampling.stop: stop string 0 is empty"),
        (
            "{b}[constitutions]\nprinciples = \"p\"\nfiles = [\"d\"]\n",
            "line 6: constitutions.principles contradicts constitutions.files and per_query, which bring their own",
        ),
        (
            "{b}[constitutions]\nfiles = [\"d\"]\nper_query = \"q\"\n",
            "line 6: constitutions.files contradicts constitutions.per_query, which leaves nothing to choose",
        ),
        (
            "{b}[constitutions]\nchosen = [[\"a\", \"not-a\"]]\ncontrasts = \"against-all-principles\"\n",
            "line 7: constitutions.contrasts contradicts constitutions.chosen, which says already what meets",
        ),
        (
            "{b}[constitutions]\nper_query = \"\"\n",
            "line 6: constitutions.per_query is missing; one of its names is empty",
        ),
        (
            "{b}[constitutions]\nn_constitutions = 3\nchosen = [[\"a\", \"not-a\"]]\n",
            "line 6: constitutions.n_constitutions is 3, but there are 2 constitutions in a contrast of",
        ),
        (
            "[model]\nbase = \"b\"\n[data]\nfiles = [\"\"]\n",
            "line 4: data.files is missing; one of its names is empty",
        ),
    ] {
        let text = text.replace("{b}", BASE);
        let error = parse(Path::new("r.toml"), &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n got: {error}\nwant: {expected}");
    }
}

fn set(path: &Path, overrides: &[&str]) -> Result<Recipe, String> {
    let parsed: Result<Vec<_>, _> = overrides.iter().map(|one| Override::parse(one)).collect();
    let recipe = parsed.and_then(|overrides| load_with(path, &overrides));
    recipe.map(|recipe| Recipe::clone(&recipe)).map_err(|error| error.to_string())
}

#[test]
fn overrides_replace_values_and_are_checked_like_them() {
    let world = World::new(3);
    let path = world.path("r.toml");
    fs::write(&path, format!("seed = 1\n{BASE}[training]\nbatch_size = 4\n")).unwrap();
    let recipe = set(
        &path,
        &[
            "seed=7",
            "training.batch_size = 64",
            "training.schedule=linear",
            "training.learning_rate=1",
            "training.lora.targets=[\"k_proj\"]",
            "name=a = b",
            "constitutions.principles=p.toml",
        ],
    )
    .unwrap();
    assert_eq!((recipe.seed, recipe.training.batch_size, recipe.training.learning_rate), (7, 64, 1.0));
    assert_eq!(recipe.training.schedule, Schedule::Linear);
    assert_eq!(recipe.training.lora.unwrap().targets, [LoraTarget::KProj]);
    assert_eq!(recipe.name, "a = b");
    // Paths in the file start at the file, those of overrides at the current directory.
    assert_eq!(recipe.model.base, world.path("b"));
    assert_eq!(recipe.constitutions.principles.unwrap(), std::env::current_dir().unwrap().join("p.toml"));
    // The last one counts.
    assert_eq!(set(&path, &["seed=7", "seed=8"]).unwrap().seed, 8);

    for (given, expected) in [
        ("seed", "--set seed: write it as section.name=value"),
        ("=3", "--set =3: the field has no name"),
        ("training.=3", "--set training.=3: the field has no name"),
        ("training.batchsize=3", "--set training.batchsize=3: unknown field `batchsize`"),
        ("training.batchsize=3", "did you mean `batch_size`?"),
        ("training.batch_size=many", "--set training.batch_size=many: invalid type: string \"many\""),
        (
            "training.batch_size=0",
            "--set training.batch_size=0: training.batch_size is 0; it must be at least 1",
        ),
        ("seed.x=3", "--set seed.x=3: invalid type"),
        ("training.optimizer=sgd", "--set training.optimizer=sgd: unknown variant `sgd`"),
    ] {
        let error = set(&path, &[given]).unwrap_err();
        assert!(error.contains(expected), "{given}\n got: {error}\nwant: {expected}");
    }
    // What the file itself says wrong keeps its line.
    fs::write(&path, format!("{BASE}[training]\nbatch_size = 0\n")).unwrap();
    let error = set(&path, &["seed=3"]).unwrap_err();
    assert!(error.contains("line 6: training.batch_size is 0"), "{error}");
}

#[test]
fn a_rendered_recipe_says_the_same() {
    let recipe =
        Recipe::clone(&parse(Path::new("r.toml"), &format!("{BASE}[training.lora]\nrank = 4\n")).unwrap());
    let again = parse(Path::new("r.toml"), &render(&recipe).unwrap()).unwrap();
    assert_eq!(*again, recipe);
}

#[test]
fn a_run_keeps_its_origin_and_refuses_changed_files() {
    let world = World::new(200);
    let mut recipe = world.recipe();
    fs::write(
        world.path("principles.toml"),
        "[[principle]]\nname = \"kind\"\nstatements = [\"Be kind.\"]\nantitheses = [\"Be rude.\"]\n",
    )
    .unwrap();
    recipe.constitutions.principles = Some(world.path("principles.toml"));
    let origin = Origin { program: "test 1".into(), revision: "abc".into(), ..Origin::default() };
    let open = || {
        Driver::with_origin(recipe.clone().check().unwrap(), &world.path("run"), world.provider(), &origin)
    };
    drop(open().unwrap());
    let kept = parse(Path::new("k"), &fs::read_to_string(world.path("run/recipe.toml")).unwrap()).unwrap();
    let provenance = kept.provenance.clone().unwrap();
    assert_eq!(provenance.origin, origin);
    let inputs: Vec<_> = provenance.inputs.iter().map(|file| file.path.as_str()).collect();
    assert!(inputs[0].ends_with("principles.toml") && inputs.len() >= 2, "{inputs:?}");
    let before = snapshot(&world.path("run"));

    for name in ["queries.jsonl", "principles.toml"] {
        let text = fs::read_to_string(world.path(name)).unwrap();
        fs::write(world.path(name), format!("{text}\n")).unwrap();
        let error = open().unwrap_err();
        assert_eq!(error.blame(), Blame::Input);
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("{} has changed since the run of ", world.path(name).display())),
            "{message}"
        );
        fs::write(world.path(name), text).unwrap();
    }
    open().map(drop).unwrap();
    assert_eq!(snapshot(&world.path("run")), before);

    let text = fs::read_to_string(world.path("run/recipe.toml")).unwrap();
    let other = text
        .replace("[provenance]\n", "[provenance]\nlater = 1\n")
        .replace(env!("CARGO_PKG_VERSION"), "99.0.0");
    fs::write(world.path("run/recipe.toml"), other).unwrap();
    let error = open().unwrap_err();
    assert!(matches!(&error, DriverError::OtherVersion { found, .. } if found == "99.0.0"), "{error}");
}

#[test]
fn a_run_keeps_the_token_budget_that_it_began_with() {
    let world = World::new(200);
    let recipe = world.recipe();
    let budget = |recipe: &Recipe, chosen: usize| {
        recipe.clone().check().unwrap().with_token_budget(&world.path("run"), chosen).model.token_budget
    };
    // No run: by the memory that is free. A run: as it began, whatever is free now. The recipe's own comes first.
    assert_eq!(budget(&recipe, 2048), Some(2048));
    let begun = recipe.clone().check().unwrap().with_token_budget(&world.path("run"), 2048);
    Driver::new(begun, &world.path("run"), world.provider()).unwrap();
    assert_eq!(budget(&recipe, 256), Some(2048));
    let resumed = recipe.clone().check().unwrap().with_token_budget(&world.path("run"), 256);
    Driver::new(resumed, &world.path("run"), world.provider()).unwrap();
    let mut own = recipe.clone();
    own.model.token_budget = Some(512);
    assert_eq!(budget(&own, 256), Some(512));
    let own = own.check().unwrap().with_token_budget(&world.path("run"), 256);
    let error = Driver::new(own, &world.path("run"), world.provider()).unwrap_err().to_string();
    assert!(error.contains("was made by another recipe: model.token_budget differ"), "{error}");
}

#[test]
fn several_gpus_are_refused_before_anything_is_written() {
    let world = World::new(200);
    let mut recipe = world.recipe();
    recipe.model.gpus = 8;
    recipe.model.device = "cuda:0".to_owned().try_into().unwrap();
    let error = world.driver(&recipe, "run").unwrap_err();
    assert!(
        error.to_string().starts_with("model.gpus is 8, and training over several GPUs is not there yet"),
        "{error}"
    );
    assert!(!world.path("run").exists());
}
