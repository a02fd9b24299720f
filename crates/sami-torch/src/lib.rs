//! wip
#![allow(missing_docs, dead_code, unused)]
mod backward; mod contrast; mod optimizer; pub mod checkpoint; pub mod config; pub mod error; mod group; mod head; mod model; pub mod options; mod packing; mod sys; pub mod tokenizer;
pub use error::Error;
