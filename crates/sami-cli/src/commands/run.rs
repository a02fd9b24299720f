//! `sami run`: the whole of Algorithm 1.

use std::path::PathBuf;

use sami_data::RunDir;
use sami_driver::{Driver, DriverError, recipe};
use sami_torch::TorchProvider;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::wiring::engine;

/// Run everything that a recipe says; go on where an earlier run of it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sami run recipes/paper/hh-rlhf-mistral-7b.toml --out runs/hh-rlhf")]
pub(crate) struct Args {
    /// The recipe, a TOML file.
    pub(crate) recipe: PathBuf,
    /// The run directory; made if it is not there.
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let recipe = recipe::load(&args.recipe).map_err(DriverError::from)?;
    let provider = TorchProvider::new(&recipe.model.base, engine(&recipe))?;
    let driver = Driver::new(recipe, &args.out, provider)?;
    let report = driver.run(&mut context.progress(), &mut |_| Ok(()))?;
    let run: &RunDir = driver.run_dir();
    let last = report.checkpoints.last().map(|path| path.display().to_string()).unwrap_or_default();
    let text = format!("finished; the trained model is {last}");
    context.result(
        &json!({"run": run.root(), "checkpoints": report.checkpoints, "evaluations": report.evaluations}),
        &text,
    )
}
