//! `sami run`: the whole of Algorithm 1.

use std::path::PathBuf;

use sami_driver::recipe::{self, Override, ValidRecipe};
use sami_driver::{Driver, DriverError};
use sami_torch::{EngineOptions, TorchProvider, Work, plan_memory};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::hub;
use crate::wiring::origin;

/// Run everything that a recipe says; go on where an earlier run of it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sami run recipes/paper/hh-rlhf-mistral-7b.toml --out runs/hh-rlhf\n  \
    sami run recipes/sandbox/dialogue.toml --out runs/small --set training.batch_size=8 --set seed=3\n\n\
    The run directory keeps the recipe, pairs, metrics, checkpoints and evaluations; RUN/final is the model at the end.\n\
    Interrupted, the same command goes on. Guards end a run whose text collapses; --no-guards lets it go on.")]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The run directory; made if it is not there.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Do not look at whether the text collapses; short for --set guards.action=off.
    #[arg(long)]
    no_guards: bool,
    /// End with an error where the model cannot take a query, instead of leaving it out and going on; short
    /// for --set data.strict=true.
    #[arg(long)]
    strict: bool,
    /// Go on although memory is expected not to suffice.
    #[arg(long)]
    no_memory_check: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecipeArgs {
    /// The recipe, a TOML file.
    pub(crate) recipe: PathBuf,
    /// Replace a value of the recipe: section.name=value. May be given several times.
    #[arg(long, value_name = "FIELD=VALUE")]
    pub(crate) set: Vec<String>,
}

impl RecipeArgs {
    /// The recipe with its replaced values, checked.
    pub(crate) fn load(&self, more: &[&str]) -> Result<ValidRecipe, Failure> {
        let given = self.set.iter().map(String::as_str).chain(more.iter().copied());
        let overrides =
            given.map(Override::parse).collect::<Result<Vec<_>, _>>().map_err(DriverError::from)?;
        Ok(recipe::load_with(&self.recipe, &overrides).map_err(DriverError::from)?)
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let switches = [(args.no_guards, "guards.action=off"), (args.strict, "data.strict=true")];
    let more: Vec<&str> = switches.into_iter().filter_map(|(on, set)| on.then_some(set)).collect();
    let recipe = args.recipe.load(&more)?;
    let engine = EngineOptions { check_memory: !args.no_memory_check, ..sami::engine_options(&recipe) };
    let gpus = recipe.model.gpus;
    if gpus > 1 {
        let plan = plan_memory(&recipe.model.base, &engine, Work::Train, None).ok();
        return Err(Failure::SeveralGpus { gpus, plan: plan.map(|plan| plan.peak) });
    }
    let recipe =
        recipe.with_inputs(|base| Ok(hub::model(base)?), |file| Ok::<_, Failure>(hub::data(file)?))?;
    let chosen = plan_memory(&recipe.model.base, &engine, Work::Train, None)?.token_budget;
    let recipe = recipe.with_token_budget(&args.out, chosen);
    let engine = EngineOptions { token_budget: recipe.model.token_budget, ..engine };
    let base = &recipe.model.base;
    let provider = TorchProvider::new(base, engine.clone())?;
    plan_memory(base, &engine, Work::Train, None)?.check(&engine)?;
    let driver = Driver::with_origin(recipe, &args.out, provider, &origin())?;
    context.say(&driver.queries().report().to_string());
    let report = driver.run(&mut context.progress(), &mut |_| Ok(()))?;
    let end = match &report.stopped {
        Some(stopped) => format!("ended early, because {stopped}; the model of iteration {}", report.last),
        None => "finished; the trained model".to_owned(),
    };
    let mut text = format!("{end} is {}", report.final_model.display());
    if !report.refused.is_empty() {
        text.push_str(&format!("; queries left out: {} (pairs.jsonl has the reasons)", report.refused));
    }
    context.result(
        &json!({
            "run": driver.run_dir().root(), "final": report.final_model, "last": report.last, "stopped": report.stopped, "refused": report.refused,
            "checkpoints": report.checkpoints, "evaluations": report.evaluations,
        }),
        &text,
    )
}
