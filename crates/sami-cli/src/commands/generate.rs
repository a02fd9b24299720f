//! `sami generate`: stage 2 alone.

use std::path::PathBuf;

use sami_constitution::{
    ChosenContrasts, ConstitutionSource, ConstitutionSpace, Contrasts, QueryConstitutions,
};
use sami_data::QueryIndex;
use sami_driver::{GenerateJob, GenerateReport, Wanted};
use sami_policy::{FinishReason, Sample};
use sami_remote::{Endpoint, RemoteSampler};
use sami_torch::{EngineOptions, Tokenizer};
use serde::Serialize;

use crate::args::{ModelArgs, SamplingArgs, TaskArgs, at_least_one, check_out};
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;
use crate::server::{ServerArgs, say_usage};

/// Stage 2 alone: sample responses to queries under constitutions, filter them, write pairs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami generate --model mistral-7b --data harmless-base.jsonl.gz --queries 256 --out pairs.jsonl\n  \
    sami generate --server http://localhost:8000/v1 --server-model mistral-7b --answers answers.jsonl --data posts.json --format tldr --task tldr --principles principles.toml --against-all --out pairs.jsonl"
)]
#[command(mut_arg("model", |arg| arg.required(false)))]
#[command(group = clap::ArgGroup::new("source").required(true).args(["model", "server"]))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: Option<ModelArgs>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) task: TaskArgs,
    /// A checkpoint's directory whose tokenizer is held against the ids of tokens that a server tells; an answer whose ids
    /// are others is left out. Without it they are taken as they are.
    #[arg(long, value_name = "DIR", requires = "server")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// The pairs file; whole chunks that it holds already are kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Contrast sets to end with; rejected ones are replaced by further queries. Default: one set per query, kept or not.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) queries: Option<usize>,
    /// Distinct constitutions per query.
    #[arg(long, value_name = "C", default_value_t = 2, value_parser = at_least_one)]
    pub(crate) n_constitutions: usize,
    /// The constitution of all principles' own sides against others, as in the paper's TL;DR files; default: any.
    #[arg(long, conflicts_with_all = ["contrasts", "per_query"])]
    pub(crate) against_all: bool,
    /// Contrasts in the paper's JSON, word for word: a file, or a directory of them. May be given several times.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["principles", "per_query"])]
    pub(crate) contrasts: Vec<PathBuf>,
    /// JSON lines with constitutions for each query by its id.
    #[arg(long, value_name = "FILE", conflicts_with = "principles")]
    pub(crate) per_query: Option<PathBuf>,
    /// At most this many tokens per response.
    #[arg(long, value_name = "N", default_value_t = 350)]
    pub(crate) max_new_tokens: usize,
    /// Queries that are sampled and written together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) chunk: usize,
    /// Count a sampled end-of-sequence token as part of its response.
    #[arg(long)]
    pub(crate) score_eos: bool,
    /// End with an error where the model cannot take a query, instead of leaving it out and going on.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// What came of it.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    report: GenerateReport,
    /// Of the responses that a server gave now: how many came with the ids of their tokens, and how many are tokenised again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<TokenIds>,
    /// Parameters that the server refused, so that its own values held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_to_server: Vec<&'static str>,
}

#[derive(Serialize)]
struct TokenIds {
    sampled: usize,
    retokenised: usize,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    check_out(&args.out, &args.task.data)?;
    let constitutions = args.constitutions()?;
    constitutions.check(args.n_constitutions)?;
    let task = args.task.task()?;
    let params = args.sampling.params(args.max_new_tokens, task.stop_strings().to_vec())?;
    let endpoint = args.server.endpoint()?;
    if args.task.instruct && endpoint.is_some() {
        let reason = "a server is sent prompts as text to continue; give the checkpoint with --model";
        return Err(Failure::Argument { argument: "--instruct", reason: reason.to_owned() });
    }
    let data = args.task.data.iter().map(|file| hub::data(file)).collect::<Result<Vec<_>, _>>()?;
    let queries = QueryIndex::open(&data, args.task.format.shape()?, args.task.on_bad_line)?;
    context.say(&queries.report().to_string());
    let order: Vec<usize> = (0..queries.len()).collect();
    let job = GenerateJob {
        seed: args.sampling.seed,
        iteration: 0,
        queries: &queries,
        order: &order,
        wanted: args.queries.map_or(Wanted::All, Wanted::Kept),
        constitutions: &constitutions,
        n_constitutions: args.n_constitutions,
        task: &task,
        params: &params,
        score_eos: args.score_eos,
        chunk: args.chunk,
        strict: args.strict,
        out: args.out.clone(),
    };
    let mut progress = context.progress();
    let found = match (&args.model, endpoint) {
        (_, Some(endpoint)) => {
            let mut sampler = args.sampler(endpoint)?;
            let report = sami_driver::generate(&mut sampler, &job, &mut progress);
            // What was used is used, also where the job ended early.
            say_usage(sampler.endpoint(), context);
            let counts = sampler.samples();
            let token_ids = TokenIds { sampled: counts.with_token_ids, retokenised: counts.retokenised };
            let left_to_server = sampler.endpoint().left_to_server();
            Found { report: report?, token_ids: Some(token_ids), left_to_server }
        }
        (Some(model), None) => {
            let engine = EngineOptions { prompt_format: args.task.prompt_format(), ..model.engine() };
            let mut policy = model.open(&engine)?;
            let report = sami_driver::generate(&mut policy, &job, &mut progress)?;
            Found { report, token_ids: None, left_to_server: Vec::new() }
        }
        (None, None) => {
            let reason = "no model to sample from".to_owned();
            return Err(Failure::Argument { argument: "--model or --server", reason });
        }
    };
    let mut text = format!("{} pairs in {}", found.report.kept, args.out.display());
    if !found.report.rejected.is_empty() {
        text.push_str(&format!("; left out: {}", found.report.rejected));
    }
    if let Some(TokenIds { sampled, retokenised }) = &found.token_ids {
        text.push_str(&format!(
            "\n{sampled} responses with the ids of their tokens, {retokenised} whose text is tokenised again where it is scored"
        ));
    }
    context.result(&found, &text)
}

impl Args {
    fn sampler(&self, endpoint: Endpoint) -> Result<RemoteSampler, Failure> {
        let sampler = RemoteSampler::new(endpoint);
        let Some(dir) = &self.tokenizer else { return Ok(sampler) };
        let tokenizer = Tokenizer::open(dir)?;
        Ok(sampler.check_tokens(move |prompt, sample| check_tokens(&tokenizer, prompt, sample)))
    }

    fn constitutions(&self) -> Result<ConstitutionSource, Failure> {
        if let Some(file) = &self.per_query {
            return Ok(ConstitutionSource::PerQuery(QueryConstitutions::load(file)?));
        }
        if !self.contrasts.is_empty() {
            return Ok(ConstitutionSource::Chosen(ChosenContrasts::load(&self.contrasts)?));
        }
        let space = ConstitutionSpace::new(self.task.principles()?);
        let contrasts = if self.against_all { Contrasts::AgainstAllPrinciples } else { Contrasts::Any };
        Ok(ConstitutionSource::Drawn { space, contrasts })
    }
}

/// Whether the ids of an answer are those of its text, by the tokenizer at hand.
fn check_tokens(tokenizer: &Tokenizer, prompt: &str, sample: &Sample) -> Result<(), String> {
    let ids = sample.token_ids.as_deref().unwrap_or_default();
    let size = tokenizer.vocab_size();
    if let Some(id) = ids.iter().find(|id| usize::try_from(**id).is_ok_and(|id| id >= size)) {
        return Err(format!("{id} is beyond the {size} tokens of the vocabulary"));
    }
    let last = ids.last().copied().unwrap_or_default();
    let eos = tokenizer.eos();
    if sample.finish == FinishReason::Eos && !eos.is_empty() && !eos.contains(&last) {
        return Err(format!("the response is whole, and its last token {last} ends no sequence"));
    }
    let anchor = tokenizer.encode_prompt(prompt, "prompt").map_err(|error| error.to_string())?.pop();
    let text = tokenizer.decode_after(anchor, ids).map_err(|error| error.to_string())?;
    // A server holds half a character back where the limit of tokens cut it.
    let whole = |text: &str| text.trim_end_matches('\u{fffd}').to_owned();
    if whole(&text) == whole(&sample.text) {
        return Ok(());
    }
    let begins = |text: &str| text.chars().take(40).collect::<String>();
    Err(format!(
        "they are {:?} to the tokenizer, and the answer's text is {:?}",
        begins(&text),
        begins(&sample.text)
    ))
}
