//! `sami recipe`: recipes without running them.

use std::path::{Path, PathBuf};

use sami_driver::DriverError;
use sami_driver::recipe::{self, Recipe, RecipeError};
use serde_json::json;

use super::run::RecipeArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::say;

/// Check recipes, or show what one comes to.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:\n  sami recipe check recipes\n  \
    sami recipe show recipes/paper/hh-rlhf-mistral-7b.toml --set training.iterations=1")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check files, or all .toml files below directories; finding none is an error.
    #[command(after_help = "Example:\n  sami recipe check recipes")]
    Check {
        /// Recipes, or directories that hold some.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print a recipe with every default and with its paths made absolute.
    #[command(after_help = "Example:\n  sami recipe show recipes/paper/hh-rlhf-mistral-7b.toml --set seed=3")]
    Show(RecipeArgs),
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::Check { paths } => check(paths, context),
        Command::Show(recipe) => {
            let recipe = Recipe::clone(&*recipe.load(&[])?);
            let text = recipe::render(&recipe).map_err(Failure::Recipe)?;
            context.result(&recipe, &text.trim_end())
        }
    }
}

fn check(paths: &[PathBuf], context: &Context) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            below(path, &mut files)?;
            if files.len() == before {
                let reason = format!("{} holds no .toml file", path.display());
                return Err(Failure::Argument { argument: "PATHS", reason });
            }
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    let mut first: Option<RecipeError> = None;
    for file in &files {
        match recipe::load(file) {
            Ok(_) => context.say(&format!("{}: ok", file.display())),
            Err(error) => match first {
                None => first = Some(error),
                Some(_) => say(&format!("error: {error}")),
            },
        }
    }
    match first {
        Some(error) => Err(DriverError::from(error).into()),
        None => context.result(&json!({"checked": files}), &format!("{} recipes are valid", files.len())),
    }
}

/// Recipes below a directory: its TOML files, but for directories of principles and tasks, which are TOML files too.
fn below(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let at = |source| Failure::Io { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        if path.is_dir() {
            if !path.ends_with("principles") && !path.ends_with("tasks") {
                below(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
}
