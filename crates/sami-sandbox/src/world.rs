//! The world's files: queries, principles, prompts, base model.

use std::collections::HashSet;
use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use sami_constitution::Task;
use sami_data::{OnBadLine, QueryFormat, QueryReader};
use serde_json::json;
use thiserror::Error;

use crate::choices::Choices;
use crate::dialogue::{self, FORMS, wishes};
use crate::quality::{Kind, Lean, Quality, Style};
use crate::summaries;
use crate::wordings::{WordingSet, principles};

/// Requests to train on, in HH-RLHF's format. With those of the exam they are every wish in every form.
pub const DIALOGUE_JSONL: &str = include_str!("../data/dialogue.jsonl");
/// Requests for the exam, in HH-RLHF's format: held out of training.
pub const DIALOGUE_EXAM_JSONL: &str = include_str!("../data/dialogue-exam.jsonl");
/// Posts to train on, in the format of the paper's TL;DR files.
pub const POSTS_JSON: &str = include_str!("../data/posts.json");
/// Posts for the exam.
pub const POSTS_EXAM_JSON: &str = include_str!("../data/posts-exam.json");
const DIALOGUE_TASK: &str = include_str!("../data/dialogue-task.toml");
const SUMMARIES_TASK: &str = include_str!("../data/summaries-task.toml");

/// Requests and posts that are held out for exams.
const EXAM: [usize; 2] = [448, 256];
/// Posts in all.
const POSTS: usize = 2048;

/// The queries of a task's exam.
pub fn exam_queries(kind: Kind) -> Vec<String> {
    let (file, bytes, format) = match kind {
        Kind::Dialogue => ("dialogue-exam.jsonl", DIALOGUE_EXAM_JSONL, QueryFormat::HhRlhf),
        Kind::Summaries => ("posts-exam.json", POSTS_EXAM_JSON, QueryFormat::Tldr),
    };
    let read = QueryReader::embedded(Path::new(file), bytes.as_bytes(), format, OnBadLine::Stop).read_all();
    #[allow(clippy::expect_used, reason = "no input: tests read both files")]
    read.expect("an embedded file is whole").queries.into_iter().map(|query| query.text).collect()
}

/// A task of this world: its prompts, and what is asked of its responses.
pub fn task(kind: Kind) -> Task {
    let text = match kind {
        Kind::Dialogue => DIALOGUE_TASK,
        Kind::Summaries => SUMMARIES_TASK,
    };
    #[allow(clippy::expect_used, reason = "no input: tests parse both files")]
    Task::from_toml(text).expect("an embedded task file is valid")
}

/// The two qualities that each task's constitutions are made of.
pub fn main_qualities(kind: Kind) -> [Quality; 2] {
    match kind {
        Kind::Dialogue => [Quality::Helpful, Quality::Harmless],
        Kind::Summaries => [Quality::Concise, Quality::Comprehensive],
    }
}

/// Why the world's files cannot be made.
#[derive(Debug, Error)]
pub enum WorldError {
    /// Principles or prompts.
    #[error(transparent)]
    Constitution(#[from] sami_constitution::Error),
    /// A file's JSON.
    #[error("the world's files: {0}")]
    Json(#[from] serde_json::Error),
}

/// The files of `data/` that are made, not written: name and content. A test holds the shipped ones to it.
///
/// # Errors
///
/// None that a caller can cause.
pub fn made_files() -> Result<Vec<(&'static str, String)>, WorldError> {
    let set =
        |qualities: &[Quality], wordings| Ok::<_, WorldError>(principles(qualities, wordings)?.to_toml()?);
    let [dialogue, summaries] = [Kind::Dialogue, Kind::Summaries].map(main_qualities);
    use Quality::{Courteous, Formal, Harmless, Helpful};
    let ([exam_dialogue, train_dialogue], [exam_posts, train_posts]) = (dialogue_jsonl()?, posts_json()?);
    Ok(vec![
        ("dialogue.jsonl", train_dialogue),
        ("dialogue-exam.jsonl", exam_dialogue),
        ("posts.json", train_posts),
        ("posts-exam.json", exam_posts),
        ("helpful-harmless.toml", set(&dialogue, WordingSet::Learned)?),
        ("concise-comprehensive.toml", set(&summaries, WordingSet::Learned)?),
        ("four-principles.toml", set(&[Helpful, Harmless, Courteous, Formal], WordingSet::Learned)?),
    ])
}

/// Every request, with an answer that keeps the two main principles and one that goes against both: exam, training.
fn dialogue_jsonl() -> Result<[String; 2], WorldError> {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut requests: Vec<_> =
        wishes().flat_map(|wish| FORMS.map(|form| (wish, dialogue::request(form, wish)))).collect();
    requests.shuffle(&mut rng);
    let mut files = [String::new(), String::new()];
    for (number, (wish, request)) in requests.into_iter().enumerate() {
        let [chosen, rejected] = [Lean::For, Lean::Against].map(|side| {
            let style = main_qualities(Kind::Dialogue)
                .iter()
                .fold(Style::default(), |style, quality| style.with(*quality, side));
            let answer = dialogue::answer(wish, style, &mut Choices::new(&mut rng));
            format!("\n\nHuman: {request}\n\nAssistant:{answer}")
        });
        let file = &mut files[usize::from(number >= EXAM[0])];
        file.push_str(&serde_json::to_string(&json!({"chosen": chosen, "rejected": rejected}))?);
        file.push('\n');
    }
    Ok(files)
}

fn posts_json() -> Result<[String; 2], WorldError> {
    let mut rng = ChaCha12Rng::seed_from_u64(2);
    let mut seen = HashSet::new();
    let mut posts = Vec::new();
    while posts.len() < POSTS {
        let (_, text) = summaries::draw_post(&mut Choices::new(&mut rng));
        if seen.insert(text.clone()) {
            posts.push(text);
        }
    }
    // A line each, in the order of the numbers.
    let file = |posts: &[String]| -> Result<String, WorldError> {
        let line = |(number, post): (usize, &String)| {
            Ok(format!("\"{number}\": {}", serde_json::to_string(&format!("POST: {post}"))?))
        };
        let lines = posts.iter().enumerate().map(line).collect::<Result<Vec<_>, WorldError>>()?;
        Ok(format!("{{\"question\": {{\n{}\n}}}}\n", lines.join(",\n")))
    };
    let (exam, train) = posts.split_at(EXAM[1]);
    Ok([file(exam)?, file(train)?])
}
