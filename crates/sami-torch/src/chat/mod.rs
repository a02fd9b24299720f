//! Chat templates: how an instruction-tuned checkpoint writes a conversation down.
//!
//! A template is Jinja as `transformers` runs it (`apply_chat_template`): blocks trimmed, Python's string and dict
//! methods, `raise_exception`, `strftime_now`, `tojson`, `break` and `continue`, `{% generation %}`. Of several named ones
//! `default` is used. Templates are other people's programs, so the work that one may do is bounded.

mod files;
mod python;
mod turn;

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error as JinjaError, ErrorKind};
use sami_policy::ChatMessage;
use thiserror::Error as ThisError;

use self::python::{Moment, dumps};
use crate::error::{Error, Result};
use crate::tokenizer::SpecialTokens;

pub(crate) use files::{TEMPLATE_DIR, named_templates};

/// Steps of the template's interpreter for one conversation; real templates take thousands.
const FUEL: u64 = 20_000_000;

/// What is wrong with a chat template, or with a conversation in its eyes.
#[derive(Debug, ThisError, PartialEq, Eq)]
pub enum ChatError {
    /// The checkpoint has none.
    #[error("no chat template here; a base model takes raw prompts")]
    NoTemplate,
    /// `chat_template` is neither a text nor a list of named ones.
    #[error("\"chat_template\" must be a text, or a list of {{\"name\", \"template\"}}")]
    Shape,
    /// Several templates, none of them the default.
    #[error("\"chat_template\" has {names:?}; name one of them \"default\"")]
    NoDefault {
        /// The names there are.
        names: Vec<String>,
    },
    /// The template is not one, or failed.
    #[error("chat template, line {line}: {reason}")]
    Template {
        /// The line of the template, from 1.
        line: usize,
        /// What the interpreter says.
        reason: String,
    },
    /// The template refuses this conversation.
    #[error("chat template, line {line}, refuses the conversation: {reason}")]
    Refused {
        /// The line of the template, from 1.
        line: usize,
        /// The template's own words.
        reason: String,
    },
    /// Nothing to answer.
    #[error("a conversation needs at least one message")]
    Empty,
}

/// A checkpoint's chat template, with the special tokens that it may name.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    /// `bos_token`, `eos_token`, … and their texts.
    tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// The template of the checkpoint at `dir`; `None` for a base model.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not JSON, and a `chat_template` in another shape or without a default. Whether the
    /// template itself is sound shows when it is rendered.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let Some((path, source)) = files::find(dir)? else { return Ok(None) };
        // Jinja knows one kind of newline.
        let source = generation_blocks(&source.replace("\r\n", "\n").replace('\r', "\n"));
        let named = SpecialTokens::read(dir)?.named.into_iter();
        let tokens = named.map(|one| (one.name, one.token.content)).collect();
        Ok(Some(Self { path, source, tokens }))
    }

    /// The file that the template stands in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as one text, special tokens spelt out, followed by the opening of the assistant's next turn where
    /// `add_generation_prompt` says so.
    ///
    /// # Errors
    ///
    /// An empty conversation, an unsound template (with its line), a conversation that the template refuses.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String> {
        let fail = |source| Error::Chat { path: self.path.clone(), source };
        if messages.is_empty() {
            return Err(fail(ChatError::Empty));
        }
        let rendered = environment().and_then(|mut environment| {
            environment.add_template("chat", &self.source)?;
            let turns = messages.iter().map(|message| {
                Value::from_pairs([
                    ("role", Value::from(message.role.name())),
                    ("content", Value::from(message.content.as_str())),
                ])
            });
            let mut variables = vec![
                ("messages", Value::from(turns.collect::<Vec<_>>())),
                ("add_generation_prompt", Value::from(add_generation_prompt)),
                // transformers always defines them; templates ask whether they are none.
                ("tools", Value::from(())),
                ("documents", Value::from(())),
            ];
            variables
                .extend(self.tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
            environment.get_template("chat")?.render(Value::from_pairs(variables))
        });
        rendered.map_err(|error| fail(describe(&error)))
    }
}

/// An environment that reads and prints as transformers' does.
fn environment<'a>() -> Result<Environment<'a>, JinjaError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, JinjaError> {
        Err(JinjaError::new(ErrorKind::InvalidOperation, "raised").with_source(Refusal(message)))
    });
    environment.add_function("strftime_now", |format: String| {
        Moment::now().format(&format).map_err(|directive| {
            let detail = format!("strftime_now does not know %{directive}");
            JinjaError::new(ErrorKind::InvalidOperation, detail)
        })
    });
    Ok(environment)
}

/// `json.dumps(x, ensure_ascii=False)` with its `indent` and `sort_keys`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    dumps(value, indent, sort_keys.unwrap_or(false))
}

/// What a template raised.
#[derive(Debug, ThisError)]
#[error("{0}")]
struct Refusal(String);

fn describe(error: &JinjaError) -> ChatError {
    let line = error.line().unwrap_or(1);
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        if let Some(Refusal(reason)) = source.downcast_ref() {
            return ChatError::Refused { line, reason: reason.clone() };
        }
        cause = source.source();
    }
    let reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    ChatError::Template { line, reason }
}

/// `{% generation %}` marks what the assistant wrote, for those who train on it; to render, it is a block like any other.
fn generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
