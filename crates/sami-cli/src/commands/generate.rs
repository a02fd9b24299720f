//! `sami generate`: stage 2.

use std::path::PathBuf;

use sami_constitution::{ConstitutionSpace, Contrasts, PrincipleSet, Task};
use sami_data::{OnBadLine, QueryFormat, QueryIndex};
use sami_driver::{GenerateJob, Wanted};
use serde_json::json;

use crate::args::{ModelArgs, SamplingArgs, at_least_one};
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;

/// Stage 2 alone: sample responses to queries under constitutions, filter them, write pairs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami generate --model mistral-7b --data harmless-base.jsonl.gz --queries 256 --out pairs.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Queries: HH-RLHF or plain JSONL, also gzipped; or hub:org/name/path/of/file. May be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// What a line of --data is: hh-rlhf, jsonl, tldr or tldr-comparisons.
    #[arg(long, default_value = "hh-rlhf")]
    pub(crate) format: String,
    /// The pairs file; whole chunks that it holds already are kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Contrast sets to end with; rejected ones are replaced by further queries. Default: one set per query, kept or not.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) queries: Option<usize>,
    /// TOML file of principles and antitheses; default: the built-in helpful/harmless ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) principles: Option<PathBuf>,
    /// TOML file of a task's prompts and filters; default: dialogue.
    #[arg(long, value_name = "FILE")]
    pub(crate) task: Option<PathBuf>,
    /// Distinct constitutions per query.
    #[arg(long, value_name = "C", default_value_t = 2, value_parser = at_least_one)]
    pub(crate) n_constitutions: usize,
    /// The constitution of all principles' own sides against others, as in the paper's TL;DR files; default: any.
    #[arg(long)]
    pub(crate) against_all: bool,
    /// At most this many tokens per response.
    #[arg(long, value_name = "N", default_value_t = 350)]
    pub(crate) max_new_tokens: usize,
    /// Queries that are sampled and written together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) chunk: usize,
    /// Count a sampled end-of-sequence token as part of its response.
    #[arg(long)]
    pub(crate) score_eos: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let principles = match &args.principles {
        Some(file) => PrincipleSet::load(file)?,
        None => PrincipleSet::helpful_harmless(),
    };
    let task = match &args.task {
        Some(file) => Task::load(file)?,
        None => Task::dialogue(),
    };
    let format: QueryFormat = serde_json::from_value(json!(args.format))
        .map_err(|error| Failure::Argument { argument: "--format", reason: error.to_string() })?;
    let params = args.sampling.params(args.max_new_tokens, task.stop_strings().to_vec())?;
    let data = args.data.iter().map(|file| hub::data(file)).collect::<Result<Vec<_>, _>>()?;
    let queries = QueryIndex::open(&data, format, OnBadLine::Stop)?;
    context.say(&queries.report().to_string());
    let mut policy = args.model.open(&args.model.engine())?;
    let order: Vec<usize> = (0..queries.len()).collect();
    let job = GenerateJob {
        seed: args.sampling.seed,
        iteration: 0,
        queries: &queries,
        order: &order,
        wanted: args.queries.map_or(Wanted::All, Wanted::Kept),
        space: &ConstitutionSpace::new(principles),
        n_constitutions: args.n_constitutions,
        contrasts: if args.against_all { Contrasts::AgainstAllPrinciples } else { Contrasts::Any },
        task: &task,
        params: &params,
        score_eos: args.score_eos,
        chunk: args.chunk,
        out: args.out.clone(),
    };
    let report = sami_driver::generate(&mut policy, &job, &mut context.progress())?;
    let text = format!("{} pairs in {}", report.kept, args.out.display());
    context.result(&report, &text)
}
