//! Tasks: prompt templates and what is asked of responses, one TOML file per task.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::error::{Error, Location};
use crate::plain_text::plain_text;
use crate::rules::ResponseRules;
use crate::writer::WriterBuilder;

/// The prompts that a task may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PromptKind {
    /// For sampling from a base model: with an example of the format. Variables: `constitution`, `query`.
    Sampling,
    /// For training and scoring: without the example. Variables: `constitution`, `query`.
    Training,
    /// The user's turn for an instruct model, before its chat template. Variables: `constitution`, `query`.
    Instruct,
    /// For a judge who compares two responses. Variables: `constitution`, `query`, `response_a`, `response_b`.
    Judge,
}

impl PromptKind {
    const ALL: [Self; 4] = [Self::Sampling, Self::Training, Self::Instruct, Self::Judge];

    /// Its key under `[prompts]`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Training => "training",
            Self::Instruct => "instruct",
            Self::Judge => "judge",
        }
    }

    /// The variables that it must use; it may use no others.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Judge => &["constitution", "query", "response_a", "response_b"],
            _ => &["constitution", "query"],
        }
    }
}

impl fmt::Display for PromptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a task's file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TaskProblem {
    /// Names appear in reports.
    #[error("the task has no name; set name = \"…\"")]
    NoName,
    /// The template engine cannot read a template.
    #[error("template {kind}: {message}")]
    Syntax {
        /// Which template.
        kind: PromptKind,
        /// What the engine said.
        message: String,
    },
    /// A variable that no caller sets.
    #[error("template {kind}: there is no variable {variable}; it may use {allowed}", allowed = kind.variables().join(", "))]
    UnknownVariable {
        /// Which template.
        kind: PromptKind,
        /// Its name.
        variable: String,
    },
    /// A prompt that leaves out what it is for.
    #[error("template {kind} does not use {variable}; put {{{{ {variable} }}}} where it belongs")]
    MissingVariable {
        /// Which template.
        kind: PromptKind,
        /// Its name.
        variable: &'static str,
    },
    /// An empty string is part of every text.
    #[error("responses.{field}[{index}] is empty and would match every response; remove it")]
    EmptyString {
        /// The list.
        field: &'static str,
        /// Counted from 0.
        index: usize,
    },
}

/// A task: the prompts that a constitution and a query become, and what is asked of the responses.
///
/// The embedded ones are [`Task::dialogue`] and [`Task::tldr`]; a task of your own is one TOML file in their form:
///
/// ```
/// let task = sami_constitution::Task::from_toml(r#"
/// name = "poems"
/// [prompts]
/// sampling = """
/// Rules: [rules]
/// Poem: [poem]
///
/// Rules: {{ constitution }}
/// Theme: {{ query }}
/// Poem:"""
/// training = """
/// Rules: {{ constitution }}
/// Theme: {{ query }}
/// Poem:"""
/// [responses]
/// stop = ["Rules:"]
/// "#)?;
/// assert_eq!(task.training_prompt("1. Rhyme.", "rain")?, "Rules: 1. Rhyme.\nTheme: rain\nPoem:");
/// # Ok::<(), sami_constitution::Error>(())
/// ```
///
/// `{{ … }}` is a variable of [minijinja](https://docs.rs/minijinja); an unknown one is an error, never an empty text. One
/// newline at the end of a template is dropped.
#[derive(Clone)]
pub struct Task {
    name: String,
    environment: Environment<'static>,
    rules: ResponseRules,
    writer: Option<TaskWriter>,
    /// Its prompts are a user's turn.
    instructed: bool,
    /// Where the templates' first lines are, for messages.
    origins: [Option<Location>; 4],
}

/// What a principle writer is asked for a task, unless somebody asks for other principles.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskWriter {
    /// What the model is asked to do, after "asked to": `summarize Reddit posts`.
    pub task: String,
    /// Names of principles.
    pub principles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    prompts: PromptTable,
    #[serde(default)]
    writer: Option<Spanned<TaskWriter>>,
    #[serde(default)]
    responses: Option<Spanned<ResponseRules>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTable {
    sampling: Spanned<String>,
    training: Spanned<String>,
    instruct: Option<Spanned<String>>,
    judge: Option<Spanned<String>>,
}

impl Task {
    /// Dialogue in the structure of A.10, in our own words.
    pub fn dialogue() -> Self {
        Self::embedded(include_str!("defaults/dialogue.toml"))
    }

    /// Summaries of Reddit posts in the structure of A.11, in our own words.
    pub fn tldr() -> Self {
        Self::embedded(include_str!("defaults/tldr.toml"))
    }

    fn embedded(text: &'static str) -> Self {
        #[allow(clippy::expect_used, reason = "no input: tests parse every embedded file")]
        Self::parse(None, text).expect("an embedded task file is valid")
    }

    /// Reads a task's file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; otherwise as [`Task::from_toml`], with the path.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(Some(path), &std::fs::read_to_string(path).map_err(Error::io(path))?)
    }

    /// Reads the text of a task's file.
    ///
    /// # Errors
    ///
    /// [`Error::Toml`] and [`Error::Task`], with the line.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::parse(None, text)
    }

    fn parse(path: Option<&Path>, text: &str) -> Result<Self, Error> {
        let text = &*plain_text(text);
        let file: TaskFile = toml::from_str(text).map_err(|error| Error::toml(path, text, &error))?;
        let fail = |line, problem| Error::Task { at: Location::new(path, Some(line)), problem };
        if file.name.trim().is_empty() {
            return Err(fail(1, TaskProblem::NoName));
        }
        let rules = match file.responses {
            None => ResponseRules::default(),
            Some(rules) => {
                let line = Location::line_of(text, rules.span().start);
                rules.get_ref().check().map_err(|problem| fail(line, problem))?;
                rules.into_inner()
            }
        };
        let writer = file.writer.map(|table| {
            let line = Location::line_of(text, table.span().start);
            let table = table.into_inner();
            let asked = WriterBuilder {
                task: table.task.clone(),
                principles: table.principles.clone(),
                ..WriterBuilder::default()
            };
            asked.check().map(|_| table).map_err(|error| match error {
                Error::Writer { problem, .. } => {
                    Error::Writer { at: Location::new(path, Some(line)), problem }
                }
                other => other,
            })
        });
        let writer = writer.transpose()?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        let mut origins = [const { None }; 4];
        let PromptTable { sampling, training, instruct, judge } = file.prompts;
        let templates = [Some(sampling), Some(training), instruct, judge];
        for ((kind, template), origin) in PromptKind::ALL.into_iter().zip(templates).zip(&mut origins) {
            let Some(template) = template else { continue };
            let first = first_line(text, template.span().start);
            *origin = Some(Location::new(path, Some(first)));
            add(&mut environment, kind, template.into_inner())
                .map_err(|(line, problem)| fail(first + line - 1, problem))?;
        }
        Ok(Self { name: file.name, environment, rules, writer, instructed: false, origins })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is asked of its responses.
    pub fn rules(&self) -> &ResponseRules {
        &self.rules
    }

    /// What a principle writer is asked for it, where its file says so.
    pub fn writer(&self) -> Option<&TaskWriter> {
        self.writer.as_ref()
    }

    /// Strings that end a response, to sample with.
    pub fn stop_strings(&self) -> &[String] {
        &self.rules.stop
    }

    /// The prompt to sample a response with, example of the format included. Takes a [`crate::Constitution`] or its text.
    ///
    /// # Errors
    ///
    /// [`Error::Render`], for instance from a filter that refuses its input.
    pub fn sampling_prompt<'a>(
        &self,
        constitution: impl Into<Cow<'a, str>>,
        query: &str,
    ) -> Result<String, Error> {
        self.render(PromptKind::Sampling, &[("constitution", &constitution.into()), ("query", query)])
    }

    /// The prompt to train and score with, without the example. Takes a [`crate::Constitution`] or its text.
    ///
    /// # Errors
    ///
    /// As [`Task::sampling_prompt`].
    pub fn training_prompt<'a>(
        &self,
        constitution: impl Into<Cow<'a, str>>,
        query: &str,
    ) -> Result<String, Error> {
        self.render(PromptKind::Training, &[("constitution", &constitution.into()), ("query", query)])
    }

    /// The user's turn for an instruct model.
    ///
    /// # Errors
    ///
    /// As [`Task::sampling_prompt`], and [`Error::NoTemplate`].
    pub fn instruct_prompt<'a>(
        &self,
        constitution: impl Into<Cow<'a, str>>,
        query: &str,
    ) -> Result<String, Error> {
        self.render(PromptKind::Instruct, &[("constitution", &constitution.into()), ("query", query)])
    }

    /// The same task for an instruct model: its sampling and training prompts are the user's turn, which the model's chat format
    /// still has to go around, and no first words are put before its responses. What is asked of responses stays.
    ///
    /// # Errors
    ///
    /// [`Error::NoTemplate`] for a task without `instruct`.
    pub fn instructed(&self) -> Result<Self, Error> {
        let kind = PromptKind::Instruct;
        let missing = || Error::NoTemplate { task: self.name.clone(), kind };
        let origin = self.origins[kind as usize].clone().ok_or_else(missing)?;
        let template = self.environment.get_template(kind.name()).map_err(|_| missing())?;
        let source = template.source().to_owned();
        let mut task = self.clone();
        for base in [PromptKind::Sampling, PromptKind::Training] {
            let at = origin.clone();
            add(&mut task.environment, base, source.clone())
                .map_err(|(_, problem)| Error::Task { at, problem })?;
            task.origins[base as usize] = Some(origin.clone());
        }
        task.rules.prefix = String::new();
        task.instructed = true;
        Ok(task)
    }

    /// Whether its prompts are a user's turn, which a chat format goes around: [`Task::instructed`] made it.
    pub fn is_instructed(&self) -> bool {
        self.instructed
    }

    /// The prompt for a judge who says which of two responses follows the constitution better.
    ///
    /// # Errors
    ///
    /// As [`Task::sampling_prompt`], and [`Error::NoTemplate`].
    pub fn judge_prompt<'a>(
        &self,
        constitution: impl Into<Cow<'a, str>>,
        query: &str,
        responses: [&str; 2],
    ) -> Result<String, Error> {
        let [a, b] = responses;
        self.render(
            PromptKind::Judge,
            &[("constitution", &constitution.into()), ("query", query), ("response_a", a), ("response_b", b)],
        )
    }

    fn render(&self, kind: PromptKind, variables: &[(&str, &str)]) -> Result<String, Error> {
        let Some(origin) = &self.origins[kind as usize] else {
            return Err(Error::NoTemplate { task: self.name.clone(), kind });
        };
        let template = self.environment.get_template(kind.name());
        template.and_then(|template| template.render(values(variables))).map_err(|error| {
            let line = origin.line.zip(error.line()).map(|(first, line)| first + line - 1);
            Error::Render {
                at: Location { path: origin.path.clone(), line: line.or(origin.line) },
                kind,
                message: describe(&error),
            }
        })
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

fn values(variables: &[(&str, &str)]) -> minijinja::Value {
    minijinja::Value::from_pairs(variables.iter().copied())
}

/// Adds a template, after a look at its variables and a trial; on failure, the line in the template.
fn add(
    environment: &mut Environment<'static>,
    kind: PromptKind,
    source: String,
) -> Result<(), (usize, TaskProblem)> {
    let refuse = |error: minijinja::Error| {
        (error.line().unwrap_or(1), TaskProblem::Syntax { kind, message: describe(&error) })
    };
    environment.add_template_owned(kind.name(), source.clone()).map_err(refuse)?;
    let template = environment.get_template(kind.name()).map_err(refuse)?;
    let used = template.undeclared_variables(false);
    // The engine counts its own functions, such as range, as variables.
    let own: Vec<_> = environment.globals().map(|(name, _)| name).collect();
    let is_known = |name: &str| kind.variables().contains(&name) || own.contains(&name);
    let mut unknown: Vec<_> = used.iter().filter(|name| !is_known(name)).collect();
    unknown.sort_unstable();
    if let Some(variable) = unknown.first() {
        let line = source.lines().position(|line| line.contains(variable.as_str())).unwrap_or(0) + 1;
        return Err((line, TaskProblem::UnknownVariable { kind, variable: (*variable).clone() }));
    }
    if let Some(variable) = kind.variables().iter().find(|name| !used.contains(**name)) {
        return Err((1, TaskProblem::MissingVariable { kind, variable }));
    }
    let trial: Vec<_> = kind.variables().iter().map(|name| (*name, "text")).collect();
    template.render(values(&trial)).map_err(refuse)?;
    Ok(())
}

/// The engine's own words, without its file and line: those of the task's file stand before them.
pub(crate) fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// The line of a TOML string's first character: a multi-line string drops a newline right after its quotes.
fn first_line(text: &str, start: usize) -> usize {
    let opening = text.get(start..).unwrap_or_default();
    let body = opening.strip_prefix("\"\"\"").or_else(|| opening.strip_prefix("'''"));
    let skipped = body.is_some_and(|body| body.starts_with('\n'));
    Location::line_of(text, start) + usize::from(skipped)
}
