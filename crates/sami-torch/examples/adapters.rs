//! Opens every adapter of fixtures/adapters and writes it again, as it is and merged: `adapters DIR`. Run by `cargo xtask parity`,
//! which then lets PEFT and transformers open what was written.
#![allow(clippy::print_stdout, reason = "what was written is said")]

use std::path::PathBuf;
use std::process::ExitCode;

use sami_policy::TrainablePolicy;
use sami_torch::TorchPolicy;

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> ExitCode {
    let Some(out) = std::env::args_os().nth(1).map(PathBuf::from) else {
        println!("usage: adapters DIR");
        return ExitCode::from(2);
    };
    match write(&out) {
        Ok(count) => {
            println!("{count} adapters written again and merged");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(out: &std::path::Path) -> Result<usize, sami_torch::Error> {
    let served = common::adapters();
    for case in &served {
        let dir = out.join(&case.name);
        common::bring_adapter(&case.name, &dir.join("given"));
        let policy = TorchPolicy::open(&dir.join("given"), &common::options())?;
        policy.save(&dir.join("saved"))?;
        policy.merge_adapters()?.save(&dir.join("merged"))?;
    }
    Ok(served.len())
}
