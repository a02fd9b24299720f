//! SAMI in Rust.
