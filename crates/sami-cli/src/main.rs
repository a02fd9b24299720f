//! The `sami` command: reads arguments, wires crates, prints. Whatever it does is a call into a library crate.

mod args;
mod commands;
mod context;
mod failure;
mod hub;
mod output;
mod pairs;
mod progress;
mod server;
mod threads;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::args::at_least_one;
use crate::commands::Command;
use crate::context::Context;
use crate::output::say;

/// Options that every command has stand apart from its own.
const EVERYWHERE: &str = "Options of every command";

/// Teaches a pretrained language model to follow written principles, without preference labels (SAMI, arXiv 2404.14313).
#[derive(Debug, Parser)]
#[command(name = "sami", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Begin with:\n  sami doctor\n  sami run recipes/sandbox/dialogue.toml --out runs/sandbox\n  \
    sami status runs/sandbox\n  sami report runs/sandbox\n\nExit codes: 0 success, 1 failure, 2 wrong arguments or bad input.\n\
    Results go to standard output, progress and messages to standard error."
)]
struct Cli {
    /// Print the result as JSON.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// Neither progress nor remarks: the result, warnings and errors alone.
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
    /// Log more; twice for debugging. SAMI_LOG overrides it, by crate (SAMI_LOG=sami_torch=debug).
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    verbose: u8,
    /// Threads that compute. Default: OMP_NUM_THREADS, or the libraries' choice.
    #[arg(long, global = true, value_name = "N", value_parser = at_least_one, help_heading = EVERYWHERE)]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose);
    threads::settle(cli.threads);
    progress::listen_for_interrupts();
    if cli.quiet {
        output::be_quiet();
    }
    let context = Context { json: cli.json };
    match cli.command.run(&context) {
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
    let colours =
        std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(colours).without_time().init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Example:\n  sami ") || help.contains("Examples:\n  sami "), "{help}");
        }
    }
}
