//! A closed world in which anybody can watch SAMI work, and measure it: the embedded default.
//!
//! The world has two tasks. In *dialogue*, people ask for help with cakes, kites and ponds, or with stealing garden gnomes, and
//! principles say whether answers should be [helpful](Quality::Helpful) and [harmless](Quality::Harmless) and more. In
//! *summaries*, posts tell five facts, and principles ask for concise or comprehensive summaries. Every text comes from a
//! small grammar, so
//!
//! - an [oracle](Oracle) reads from a response alone which principles it follows, and whether it is a response at all;
//! - an [exam] says what a model has learned of the constitutions, with no model or person as judge;
//! - the [corpus] that a base model learns from has a known entropy, below which no model's loss can fall.
//!
//! In the corpus a constitution has only a weak effect on what is written under it ([`corpus::Wiring`]): a base model
//! trained on it follows constitutions a little, and SAMI has something to amplify.

mod choices;
pub mod corpus;
mod dialogue;
pub mod exam;
mod examiner;
mod install;
mod oracle;
mod quality;
mod summaries;
mod wordings;
mod world;

pub use dialogue::{Topic, Wish, wish_of, wishes};
pub use examiner::Examiner;
pub use install::{Installed, install};
pub use oracle::{Gibberish, Oracle, Query, Reading, asked};
pub use quality::{Kind, Lean, Quality, Style};
pub use summaries::{Post, post_of};
pub use wordings::{WordingSet, article, principles};
pub use world::{
    DIALOGUE_EXAM_JSONL, DIALOGUE_JSONL, POSTS_EXAM_JSON, POSTS_JSON, WorldError, exam_queries, made_files,
    main_qualities, task,
};
