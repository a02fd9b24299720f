//! Who judges.

use std::path::PathBuf;

use sami_constitution::Task;
use sami_policy::{Comparison, Judge};
use sami_remote::{EndpointBuilder, KeySource, RemoteJudge};
use sami_sandbox::Oracle;

use crate::args::at_least_one;
use crate::failure::Failure;

const SANDBOX: &str = "sandbox";

// The oracle of the sandbox, or a language model behind an OpenAI-compatible server.
#[derive(Debug, clap::Args)]
pub(crate) struct JudgeArgs {
    /// Ask a judge that is built in: the oracle of the embedded world.
    #[arg(long, value_name = "NAME", value_parser = [SANDBOX], conflicts_with = "judge_server")]
    pub(crate) judge: Option<String>,
    /// Ask a model behind an OpenAI-compatible server, for example http://localhost:8000/v1.
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub(crate) judge_server: Option<String>,
    /// The model's name at the server.
    #[arg(long, value_name = "NAME", requires = "judge_server")]
    pub(crate) judge_model: Option<String>,
    /// The environment variable that holds the server's key.
    #[arg(long, value_name = "VARIABLE", requires = "judge_server")]
    pub(crate) judge_key_env: Option<String>,
    /// A file that keeps every answer of the server.
    #[arg(long, value_name = "FILE", requires = "judge_server")]
    pub(crate) judge_cache: Option<PathBuf>,
    /// Send at most so many requests; contests beyond are failed calls, and asked about the next time.
    #[arg(long, value_name = "N", requires = "judge_server")]
    pub(crate) max_requests: Option<u64>,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) concurrency: usize,
    /// TOML file of the task whose judge prompt is used; default: dialogue. "tldr" for the built-in one of summaries.
    #[arg(long, value_name = "FILE")]
    pub(crate) task: Option<PathBuf>,
}

impl JudgeArgs {
    /// The judge, and a name for it that stands beside its verdicts.
    pub(crate) fn open(&self) -> Result<(Box<dyn Judge>, String), Failure> {
        if self.judge.is_some() {
            return Ok((Box::new(Oracle), SANDBOX.to_owned()));
        }
        let (Some(server), Some(model)) = (&self.judge_server, &self.judge_model) else {
            let reason = "verdicts are to be made, and nobody is named to make them".to_owned();
            return Err(Failure::Argument { argument: "--judge-server", reason });
        };
        let task = match &self.task {
            Some(file) if file.as_os_str() == "tldr" => Task::tldr(),
            Some(file) => Task::load(file)?,
            None => Task::dialogue(),
        };
        let defaults = EndpointBuilder::default();
        let settings = EndpointBuilder {
            base_url: server.clone(),
            model: model.clone(),
            key: self.judge_key_env.clone().map_or(KeySource::None, KeySource::Environment),
            cache: self.judge_cache.clone(),
            max_requests: self.max_requests,
            concurrency: self.concurrency,
            ..defaults
        };
        let refused = |error: sami_remote::RemoteError| Failure::Argument {
            argument: "--judge-server",
            reason: error.to_string(),
        };
        let endpoint = settings.check().map_err(refused)?;
        let name = format!("{model} ({})", task.name());
        let prompt = move |it: &Comparison<'_>| {
            task.judge_prompt(it.constitution, it.query, [it.response_a, it.response_b])
        };
        Ok((Box::new(RemoteJudge::new(endpoint, prompt)), name))
    }
}
