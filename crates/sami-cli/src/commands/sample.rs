//! `sami sample`: raw completions.

use std::path::PathBuf;

use sami_data::{atomic_write, read_prompts};
use sami_driver::DriverError;
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, Refusal, Role, Sample, SampleRequest, Sampler, StreamKey,
};
use serde_json::json;

use crate::args::{FormatArgs, ModelArgs, SamplingArgs, check_out};
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
    --format text, a line. Prompts are taken as they are, each of them. A line of --out is {\"prompt\", \"text\", \"tokens\"}, \
    or {\"prompt\", \"refused\"} for a prompt that the model cannot take."
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
    /// End with an error where the model cannot take a prompt, instead of leaving it out and going on.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    check_out(&args.out, [&args.prompts])?;
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
    if args.strict && !args.chat {
        for (number, request) in requests.iter().enumerate() {
            policy.prompt_refusal(request, &params)?.map_or(Ok(()), |one| Err(refused(number, one)))?;
        }
    }
    let mut progress = context.progress();
    progress.begin("sample", 0, requests.len());
    let mut samples: Vec<Result<Sample, Refusal>> = Vec::with_capacity(requests.len());
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
        if args.strict {
            let first = samples.iter().position(Result::is_err);
            if let Some((number, Err(refusal))) = first.map(|number| (number, samples[number].clone())) {
                return Err(refused(number, refusal));
            }
        }
        progress.advance("sample", samples.len(), requests.len());
    }
    progress.end();
    some_taken(&samples)?;
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
    let good = samples.iter().filter(|sample| sample.is_ok()).count();
    let bad = samples.len() - good;
    let mut text = format!("{good} samples in {}", args.out.display());
    if bad > 0 {
        text.push_str(&format!("; {bad} prompts were refused, their lines say why"));
    }
    context.result(&json!({"samples": good, "refused": bad, "out": args.out}), &text)
}

fn refused(number: usize, refusal: Refusal) -> Failure {
    DriverError::Refused { id: format!("prompt {}", number + 1), reason: refusal.message }.into()
}

/// Where every prompt was refused, that is an error.
fn some_taken(samples: &[Result<Sample, Refusal>]) -> Result<(), Failure> {
    match samples.first() {
        Some(Err(one)) if samples.iter().all(Result::is_err) => Err(DriverError::AllRefused {
            refused: samples.len(),
            id: "prompt 1".to_owned(),
            reason: one.message.clone(),
        }
        .into()),
        _ => Ok(()),
    }
}
