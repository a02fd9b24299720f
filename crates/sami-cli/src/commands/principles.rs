//! `sami principles`: stage 1.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sami_constitution::{
    ContrastFile, HoldOut, PrincipleSet, PrincipleWriter, SeedTemplate, Speaker, TaskWriter, Turns,
    WriteError, WriterBuilder, Written,
};
use sami_data::atomic_write;
use sami_policy::{
    ChatMessage, ChatRequest, ChatSampler, FinishReason, Role, SampleRequest, SamplingParams,
    SamplingParamsBuilder, StreamKey,
};
use sami_remote::RemoteSampler;
use sami_text::after_thought;
use serde_json::json;

use crate::args::{ModelArgs, at_least_one, check_out, task};
use crate::context::Context;
use crate::failure::Failure;
use crate::progress::interrupted;
use crate::server::{ServerArgs, left_to_server, say_usage};

/// Stage 1: ask a model for principles and antitheses, and write them to a file for people to edit.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sami principles --model mistral-7b-instruct --task tldr --out principles.toml\n  \
    sami principles --server http://localhost:8000/v1 --server-model mistral-7b-instruct --variants 3 --out principles.toml\n  \
    sami principles --edited principles.toml --hold-out-wordings 1 --out train.toml --held-out test.toml\n\n\
    The model is asked at temperature 0. What its answer lacks is named and asked for again; nothing is made up."
)]
#[command(mut_arg("model", |arg| arg.required(false)))]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(true).args(["model", "server", "edited"]))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: Option<ModelArgs>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Ask no model: take this principles file, for --constitutions, --hold-out and --hold-out-wordings.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "server"])]
    pub(crate) edited: Option<PathBuf>,
    /// Whose principles: dialogue, tldr, or a task's TOML file with a `[writer]` table.
    #[arg(long, value_name = "TASK", default_value = "dialogue")]
    pub(crate) task: String,
    /// What the model will be asked to do, instead of what the task says: "summarize posts from Reddit".
    #[arg(long, value_name = "TEXT")]
    pub(crate) about: Option<String>,
    /// Names of principles, instead of those that the task says.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) principles: Vec<String>,
    /// Wordings of each principle and each antithesis.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) variants: usize,
    /// Answers that are read at most; each later question names what is missing.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub(crate) attempts: usize,
    /// A seed prompt of your own, with {{ task }}, {{ principles }} and {{ variants }}.
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    /// Ask with a plain text to continue, even if the model has a chat format: for base models behind a server.
    #[arg(long)]
    pub(crate) plain: bool,
    /// At most this many tokens per answer; the last line of one that reaches them is left out, for it may be half a sentence.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least_one)]
    pub(crate) max_new_tokens: usize,
    /// The principles file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Also write the conversation here, as a page of text.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
    /// Also write contrasts to this directory, in the paper's JSON: all principles against every other combination.
    #[arg(long, value_name = "DIR")]
    pub(crate) constitutions: Option<PathBuf>,
    /// Principles to keep from --out, to test with.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "held_out")]
    pub(crate) hold_out: Vec<String>,
    /// Wordings of each side to keep from --out, the last ones, to test with.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "held_out")]
    pub(crate) hold_out_wordings: usize,
    /// Where what is held out goes: principles here, wordings of the others beside it in FILE.paraphrases.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) held_out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    check_out(&args.out, [])?;
    let (set, head, written) = match &args.edited {
        Some(file) => (PrincipleSet::load(file)?, String::new(), None),
        None => {
            let (written, model) = args.ask(context)?;
            let text = written.to_toml(&model)?;
            let head = text
                .lines()
                .take_while(|line| line.starts_with('#'))
                .fold(String::new(), |all, line| all + line + "\n");
            (written.set().clone(), head, Some(written))
        }
    };
    let parted =
        set.hold_out(&HoldOut { principles: args.hold_out.clone(), wordings: args.hold_out_wordings })?;
    save(&args.out, &head, parted.training())?;
    if let Some(path) = &args.held_out {
        if let Some(set) = parted.principles() {
            save(path, &head, set)?;
        }
        if let Some(set) = parted.paraphrases() {
            save(&path.with_extension("paraphrases.toml"), &head, set)?;
        }
    }
    let mut contrasts = 0;
    if let Some(dir) = &args.constitutions {
        for (number, file) in ContrastFile::against_all_principles(parted.training())?.iter().enumerate() {
            let text = file.to_json()?;
            atomic_write(&dir.join(format!("{number}.json")), |out| out.write_all(text.as_bytes()))?;
            contrasts += 1;
        }
    }
    let count = parted.training().principles().len();
    let missing: Vec<_> = written.iter().flat_map(Written::missing).map(ToString::to_string).collect();
    let notes: Vec<_> = written.iter().flat_map(Written::notes).map(ToString::to_string).collect();
    for line in missing.iter().map(|one| format!("missing: {one}")).chain(notes.iter().cloned()) {
        context.say(&line);
    }
    let result = json!({
        "principles": parted.training().principles(),
        "out": args.out,
        "answers": written.as_ref().map(Written::answers),
        "missing": missing,
        "notes": notes,
        "constitutions": contrasts,
    });
    let text = format!("{count} principles with antitheses in {}; read and edit them", args.out.display());
    context.result(&result, &text)
}

fn save(path: &Path, head: &str, set: &PrincipleSet) -> Result<(), Failure> {
    let text = format!("{head}{}{}", if head.is_empty() { "" } else { "\n" }, set.to_toml()?);
    Ok(atomic_write(path, |out| out.write_all(text.as_bytes()))?)
}

impl Args {
    /// What the model wrote, and its name.
    fn ask(&self, context: &Context) -> Result<(Written, String), Failure> {
        let writer = self.writer()?;
        let params =
            SamplingParamsBuilder { max_new_tokens: self.max_new_tokens, ..SamplingParams::builder() };
        let params = params.check()?;
        match (&self.model, self.server.endpoint()?) {
            (_, Some(endpoint)) => {
                let name = endpoint.settings().model.clone();
                let mut sampler = RemoteSampler::new(endpoint).accept_server_defaults();
                let mut written = self.converse(&writer, &mut sampler, &params)?;
                say_usage(sampler.endpoint(), context);
                if let Some(left) = left_to_server(sampler.endpoint()) {
                    written = written.sampled(left);
                }
                Ok((written, name))
            }
            (Some(model), None) => {
                let mut policy = model.open(&model.engine())?;
                let name =
                    model.model.file_name().unwrap_or(model.model.as_os_str()).to_string_lossy().into_owned();
                Ok((self.converse(&writer, &mut policy, &params)?, name))
            }
            (None, None) => Err(Failure::Argument {
                argument: "--model or --server",
                reason: "no model to ask".to_owned(),
            }),
        }
    }

    fn writer(&self) -> Result<PrincipleWriter, Failure> {
        let task = task(&self.task)?;
        let missing = |argument| Failure::Argument {
            argument,
            reason: format!("task {} has no [writer] table to take it from; say it here", task.name()),
        };
        let about = self.about.clone().or_else(|| task.writer().map(|own| own.task.clone()));
        let principles = match (self.principles.as_slice(), task.writer()) {
            ([], Some(TaskWriter { principles, .. })) => principles.clone(),
            ([], None) => return Err(missing("--principles")),
            (named, _) => named.iter().map(|name| name.trim().to_owned()).collect(),
        };
        let builder = WriterBuilder {
            task: about.ok_or_else(|| missing("--about"))?,
            principles,
            variants: self.variants,
            attempts: self.attempts,
            template: self.template.as_deref().map(SeedTemplate::load).transpose()?,
        };
        Ok(builder.check()?)
    }

    fn converse<S>(
        &self,
        writer: &PrincipleWriter,
        sampler: &mut S,
        params: &SamplingParams,
    ) -> Result<Written, Failure>
    where
        S: ChatSampler,
        Failure: From<S::Error>,
    {
        let mut transcript = String::new();
        let written = writer.write(|turns| {
            if interrupted() {
                return Err(Failure::Interrupted);
            }
            let answer = self.answer(sampler, turns, params)?;
            let asked = turns.turns.last().map_or("", |turn| turn.text.as_str());
            let _ = write!(transcript, "## Asked\n\n{asked}\n\n## Answered\n\n{answer}\n\n");
            Ok(answer)
        });
        // Above all when the answers were of no use.
        if let Some(path) = &self.transcript {
            atomic_write(path, |out| out.write_all(transcript.as_bytes()))?;
        }
        written.map_err(|error| match error {
            WriteError::Ask(failure) => failure,
            WriteError::Set(error) => error.into(),
            none @ (WriteError::Missing { .. } | WriteError::OnlyThought { .. }) => {
                Failure::NoPrinciples(none.to_string())
            }
        })
    }

    fn answer<S>(&self, sampler: &mut S, turns: &Turns, params: &SamplingParams) -> Result<String, Failure>
    where
        S: ChatSampler,
        Failure: From<S::Error>,
    {
        let stream = StreamKey::new(0, 0, 0, turns.turns.len() as u64);
        let chat = sampler.has_chat_format() && !self.plain;
        let samples = if chat {
            let message = |turn: &sami_constitution::Turn| {
                let role = match turn.speaker {
                    Speaker::User => Role::User,
                    Speaker::Assistant => Role::Assistant,
                };
                ChatMessage::new(role, turn.text.clone())
            };
            let messages = turns.turns.iter().map(message).collect();
            sampler.sample_chat(&[ChatRequest { messages, stream }], params)?
        } else {
            sampler.sample(&[SampleRequest { prompt: turns.as_prompt(), stream }], params)?
        };
        let Some(sample) = samples.into_iter().next() else { return Ok(String::new()) };
        let sample = sample.map_err(|refusal| Failure::NoPrinciples(refusal.to_string()))?;
        let mut text = sample.text;
        if sample.finish == FinishReason::Length && after_thought(&text).is_some() {
            // Its last line may be half a sentence, which no reader could tell from a whole one.
            text.truncate(text.rfind('\n').unwrap_or(0));
        }
        Ok(if chat { text } else { turns.answer_of(&text) })
    }
}
