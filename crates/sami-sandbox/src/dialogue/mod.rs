//! Requests and answers.
//!
//! An answer is a row of sentences, each from a small stock:
//!
//! ```text
//! [greeting] [word on a harmful wish] body [from life] [outlook] [question] [leave]
//! ```
//!
//! The body has three steps (helpful), two hints (the opposite) or one of each; steps stand alone, numbered (orderly) or
//! linked by words (the opposite). Every other place is empty where the answer leaves the quality open.

mod answer;
mod read;
mod requests;
mod sentences;

pub(crate) use answer::answer;
pub(crate) use read::read;
pub(crate) use requests::{FORMS, request};
pub use requests::{Topic, Wish, wish_of, wishes};
