//! `sami sample`: raw completions.

use std::path::PathBuf;

use sami_data::{atomic_write, read_prompts};
use sami_policy::{ChatMessage, ChatRequest, ChatSampler, Role, SampleRequest, Sampler, StreamKey};
use serde_json::json;

use crate::args::{FormatArgs, ModelArgs, SamplingArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::hub;
use crate::output::write_line;
use crate::progress::interrupted;

/// Prompts that are sampled between two looks at progress and interrupts.
const CHUNK: usize = 256;

/// Continue raw prompts, or answer them in a chat format.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami sample --model mistral-7b --prompts prompts.jsonl --out samples.jsonl --temperature 0\n\n\
    A record of --prompts is {\"prompt\": \"…\"}, another object that `sami generate --data` reads, or a JSON string; with \
    --format text, a line. Prompts are taken as they are, each of them. A line of --out is {\"prompt\", \"text\", \"tokens\"}."
)]
// A raw prompt may be a whole dialogue, and is not to be told from one whose first turn is asked for.
#[command(mut_arg("format", |arg| arg.default_value("jsonl")))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Prompts: JSON lines, JSON, Parquet or text, also compressed; or hub:org/name/path/of/file.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    /// One JSON line per prompt.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// At most this many new tokens per prompt.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new_tokens: usize,
    /// Each prompt is a user's turn, answered in the model's chat format.
    #[arg(long)]
    pub(crate) chat: bool,
    /// End a text where this string appears. May be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let params = args.sampling.params(args.max_new_tokens, args.stop.clone())?;
    let prompts = read_prompts(&hub::data(&args.prompts)?, args.format.shape()?)?;
    let requests: Vec<SampleRequest> = (0u64..)
        .zip(&prompts)
        .map(|(index, prompt)| SampleRequest {
            prompt: prompt.clone(),
            stream: StreamKey::new(args.sampling.seed, 0, index, 0),
        })
        .collect();
    let mut policy = args.model.open(&args.model.engine())?;
    let mut progress = context.progress();
    progress.begin("sample", 0, requests.len());
    let mut samples = Vec::with_capacity(requests.len());
    for chunk in requests.chunks(CHUNK) {
        if interrupted() {
            return Err(Failure::Interrupted);
        }
        samples.extend(if args.chat {
            let turn = |request: &SampleRequest| ChatRequest {
                messages: vec![ChatMessage::new(Role::User, request.prompt.clone())],
                stream: request.stream,
            };
            policy.sample_chat(&chunk.iter().map(turn).collect::<Vec<_>>(), &params)?
        } else {
            policy.sample(chunk, &params)?
        });
        progress.advance("sample", samples.len(), requests.len());
    }
    progress.end();
    atomic_write(&args.out, |file| {
        for (prompt, sample) in prompts.iter().zip(&samples) {
            let line = match sample {
                Ok(sample) => json!({"prompt": prompt, "text": sample.text, "tokens": sample.token_ids}),
                Err(refusal) => json!({"prompt": prompt, "refused": refusal.message}),
            };
            write_line(file, &line)?;
        }
        Ok(())
    })?;
    let text = format!("{} samples in {}", samples.len(), args.out.display());
    context.result(&json!({"samples": samples.len(), "out": args.out}), &text)
}
