//! `sami completions`: what a shell needs to complete arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::context::Context;
use crate::failure::Failure;

/// Print a shell's completions for this command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sami completions bash > ~/.local/share/bash-completion/completions/sami")]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(args: &Args, _: &Context) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "sami", &mut bytes);
    // A closed pipe ends the reader, not the work.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), &bytes);
    Ok(())
}
