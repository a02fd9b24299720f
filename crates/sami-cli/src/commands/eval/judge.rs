//! Who judges.

use sami_constitution::Task;
use sami_eval::win::ModelJudge;
use sami_policy::{Comparison, Judge};
use sami_remote::{Endpoint, RemoteJudge};
use sami_sandbox::Oracle;

use crate::args::{ModelArgs, at_least_one, task};
use crate::context::Context;
use crate::failure::Failure;
use crate::server::{ServerArgs, left_to_server, say_usage};

const SANDBOX: &str = "sandbox";

// A checkpoint, a model behind a server, or the oracle of the sandbox.
#[derive(Debug, clap::Args)]
pub(crate) struct JudgeArgs {
    #[command(flatten)]
    pub(crate) model: Option<ModelArgs>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Ask a judge that is built in: the oracle of the embedded world.
    #[arg(long, value_name = "NAME", value_parser = [SANDBOX], conflicts_with_all = ["server", "model"])]
    pub(crate) judge: Option<String>,
    /// Whose judge prompt is used: dialogue, tldr, or a task's TOML file. Default: the run's task; dialogue without a run.
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// At most this many tokens per answer of a judge.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub(crate) max_new_tokens: usize,
}

/// A judge, and the name that stands beside its verdicts.
pub(crate) struct Bench {
    pub(crate) judge: Box<dyn Judge>,
    pub(crate) name: String,
    endpoint: Option<Endpoint>,
}

impl Bench {
    /// Its name for a report, with what its server decided for itself.
    pub(crate) fn full_name(&self) -> String {
        match self.endpoint.as_ref().and_then(left_to_server) {
            Some(left) => format!("{}, {left}", self.name),
            None => self.name.clone(),
        }
    }

    /// What its server was asked, where it has one.
    pub(crate) fn say_usage(&self, context: &Context) {
        if let Some(endpoint) = &self.endpoint {
            say_usage(endpoint, context);
        }
    }
}

impl JudgeArgs {
    /// The judge; `of_run` is the run's own task.
    pub(crate) fn open(&self, of_run: Option<Task>) -> Result<Bench, Failure> {
        if self.judge.is_some() {
            return Ok(Bench { judge: Box::new(Oracle), name: SANDBOX.to_owned(), endpoint: None });
        }
        let task = match (&self.task, of_run) {
            (Some(named), _) => task(named)?,
            (None, Some(own)) => own,
            (None, None) => Task::dialogue(),
        };
        let named = |model: &str| format!("{model} ({})", task.name());
        let prompt = {
            let task = task.clone();
            move |it: &Comparison<'_>| {
                task.judge_prompt(it.constitution, it.query, [it.response_a, it.response_b])
            }
        };
        if let Some(endpoint) = self.server.endpoint()? {
            let name = named(&endpoint.settings().model);
            let judge = RemoteJudge::new(endpoint.clone(), prompt).max_new_tokens(self.max_new_tokens);
            return Ok(Bench { judge: Box::new(judge), name, endpoint: Some(endpoint) });
        }
        let Some(model) = &self.model else {
            let reason = "verdicts are to be made, and nobody is named to make them".to_owned();
            return Err(Failure::Argument { argument: "--judge-model, --server or --judge", reason });
        };
        let name = named(&model.model.file_name().unwrap_or(model.model.as_os_str()).to_string_lossy());
        let policy = model.open(&model.engine())?;
        let judge = ModelJudge::new(policy, prompt).max_new_tokens(self.max_new_tokens);
        Ok(Bench { judge: Box::new(judge), name, endpoint: None })
    }
}
