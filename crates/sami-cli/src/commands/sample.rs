//! `sami sample`: raw completions.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use sami_data::atomic_write;
use sami_policy::{ChatMessage, ChatRequest, ChatSampler, Role, SampleRequest, Sampler, StreamKey};
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
    A line of --prompts is {\"prompt\": \"…\"} or a JSON string; a line of --out is {\"prompt\", \"text\", \"tokens\"}."
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
