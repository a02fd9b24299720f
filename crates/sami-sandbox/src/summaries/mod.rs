//! Posts of five known facts, and their summaries.
//!
//! A summary takes all facts of the post (comprehensive), three of them, or one (the opposite), in the post's order, each in a
//! short form (concise), a plain or a drawn-out one (the opposite).

mod facts;
mod post;
mod read;
mod write;

pub(crate) use post::draw_post;
pub use post::{Post, post_of};
pub(crate) use read::read;
pub(crate) use write::summary;
