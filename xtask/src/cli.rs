//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    parity,
    setup::{Flavor, Request},
};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                      LibTorch if it is missing, then the whole algorithm in about two minutes
  cargo xtask test                      LibTorch if it is missing, then every test
  cargo xtask test -p sami-core         the tests of one crate
  cargo xtask setup --cuda              LibTorch with its CUDA libraries, for an NVIDIA GPU
  LIBTORCH=DIR cargo xtask setup        use the LibTorch 2.11.0 in DIR
  cargo xtask check                     what CI runs
  cargo xtask parity --python PYTHON    fresh random models of every family against PyTorch + transformers

After any of these, plain `cargo build`, `cargo test`, `cargo bench` and editors work in this clone.";

/// Set-up and checks of the sami workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find or install LibTorch 2.11.0, and point this clone at it
    ///
    /// A LIBTORCH in the environment wins. Otherwise the LibTorch that this clone uses already is checked and kept,
    /// or Python's pip puts one in the user's cache directory ($XDG_CACHE_HOME/sami or ~/.cache/sami).
    Setup(SetupOptions),
    /// Set up, then run the example hh_rlhf with optimisation
    Demo {
        /// Arguments of the example, after `--`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Set up, then run the whole test suite, doc tests included
    Test {
        /// Arguments of `cargo test` (default: --workspace); those of the tests stand after `--`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// All that CI checks: formatting, architecture, tests, clippy and documentation without a warning
    Check,
    /// The architecture checks alone; needs no LibTorch
    Arch,
    /// Draw random models of every family and compare the engine with PyTorch + transformers; not part of CI
    ///
    /// Needs a Python with torch, transformers, safetensors and peft (fixtures/requirements.txt).
    Parity(ParityOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ParityOptions {
    /// The Python; default: SAMI_PYTHON, else python3
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Seed of the draw; default: another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Some models only; may be given several times
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Keep the models and what was computed with them here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl From<ParityOptions> for parity::Request {
    fn from(options: ParityOptions) -> Self {
        let ParityOptions { python, seed, models, keep } = options;
        Self { python, seed, models, keep }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SetupOptions {
    /// LibTorch with its CUDA libraries (2.5 GB to download); needs an NVIDIA GPU
    #[arg(long)]
    cuda: bool,
    /// LibTorch for the CPU, even where this clone uses another one now
    #[arg(long, conflicts_with = "cuda")]
    cpu: bool,
    /// With --cuda: install although no NVIDIA GPU is found
    #[arg(long, requires = "cuda")]
    force: bool,
}

impl From<SetupOptions> for Request {
    fn from(options: SetupOptions) -> Self {
        let flavor = match (options.cuda, options.cpu) {
            (true, _) => Some(Flavor::Cuda),
            (false, true) => Some(Flavor::Cpu),
            (false, false) => None,
        };
        Request { flavor, force: options.force, thorough: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_cargo_test_pass_through() {
        let cli = Cli::try_parse_from(["xtask", "test", "-p", "sami-core", "--", "--nocapture"]).unwrap();
        let Command::Test { args } = cli.command else { panic!("not test") };
        assert_eq!(args, ["-p", "sami-core", "--", "--nocapture"]);
    }

    #[test]
    fn cuda_and_cpu_exclude_each_other() {
        assert!(Cli::try_parse_from(["xtask", "setup", "--cuda", "--cpu"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "setup", "--force"]).is_err());
    }

    #[test]
    fn the_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
