//! What every command that can ask a server takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sami_remote::{Endpoint, EndpointBuilder, KeySource, SpendCap, TokenLimit};

use crate::args::at_least_one;
use crate::context::Context;
use crate::failure::Failure;

// A server with OpenAI's interface.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// A server with OpenAI's interface (vLLM, llama.cpp, transformers serve, a hosted one), up to and with /v1.
    #[arg(long, value_name = "URL", requires = "server_model")]
    pub(crate) server: Option<String>,
    /// The model's name at the server.
    #[arg(long, value_name = "NAME", requires = "server")]
    pub(crate) server_model: Option<String>,
    /// Environment variable that holds the server's key. Keys are taken from nowhere else but --key-file.
    #[arg(long, value_name = "VAR", requires = "server")]
    pub(crate) key_env: Option<String>,
    /// File that holds the server's key and nothing else.
    #[arg(long, value_name = "FILE", requires = "server", conflicts_with = "key_env")]
    pub(crate) key_file: Option<PathBuf>,
    /// Keep every answer of the server in this file, so that an interrupted job pays for none of them twice.
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(crate) answers: Option<PathBuf>,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) concurrency: usize,
    /// Seconds that one attempt may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
    /// End rather than send more requests than this, failed attempts included.
    #[arg(long, value_name = "N", requires = "server")]
    pub(crate) max_requests: Option<u64>,
    /// End rather than spend more than this, in the currency of the prices.
    #[arg(long, value_name = "X", requires_all = ["prompt_price", "response_price"])]
    pub(crate) max_spend: Option<f64>,
    /// Price of a million prompt tokens.
    #[arg(long, value_name = "X", requires = "max_spend")]
    pub(crate) prompt_price: Option<f64>,
    /// Price of a million response tokens.
    #[arg(long, value_name = "X", requires = "max_spend")]
    pub(crate) response_price: Option<f64>,
    /// Call the limit of new tokens max_completion_tokens, as OpenAI's newest models want it.
    #[arg(long, requires = "server")]
    pub(crate) max_completion_tokens: bool,
}

impl ServerArgs {
    /// The server, if one is asked for.
    pub(crate) fn endpoint(&self) -> Result<Option<Endpoint>, Failure> {
        let (Some(base_url), Some(model)) = (self.server.clone(), self.server_model.clone()) else {
            return Ok(None);
        };
        let key = match (&self.key_env, &self.key_file) {
            (Some(variable), _) => KeySource::Environment(variable.clone()),
            (None, Some(file)) => KeySource::File(file.clone()),
            (None, None) => KeySource::None,
        };
        let spend = match (self.max_spend, self.prompt_price, self.response_price) {
            (Some(most), Some(prompt_price), Some(response_price)) => {
                Some(SpendCap { most, prompt_price, response_price })
            }
            _ => None,
        };
        let builder = EndpointBuilder {
            base_url,
            model,
            key,
            cache: self.answers.clone(),
            concurrency: self.concurrency,
            timeout: Duration::from_secs(self.timeout),
            max_requests: self.max_requests,
            spend,
            token_limit: if self.max_completion_tokens {
                TokenLimit::MaxCompletionTokens
            } else {
                TokenLimit::MaxTokens
            },
            ..EndpointBuilder::default()
        };
        Ok(Some(builder.check()?))
    }
}

/// What a job has used of a server.
pub(crate) fn say_usage(endpoint: &Endpoint, context: &Context) {
    let usage = endpoint.usage();
    let spent = if usage.spent > 0.0 { format!(", {:.4} spent", usage.spent) } else { String::new() };
    context.say(&format!(
        "{} requests ({} retries), {} answers from the cache, {} prompt and {} response tokens{spent}",
        usage.requests, usage.retries, usage.from_cache, usage.prompt_tokens, usage.response_tokens
    ));
    if let Some(left) = left_to_server(endpoint) {
        context.say(&left);
    }
}

/// Which parameters the server refused, so that its own values held.
pub(crate) fn left_to_server(endpoint: &Endpoint) -> Option<String> {
    let left = endpoint.left_to_server();
    (!left.is_empty()).then(|| format!("left to the server: {}", left.join(", ")))
}
