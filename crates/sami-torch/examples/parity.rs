//! Compares the engine with what PyTorch + transformers computed: `parity DIR`, DIR as fixtures/make_parity.py writes it. Run by
//! `cargo xtask parity`, which draws fresh models first.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "../tests/common/mod.rs"]
mod common;

use common::compare::Case;

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1) else {
        println!("usage: parity DIR");
        return ExitCode::from(2);
    };
    let root = PathBuf::from(root);
    let (mut made, mut failed) = (0, 0);
    println!("{:<18}{:<28}{:>11}{:>11}{:>11}", "model", "", "sami", "PyTorch", "limit");
    for model in common::MODELS {
        if !root.join(model).is_dir() {
            continue;
        }
        let case = Case { root: root.clone(), model };
        case.save();
        for check in case.all() {
            let theirs = check.theirs.map_or("–".to_owned(), |value| format!("{value:.1e}"));
            let verdict = if check.passes() { "" } else { "  FAILED" };
            println!(
                "{:<18}{:<28}{:>11.1e}{theirs:>11}{:>11.1e}{verdict}",
                check.model, check.what, check.ours, check.limit
            );
            made += 1;
            failed += usize::from(!check.passes());
        }
    }
    println!("{made} comparisons, {failed} failed");
    if failed == 0 && made > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
