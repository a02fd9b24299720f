//! The `sami` command: reads arguments, wires crates, prints. Whatever it does is a call into a library crate.

mod args;
mod commands;
mod failure;
mod output;
mod progress;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::output::say;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose);
    progress::listen_for_interrupts();
    let json = cli.json;
    let result = match cli.command {
        Command::Run(args) => commands::run(&args, json),
        Command::Generate(args) => commands::generate(&args, json),
        Command::Train(args) => commands::train(&args, json),
        Command::Score(args) => commands::score(&args, json),
        Command::Sample(args) => commands::sample(&args, json),
        Command::Inspect(args) => commands::inspect(&args, json),
        Command::Doctor => commands::doctor(json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("error: {}", failure.chain()));
            failure.exit_code()
        }
    }
}

/// Logs go to standard error: warnings, more with `-v`, or what `SAMI_LOG` says (for instance `sami_torch=debug`).
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SAMI_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}
