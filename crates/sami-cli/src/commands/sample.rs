//! `sami sample`: raw completions.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use sami_data::atomic_write;
use sami_driver::DriverError;
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, Refusal, Role, Sample, SampleRequest, Sampler, StreamKey,
};
use serde::Deserialize;
use serde_json::json;

use crate::args::{ModelArgs, SamplingArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::write_line;
use crate::progress::interrupted;

/// Prompts that are sampled between two looks at progress and interrupts.
const CHUNK: usize = 256;

/// Continue raw prompts, or answer them in a chat format.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami sample --model mistral-7b --prompts prompts.jsonl --out samples.jsonl --temperature 0\n\n\
    A line of --prompts is {\"prompt\": \"…\"} or a JSON string; a line of --out is {\"prompt\", \"text\", \"tokens\"}, \
    or {\"prompt\", \"refused\"} for a prompt that the model cannot take."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Prompts, one JSON value per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,
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
    let params = args.sampling.params(args.max_new_tokens, args.stop.clone())?;
    let prompts = read_prompts(&args.prompts)?;
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

/// Prompts, one JSON string or {"prompt": …} per line.
fn read_prompts(path: &Path) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Prompt {
        Text(String),
        Object { prompt: String },
    }
    let io = |source| Failure::Io { path: path.to_owned(), source };
    let mut prompts = Vec::new();
    for (index, line) in BufReader::new(std::fs::File::open(path).map_err(io)?).lines().enumerate() {
        let at = |reason: String| Failure::Line { path: PathBuf::from(path), line: index + 1, reason };
        let line = line.map_err(|error| at(error.to_string()))?;
        let expected = "expected a JSON string or {\"prompt\": \"…\"}";
        let prompt = serde_json::from_str(&line).map_err(|error| at(format!("{expected} ({error})")))?;
        prompts.push(match prompt {
            Prompt::Text(prompt) | Prompt::Object { prompt } => prompt,
        });
    }
    if prompts.is_empty() {
        return Err(Failure::Line {
            path: path.to_owned(),
            line: 1,
            reason: "the file holds no prompt".into(),
        });
    }
    Ok(prompts)
}
