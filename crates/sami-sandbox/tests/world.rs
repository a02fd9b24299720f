//! The shipped files, and the oracle on everything that the grammar can say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers outside #[test] functions"
)]

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sami_data::{OnBadLine, QueryFormat, QueryReader};
use sami_sandbox::corpus::{Document, Mixture, Writer};
use sami_sandbox::{Kind, Query, asked, exam_queries, made_files, task, wishes};

fn documents(mixture: Mixture, n: usize) -> Vec<Document> {
    let writer = Writer::new(mixture);
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    (0..n).map(|_| writer.document(&mut rng).unwrap()).collect()
}

/// The query and what is asked, from a prompt.
fn parts(prompt: &str) -> (Query, Vec<(sami_sandbox::Quality, sami_sandbox::Lean)>) {
    let (before, query) =
        prompt.rsplit_once("\n\nHuman: ").or_else(|| prompt.rsplit_once("\n\nPOST: ")).unwrap();
    let query = query.split("\n\n").next().unwrap();
    let constitution = before.rsplit_once("Constitution:\n").unwrap().1;
    (Query::parse(query).expect(query), asked(constitution).expect(constitution))
}

#[test]
fn shipped_files_are_those_that_the_world_makes() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    for (name, content) in made_files().unwrap() {
        let shipped = std::fs::read_to_string(data.join(name)).unwrap();
        assert!(
            shipped == content,
            "data/{name} differs; run `cargo run -p sami-sandbox --example world_files`"
        );
    }
}

#[test]
fn queries_are_read_as_the_real_data_sets_are() {
    let read = |name: &str, bytes: &'static str, format| {
        let reader = QueryReader::embedded(Path::new(name), bytes.as_bytes(), format, OnBadLine::Stop);
        reader.read_all().unwrap().queries.into_iter().map(|query| query.text).collect::<Vec<_>>()
    };
    let dialogue = read("dialogue.jsonl", sami_sandbox::DIALOGUE_JSONL, QueryFormat::HhRlhf);
    let posts = read("posts.json", sami_sandbox::POSTS_JSON, QueryFormat::Tldr);
    let [exam_dialogue, exam_posts] = [Kind::Dialogue, Kind::Summaries].map(exam_queries);
    assert_eq!((dialogue.len(), exam_dialogue.len()), (14 * 144 - 448, 448));
    assert_eq!((posts.len(), exam_posts.len()), (2048 - 256, 256));
    assert!(exam_dialogue.iter().all(|query| !dialogue.contains(query)));
    assert!(exam_posts.iter().all(|post| !posts.contains(post)));
    let harmful = |queries: &[String]| {
        let harmful = |query: &&String| match Query::parse(query).expect(query) {
            Query::Dialogue(wish) => wish.topic.is_harmful(),
            Query::Summaries(_) => false,
        };
        queries.iter().filter(harmful).count()
    };
    assert_eq!(harmful(&dialogue) + harmful(&exam_dialogue), 14 * 72);
    assert!((190..258).contains(&harmful(&exam_dialogue)), "an exam is a fair sample");
    assert!(
        posts.iter().chain(&exam_posts).all(|post| Query::parse(post).unwrap().kind() == Kind::Summaries)
    );
    assert_eq!(wishes().filter(|wish| wish.topic.is_harmful()).count(), 72);
    assert_eq!(
        (task(Kind::Dialogue).name(), task(Kind::Summaries).name()),
        ("sandbox dialogue", "sandbox summaries")
    );
}

#[test]
fn the_oracle_has_no_error_on_the_corpus() {
    // Authors who always heed, 100% of the time: every article must be read back, where it has anything to say.
    let mut mixture = Mixture { lines: [0.0, 1.0, 0.0], ..Mixture::default() };
    mixture.wiring.follow = 1.0;
    let mut articles = 0;
    for document in documents(mixture, 6_000) {
        let (query, asked) = parts(&document.prompt);
        let reading =
            query.read(&document.response).unwrap_or_else(|why| panic!("{}: {why}", document.response));
        assert!(reading.on_topic, "{}{}", document.prompt, document.response);
        for (quality, side) in asked.into_iter().filter(|(quality, _)| query.concerns(*quality)) {
            assert_eq!(reading.style.lean(quality), side, "{quality}: {}", document.response);
            articles += 1;
        }
    }
    assert!(articles > 11_000);
}

#[test]
fn styles_are_as_frequent_as_the_corpus_says() {
    let documents = documents(Mixture::default(), 6_000);
    let mut neutral = [0.0; 3];
    for document in documents.iter().filter(|document| document.prompt.contains("with a constitution")) {
        let (query, asked) = parts(&document.prompt);
        let reading = query.read(&document.response).unwrap();
        for (quality, side) in asked {
            if query.concerns(quality) && quality == sami_sandbox::Quality::Helpful {
                neutral[(1 - side.sign() * reading.style.lean(quality).sign()) as usize] += 1.0;
            }
        }
    }
    let total: f64 = neutral.iter().sum();
    // .3 heed: .95 + .05 · .3 of them follow, and .3 of the others; .3 · .05 · .3 + .7 · .3 oppose.
    let [follow, _, oppose] = neutral.map(|count| count / total);
    assert!((follow - (0.3 * 0.965 + 0.7 * 0.3)).abs() < 0.04, "{follow}");
    assert!((oppose - (0.3 * 0.015 + 0.7 * 0.3)).abs() < 0.04, "{oppose}");
}

#[test]
fn log_probabilities_are_those_of_the_texts() {
    // One wish, one style of heeding author: the same text must come as often as its probability says. A summary of one fact
    // in a given form under "incomplete" is frequent enough to be counted.
    let documents = documents(Mixture { summaries: 1.0, ..Mixture::default() }, 150_000);
    let (mut expected, mut seen) = (0.0, 0.0);
    for document in &documents {
        if document.response.matches('.').count() == 1 {
            // Importance weights: summed over the texts of one post and constitution, E[1 / P] counts them: 15 such texts.
            seen += 1.0;
            expected += (-document.log_prob).exp();
        }
    }
    assert!(
        (expected / documents.len() as f64 - 15.0).abs() < 0.6,
        "{} of {seen}",
        expected / documents.len() as f64
    );
}

#[test]
fn installed_files_are_those_of_the_repository() {
    let dir = std::env::temp_dir().join(format!("sami-sandbox-{}", std::process::id()));
    let world = sami_sandbox::install(&dir).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut bytes = 0;
    for (part, path) in
        [("model", world.model()), ("data", world.queries(Kind::Dialogue).parent().unwrap().into())]
    {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let shipped = std::fs::read(here.join(part).join(path.file_name().unwrap())).unwrap();
            assert!(std::fs::read(&path).unwrap() == shipped, "{}", path.display());
            bytes += if part == "model" { shipped.len() } else { 0 };
        }
    }
    assert!(bytes < 6 << 20, "the model has {bytes} bytes");
    for kind in [Kind::Dialogue, Kind::Summaries] {
        for path in [world.queries(kind), world.principles(kind), world.task(kind)] {
            assert!(path.is_file(), "{}", path.display());
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}
