//! What can be wrong with principles, constitutions and templates.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::constitution::ConstitutionProblem;
use crate::hold_out::HoldOutProblem;
use crate::principle::PrincipleProblem;
use crate::source::SourceProblem;
use crate::task::{PromptKind, TaskProblem};
use crate::writer::WriterProblem;

/// A place in a file, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The file; `None` for text that came from elsewhere.
    pub path: Option<PathBuf>,
    /// The line, from 1.
    pub line: Option<usize>,
}

impl Location {
    pub(crate) fn new(path: Option<&Path>, line: Option<usize>) -> Self {
        Self { path: path.map(Path::to_owned), line }
    }

    /// The line of a byte offset in `text`, from 1.
    pub(crate) fn line_of(text: &str, offset: usize) -> usize {
        1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

impl fmt::Display for Location {
    /// `FILE, line N: `, with what is known of it, ready to be put before a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.line) {
            (Some(path), Some(line)) => write!(f, "{}, line {line}: ", path.display()),
            (Some(path), None) => write!(f, "{}: ", path.display()),
            (None, Some(line)) => write!(f, "line {line}: "),
            (None, None) => Ok(()),
        }
    }
}

/// Why principles, constitutions or templates cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the TOML that it should be.
    #[error("{at}{message}")]
    Toml {
        /// Where.
        at: Location,
        /// What the parser said, in one line.
        message: String,
    },
    /// A file is not the JSON that it should be.
    #[error("{at}{source}")]
    Json {
        /// Where.
        at: Location,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Principles that make no constitutions.
    #[error("{at}{problem}")]
    Principles {
        /// Where.
        at: Location,
        /// What is wrong with them.
        problem: PrincipleProblem,
    },
    /// Articles that make no constitution.
    #[error("{at}{problem}")]
    Constitution {
        /// Where.
        at: Location,
        /// What is wrong with it.
        problem: ConstitutionProblem,
    },
    /// A template file that makes no task.
    #[error("{at}{problem}")]
    Task {
        /// Where.
        at: Location,
        /// What is wrong with it.
        problem: TaskProblem,
    },
    /// Nothing that a principle writer can be asked.
    #[error("{at}{problem}")]
    Writer {
        /// Where.
        at: Location,
        /// What is wrong with it.
        problem: WriterProblem,
    },
    /// Principles or wordings that cannot be held out.
    #[error("{at}{problem}")]
    HoldOut {
        /// Where.
        at: Location,
        /// Why not.
        problem: HoldOutProblem,
    },
    /// Chosen contrasts, or constitutions of queries, that are none.
    #[error("{at}{problem}")]
    Source {
        /// Where.
        at: Location,
        /// What is wrong with them.
        problem: SourceProblem,
    },
    /// More distinct constitutions were asked for than there are.
    #[error(
        "{wanted} distinct constitutions per query are asked for, but {principles} principles make only {available}; lower n_constitutions or add principles"
    )]
    TooFew {
        /// N_c.
        wanted: usize,
        /// 2 to the power of the number of principles.
        available: u64,
        /// The number of principles.
        principles: usize,
    },
    /// A contrast needs two sides.
    #[error("{wanted} constitutions per query are asked for; a contrast needs at least 2")]
    NoContrast {
        /// N_c.
        wanted: usize,
    },
    /// A template that was fine when it was loaded failed on this input.
    #[error("{at}template {kind}: {message}")]
    Render {
        /// Where in the template.
        at: Location,
        /// Which template.
        kind: PromptKind,
        /// What the template engine said.
        message: String,
    },
    /// The task's file has no such template.
    #[error("task {task} has no template {kind}; add it under [prompts] in the task's file")]
    NoTemplate {
        /// The task's name.
        task: String,
        /// The template that is missing.
        kind: PromptKind,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn toml(path: Option<&Path>, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| Location::line_of(text, span.start));
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Toml { at: Location::new(path, line), message }
    }
}
