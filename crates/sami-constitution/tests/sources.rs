//! Constitutions from other places than a space, and what is held out.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sami_constitution::{
    Article, ChosenContrasts, Constitution, ConstitutionSource, ConstitutionSpace, ContrastFile, Contrasts,
    HoldOut, PickedContrasts, Principle, PrincipleSet, QueryConstitutions, Stance,
};

fn set(principles: usize, wordings: usize) -> PrincipleSet {
    let texts = |name: &str, side: &str| (0..wordings).map(|i| format!("{name} {side} {i}.")).collect();
    let one = |index: usize| {
        let name = format!("p{index}");
        Principle { statements: texts(&name, "yes"), antitheses: texts(&name, "no"), name }
    };
    PrincipleSet::new((0..principles).map(one).collect()).unwrap()
}

fn wordings(set: Option<&PrincipleSet>) -> BTreeSet<String> {
    let all = set.into_iter().flat_map(PrincipleSet::principles);
    all.flat_map(|one| one.statements.iter().chain(&one.antitheses)).cloned().collect()
}

proptest! {
    #[test]
    fn nothing_held_out_can_be_drawn_in_training(
        principles in 1_usize..6, count in 1_usize..5, held in 0_usize..6, out in 0_usize..5, seed: u64,
    ) {
        let whole = set(principles, count);
        let names: Vec<_> = (0..held.min(principles)).map(|i| format!("p{i}")).collect();
        let parted = whole.hold_out(&HoldOut { principles: names.clone(), wordings: out });
        if names.len() == principles || out >= count {
            prop_assert!(parted.is_err());
            return Ok(());
        }
        let parted = parted.unwrap();
        let parts = [Some(parted.training()), parted.principles(), parted.paraphrases()].map(wordings);
        prop_assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), wordings(Some(&whole)).len());
        prop_assert_eq!(parts.iter().flatten().cloned().collect::<BTreeSet<_>>(), wordings(Some(&whole)));
        let space = ConstitutionSpace::new(parted.training().clone());
        for drawn in space.sample_distinct(2, &mut ChaCha12Rng::seed_from_u64(seed)).unwrap() {
            prop_assert!(drawn.articles().iter().all(|one| parts[0].contains(&one.text)));
        }
    }
}

#[test]
fn what_cannot_be_held_out_is_told() {
    let refused = |set: &PrincipleSet, principles: &[&str], wordings| {
        let principles = principles.iter().map(|name| (*name).to_owned()).collect();
        set.hold_out(&HoldOut { principles, wordings }).unwrap_err().to_string()
    };
    let two = set(2, 2);
    assert_eq!(
        refused(&two, &["p7"], 0),
        "principle p7 is to be held out, but the set has none of this name"
    );
    assert_eq!(
        refused(&two, &["p0", "p1"], 0),
        "every principle is held out; leave at least one to train on"
    );
    assert_eq!(
        refused(&two, &[], 2),
        "principle p0 has 2 statements, so 2 cannot be held out; write more of them, or hold out fewer"
    );
    let own = |name: &str, yes: &str, no: &str| Principle {
        name: name.into(),
        statements: vec![yes.into()],
        antitheses: vec![no.into()],
    };
    let alike =
        PrincipleSet::new(vec![own("a", "Be  brief.", "Ramble."), own("b", "be brief.", "Babble.")]).unwrap();
    assert_eq!(
        refused(&alike, &["b"], 0),
        "\"be brief.\" would be trained on as a and held out as b; word one of them differently"
    );
}

fn constitution(stance: Stance, text: &str) -> Constitution {
    Constitution::new(vec![Article { principle: "p".into(), stance, text: text.into() }]).unwrap()
}

fn pair(n: usize) -> Vec<Constitution> {
    vec![
        constitution(Stance::Principle, &format!("Do it {n}.")),
        constitution(Stance::Antithesis, &format!("Leave it {n}.")),
    ]
}

#[test]
fn chosen_contrasts_are_drawn_uniformly_with_the_first_one_first() {
    let mut three = pair(3);
    three.push(constitution(Stance::Antithesis, "Undo it 3."));
    let chosen = ChosenContrasts::new(vec![pair(0), pair(1), pair(2), three.clone()]).unwrap();
    let source = ConstitutionSource::Chosen(chosen);
    assert_eq!(source.all().count(), 9);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut counts = [0_usize; 4];
    let mut thirds = 0;
    for _ in 0..4_000 {
        let drawn = source.for_query("any", 2, &mut rng).unwrap();
        let index = (0..4).find(|n| drawn[0] == pair(*n)[0]).unwrap();
        counts[index] += 1;
        thirds += usize::from(drawn[1] == three[2]);
    }
    // Binomial(4000, ¼) and half of it: five standard deviations.
    assert!(counts.iter().all(|count| count.abs_diff(1_000) < 137), "{counts:?}");
    assert!(thirds.abs_diff(500) < 105, "{thirds}");
    let error = (0..50).find_map(|_| source.for_query("any", 3, &mut rng).err()).unwrap().to_string();
    assert!(
        error.contains("3 constitutions per query are asked for, and there are 2; lower n_constitutions"),
        "{error}"
    );
    let error = source.for_query("any", 1, &mut rng).unwrap_err().to_string();
    assert_eq!(error, "1 constitutions per query are asked for; a contrast needs at least 2");
}

#[test]
fn queries_may_have_constitutions_of_their_own() {
    let mut all = QueryConstitutions::default();
    all.insert("q:1", pair(1)).unwrap();
    all.insert("q:2", pair(2)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.jsonl");
    all.save(&path).unwrap();
    assert_eq!(QueryConstitutions::load(&path).unwrap(), all);
    let source = ConstitutionSource::PerQuery(all.clone());
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let drawn: BTreeSet<_> =
        source.for_query("q:2", 2, &mut rng).unwrap().iter().map(Constitution::render).collect();
    assert_eq!(drawn, pair(2).iter().map(Constitution::render).collect());
    let error = source.for_query("q:3", 2, &mut rng).unwrap_err().to_string();
    assert_eq!(error, "query q:3 has no constitutions of its own; add a line for it");

    let wrong = |text: &str| {
        std::fs::write(&path, text).unwrap();
        QueryConstitutions::load(&path).unwrap_err().to_string().replace(&path.display().to_string(), "F")
    };
    let line = |id: &str, n: [usize; 2]| {
        let article =
            |n| format!("[{{\"principle\": \"p\", \"stance\": \"principle\", \"text\": \"Do {n}.\"}}]");
        format!("{{\"query\": \"{id}\", \"constitutions\": [{}, {}]}}\n", article(n[0]), article(n[1]))
    };
    assert_eq!(wrong(""), "F: there is no contrast; give at least one");
    assert_eq!(
        wrong(&format!("{}{}", line("a", [1, 2]), line("b", [1, 1]))),
        "F, line 2: query b: two of its constitutions say the same; a contrast needs distinct ones"
    );
    assert_eq!(
        wrong(&line("a", [1, 2]).repeat(2)),
        "F, line 2: query a has constitutions already; keep one line for it"
    );
    assert_eq!(
        wrong("{\"query\": \"a\", \"constitutions\": []}"),
        "F, line 1: query a: 0 constitutions; a contrast needs at least 2"
    );
    assert!(wrong("{}").starts_with("F, line 1: missing field `query`"));
    assert_eq!(
        all.insert("q:1", pair(3)).unwrap_err().to_string(),
        "query q:1 has constitutions already; keep one line for it"
    );
}

#[test]
fn a_directory_of_contrasts_is_written_and_read_in_order() {
    let set = set(4, 1);
    let files = ContrastFile::against_all_principles(&set).unwrap();
    assert_eq!(files.len(), 15);
    assert!(files.iter().all(|file| file.positive.id() == "p0+p1+p2+p3"));
    let dir = tempfile::tempdir().unwrap();
    for (number, file) in files.iter().enumerate() {
        file.save(&dir.path().join(format!("{number}.json"))).unwrap();
    }
    std::fs::write(dir.path().join("README.md"), "not one of them").unwrap();
    // 2 before 10.
    assert_eq!(ContrastFile::load_dir(dir.path()).unwrap(), files);
    assert_eq!(PrincipleSet::from_contrasts(&files).unwrap(), set);
    let source = ConstitutionSource::Chosen(ChosenContrasts::from_files(files).unwrap());
    assert_eq!(source.all().count(), 16);
    let drawn = source.for_query("q", 2, &mut ChaCha12Rng::seed_from_u64(5)).unwrap();
    assert_eq!(drawn[0].id(), "p0+p1+p2+p3");

    let empty = tempfile::tempdir().unwrap();
    let error = ContrastFile::load_dir(empty.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: there is no contrast; give at least one", empty.path().display()));
    let many = (0..11).map(|i| Principle {
        name: format!("p{i}"),
        statements: vec!["x".into()],
        antitheses: vec!["y".into()],
    });
    let error = ContrastFile::against_all_principles(&PrincipleSet::new(many.collect()).unwrap())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "11 principles make too many contrasts for files of their own; use at most 10, or the principles themselves"
    );
}

#[test]
fn a_space_is_a_source_like_the_others() {
    let space = ConstitutionSpace::new(set(2, 1));
    let source =
        ConstitutionSource::Drawn { space: space.clone(), contrasts: Contrasts::AgainstAllPrinciples };
    assert_eq!(source.all().collect::<Vec<_>>(), space.all().collect::<Vec<_>>());
    let drawn = source.for_query("q", 4, &mut ChaCha12Rng::seed_from_u64(2)).unwrap();
    assert_eq!(drawn[0].id(), "p0+p1");
    assert!(source.for_query("q", 5, &mut ChaCha12Rng::seed_from_u64(2)).is_err());
}

#[test]
fn contrasts_are_picked_by_the_sides_that_they_take() {
    let space = ConstitutionSpace::new(set(2, 3));
    let pick = |contrasts: &[&[&str]]| {
        let contrasts: Vec<Vec<&str>> = contrasts.iter().map(|one| one.to_vec()).collect();
        PickedContrasts::new(space.clone(), &contrasts).map(ConstitutionSource::Picked)
    };
    // Order within an id is free; the paper's contrasts have the positive one first.
    let source = pick(&[&["p0+p1", "not-p1+p0"], &["p1 + p0", "not-p0+p1", "not-p0+not-p1"]]).unwrap();
    let ids: Vec<_> = source.all().map(|one| one.id()).collect();
    assert_eq!(ids, ["p0+p1", "not-p1+p0", "not-p0+p1", "not-p0+not-p1"]);
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let (mut met, mut wordings) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..200 {
        let drawn = source.for_query("any", 2, &mut rng).unwrap();
        assert_eq!(drawn[0].id(), "p0+p1");
        met.insert(drawn[1].id());
        wordings.insert(drawn[0].render());
        // What both ask for, they ask for in the same words.
        if drawn[1].id() == "not-p1+p0" {
            assert_eq!(drawn[0].articles()[0].text, drawn[1].articles()[0].text);
        }
    }
    assert_eq!((met.len(), wordings.len()), (3, 9));
    // An evaluation asks under all of them at once.
    let (whole, count) = source.whole();
    assert_eq!(count, 4);
    assert_eq!(whole.for_query("any", 4, &mut rng).unwrap()[0].id(), "p0+p1");
    assert_eq!(
        source.check(3).unwrap_err().to_string(),
        "contrast 0: 3 constitutions per query are asked for, and there are 2; lower n_constitutions"
    );
    assert!(source.for_query("any", 3, &mut rng).is_err() && source.check(2).is_ok());

    let refused = |contrasts: &[&[&str]]| pick(contrasts).unwrap_err().to_string();
    assert_eq!(refused(&[]), "there is no contrast; give at least one");
    assert_eq!(refused(&[&["p0+p1"]]), "contrast 0: 1 constitutions; a contrast needs at least 2");
    assert_eq!(
        refused(&[&["p0+p1", "p1+p0"]]),
        "contrast 0: two of its constitutions say the same; a contrast needs distinct ones"
    );
    assert_eq!(
        refused(&[&["p0+p1", "not-p0+p1"], &["p0+p1", "not-p2+p1"]]),
        "contrast 1: there is no principle \"p2\"; the principles are p0, p1"
    );
    assert_eq!(
        refused(&[&["p0+p1", "not-p0"]]),
        "contrast 0: \"not-p0\" takes no side of p1; add p1 or not-p1 to it"
    );
    assert_eq!(
        refused(&[&["p0+p1", "p0+not-p0+p1"]]),
        "contrast 0: \"p0+not-p0+p1\" names p0 twice; keep one side of it"
    );
}

#[test]
fn every_source_can_let_all_its_constitutions_meet() {
    let drawn = ConstitutionSource::Drawn {
        space: ConstitutionSpace::new(set(3, 1)),
        contrasts: Contrasts::AgainstAllPrinciples,
    };
    let chosen = ConstitutionSource::Chosen(ChosenContrasts::new(vec![pair(0), pair(1)]).unwrap());
    let mut own = QueryConstitutions::default();
    let mut three = pair(1);
    three.push(constitution(Stance::Antithesis, "Undo it."));
    own.insert("q:1", three).unwrap();
    own.insert("q:2", pair(2)).unwrap();
    let own = ConstitutionSource::PerQuery(own);
    for (source, count) in [(&drawn, 8), (&chosen, 4), (&own, 2)] {
        let (whole, found) = source.whole();
        assert_eq!(found, count);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        assert_eq!(whole.for_query("q:1", count as usize, &mut rng).unwrap().len(), count as usize);
    }
    assert_eq!(
        own.check(3).unwrap_err().to_string(),
        "query q:2: 3 constitutions per query are asked for, and there are 2; lower n_constitutions"
    );
    assert!(own.check_query("q:1").is_ok() && drawn.check_query("q:9").is_ok());
    assert_eq!(
        own.check_query("q:9").unwrap_err().to_string(),
        "query q:9 has no constitutions of its own; add a line for it"
    );
    assert!(drawn.check(9).unwrap_err().to_string().contains("3 principles make only 8"));
}
