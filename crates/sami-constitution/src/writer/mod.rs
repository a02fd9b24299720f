//! The principle writer: a model is asked for principles and antitheses, and its answer becomes a [`PrincipleSet`]
//! (paper, Figure 1a and section 5).

mod answer;
mod label;
mod line;
mod note;
mod prose;
mod template;
mod written;

use std::fmt;

use sami_text::after_thought;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::constitution::Stance;
use crate::error::{Error, Location};
use crate::principle::{Principle, PrincipleProblem, PrincipleSet, check_name};

pub use note::AnswerNote;
pub use template::SeedTemplate;
pub use written::Written;

/// Who speaks in a conversation with the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation with the writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub speaker: Speaker,
    /// What they say.
    pub text: String,
}

/// What a writer is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    /// The conversation so far; the last turn is the user's.
    pub turns: Vec<Turn>,
    /// The first words of the answer in the format that was asked for, for a model without a chat format: it continues a
    /// text rather than answer one. The continuation is then read as if they were its own. `None` for a template of the
    /// user's, whose format is not known.
    pub opening: Option<String>,
}

impl Turns {
    /// The conversation as one text to continue, for a model without a chat format. Ends with the
    /// [opening](Turns::opening).
    pub fn as_prompt(&self) -> String {
        let mut text = self.turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n\n");
        text.push_str("\n\n");
        text.push_str(self.opening.as_deref().unwrap_or_default());
        text.trim_end().to_owned()
    }

    /// The whole answer of a model that continued [`Turns::as_prompt`].
    pub fn answer_of(&self, continuation: &str) -> String {
        format!("{}{continuation}", self.opening.as_deref().unwrap_or_default())
    }
}

/// What is wrong with what a writer is to be asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriterProblem {
    /// The template engine refuses the seed prompt.
    #[error("seed prompt: {message}")]
    Template {
        /// What the engine said.
        message: String,
    },
    /// A variable that nobody sets.
    #[error("seed prompt: there is no variable {variable}; it may use task, principles, variants")]
    UnknownVariable {
        /// Its name.
        variable: String,
    },
    /// A seed prompt that leaves out what it is for.
    #[error("seed prompt does not use {variable}; put {{{{ {variable} }}}} where it belongs")]
    MissingVariable {
        /// Its name.
        variable: &'static str,
    },
    /// Not said what the model is to do.
    #[error("the task is empty; say what the model is asked to do, for example \"summarize Reddit posts\"")]
    NoTask,
    /// No principle named.
    #[error("no principle is named; name at least one, for example helpful")]
    NoPrinciple,
    /// A name that cannot be one, or comes twice.
    #[error(transparent)]
    Principle(PrincipleProblem),
    /// A count of zero.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// Which.
        field: &'static str,
    },
}

/// Unchecked settings; [`WriterBuilder::check`] makes them a [`PrincipleWriter`].
#[derive(Clone, Debug)]
pub struct WriterBuilder {
    /// What the model whose constitution it is will be asked to do, after "asked to": `summarize Reddit posts`.
    pub task: String,
    /// Names of the principles, for example `helpful`, `harmless`.
    pub principles: Vec<String>,
    /// Wordings of each side. Default 1.
    pub variants: usize,
    /// Answers that are read at most, the first included. Default 3.
    pub attempts: usize,
    /// Another seed prompt than the built-in one.
    pub template: Option<SeedTemplate>,
}

impl Default for WriterBuilder {
    fn default() -> Self {
        Self { task: String::new(), principles: Vec::new(), variants: 1, attempts: 3, template: None }
    }
}

impl WriterBuilder {
    /// Checks the settings and writes the seed prompt.
    ///
    /// # Errors
    ///
    /// [`Error::Writer`]: no task, no principle, a name that cannot be one or comes twice, a zero, a template that fails.
    pub fn check(self) -> Result<PrincipleWriter, Error> {
        let fail = |problem| Err(Error::Writer { at: Location::default(), problem });
        let Self { task, principles, variants, attempts, template } = self;
        if task.trim().is_empty() {
            return fail(WriterProblem::NoTask);
        }
        if principles.is_empty() {
            return fail(WriterProblem::NoPrinciple);
        }
        for (index, name) in principles.iter().enumerate() {
            if let Err(problem) = check_name(name) {
                return fail(WriterProblem::Principle(problem));
            }
            if principles[..index].contains(name) {
                return fail(WriterProblem::Principle(PrincipleProblem::Duplicate(name.clone())));
            }
        }
        for (field, count) in [("variants", variants), ("attempts", attempts)] {
            if count == 0 {
                return fail(WriterProblem::Zero { field });
            }
        }
        let template = match template {
            Some(template) => template,
            None => SeedTemplate::built_in()?,
        };
        let task = task.trim().to_owned();
        let seed = template.render(&task, &principles, variants)?;
        Ok(PrincipleWriter { task, principles, variants, attempts, template, seed })
    }
}

/// Wordings that an answer lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The principle.
    pub principle: String,
    /// The side.
    pub stance: Stance,
    /// Wordings found.
    pub found: usize,
    /// Wordings asked for.
    pub wanted: usize,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.stance {
            Stance::Principle => "definition",
            Stance::Antithesis => "antithesis",
        };
        match (self.found, self.wanted) {
            (0, 1) => write!(f, "the {side} of {}", self.principle),
            (0, wanted) => write!(f, "the {side} of {} in {wanted} wordings", self.principle),
            (found, wanted) => {
                write!(f, "{} more of {wanted} wordings of the {side} of {}", wanted - found, self.principle)
            }
        }
    }
}

/// Why a writer's answers became no principles.
#[derive(Debug, Error)]
pub enum WriteError<E: std::error::Error + 'static> {
    /// The model could not be asked.
    #[error(transparent)]
    Ask(E),
    /// The model's answers, all of them together, lack a side of a principle.
    #[error(
        "the principle writer gave {answers} answers and still left out {missing}; write what is missing by hand, ask for fewer principles, or ask another model. Its last answer begins: {begins:?}",
        missing = list(missing)
    )]
    Missing {
        /// What is missing.
        missing: Vec<Missing>,
        /// How many answers were read.
        answers: usize,
        /// The first characters of the last answer.
        begins: String,
    },
    /// An answer that ended before its thinking did, and a side without a wording.
    #[error(
        "answer {answers} of the principle writer is a thought without an end: it was cut off before there was an answer; allow more tokens per answer, or ask a model that does not think aloud. It begins: {begins:?}"
    )]
    OnlyThought {
        /// How many answers were read.
        answers: usize,
        /// The first characters of the last answer.
        begins: String,
    },
    /// What was found makes no set of principles.
    #[error(transparent)]
    Set(#[from] Error),
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Characters of an answer that a message shows.
const SHOWN: usize = 200;

/// Asks a model for principles and antitheses. Built by [`WriterBuilder::check`].
///
/// ```
/// use sami_constitution::WriterBuilder;
///
/// let writer = WriterBuilder {
///     task: "summarize Reddit posts".into(),
///     principles: vec!["concise".into()],
///     ..WriterBuilder::default()
/// }
/// .check()?;
/// // Any model: here one that always says the same.
/// let answer = "Sure!\n\n**Principle**\n1. **Concise:** Summaries should be short.\n\n\
///               **Antithesis**\n1. **Not concise:** Summaries should ramble on and on.";
/// let written = writer.write(|_| Ok::<_, std::io::Error>(answer.to_owned()))?;
/// let principle = &written.set().principles()[0];
/// assert_eq!(principle.statements, ["Summaries should be short."]);
/// assert_eq!(principle.antitheses, ["Summaries should ramble on and on."]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PrincipleWriter {
    task: String,
    principles: Vec<String>,
    variants: usize,
    attempts: usize,
    template: SeedTemplate,
    seed: String,
}

impl PrincipleWriter {
    /// The seed prompt: the first turn of the conversation.
    pub fn seed_prompt(&self) -> &str {
        &self.seed
    }

    /// Asks until every side of every principle has its wordings, at most as often as the settings say. `ask` gets the
    /// conversation and returns the model's answer; each later question names what is still missing. Text comes from
    /// answers alone, and what an answer gave is not replaced by a later one. Fewer wordings than asked for are told
    /// ([`Written::missing`]) and accepted; a side without any is not. Nothing is read from thoughts
    /// ([`after_thought`]), and an answer that ends inside one is the last that is asked for: the next one
    /// would be cut off as well.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn write<E: std::error::Error + 'static>(
        &self,
        mut ask: impl FnMut(&Turns) -> Result<String, E>,
    ) -> Result<Written, WriteError<E>> {
        let mut sides = vec![[Vec::new(), Vec::new()]; self.principles.len()];
        let mut turns = vec![Turn { speaker: Speaker::User, text: self.seed.clone() }];
        let mut notes = Vec::new();
        let mut answers = 0;
        loop {
            let missing = self.missing(&sides);
            let opening = self.opening(&missing);
            let answer = ask(&Turns { turns: turns.clone(), opening }).map_err(WriteError::Ask)?;
            answers += 1;
            let said = after_thought(&answer);
            match said {
                Some(said) => {
                    let reading = answer::read(said, &self.principles);
                    self.take(&mut sides, reading.sides);
                    notes.extend(reading.notes);
                }
                None => notes.push(AnswerNote::OnlyThought { answer: answers }),
            }
            let only_thought = said.is_none();
            let missing = self.missing(&sides);
            let begins = answer.trim().chars().take(SHOWN).collect();
            turns.push(Turn { speaker: Speaker::Assistant, text: answer });
            if missing.is_empty() || answers == self.attempts || only_thought {
                if missing.iter().any(|one| one.found == 0) {
                    if only_thought {
                        return Err(WriteError::OnlyThought { answers, begins });
                    }
                    return Err(WriteError::Missing { missing, answers, begins });
                }
                let set = PrincipleSet::new(self.named(sides))?;
                return Ok(Written::new(self, set, missing, notes, turns));
            }
            turns.push(Turn { speaker: Speaker::User, text: self.reminder(&missing) });
        }
    }

    /// Adds the wordings that a side still lacks.
    fn take(&self, sides: &mut [[Vec<String>; 2]], read: Vec<[Vec<String>; 2]>) {
        for (principle, new) in sides.iter_mut().zip(read) {
            for (side, new) in new.into_iter().enumerate() {
                if principle[side].len() >= self.variants {
                    continue;
                }
                for text in new {
                    let says = label::words(&text);
                    if !principle.iter().flatten().any(|other| label::words(other) == says) {
                        principle[side].push(text);
                    }
                }
            }
        }
    }

    fn named(&self, sides: Vec<[Vec<String>; 2]>) -> Vec<Principle> {
        let named = |(name, [statements, antitheses]): (&String, [Vec<String>; 2])| Principle {
            name: name.clone(),
            statements,
            antitheses,
        };
        self.principles.iter().zip(sides).map(named).collect()
    }

    fn missing(&self, sides: &[[Vec<String>; 2]]) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (index, stance) in [Stance::Principle, Stance::Antithesis].into_iter().enumerate() {
            for (name, found) in self.principles.iter().zip(sides) {
                let found = found[index].len();
                if found < self.variants {
                    missing.push(Missing { principle: name.clone(), stance, found, wanted: self.variants });
                }
            }
        }
        missing
    }

    /// The items of the format that are asked for, as they begin.
    fn labels(missing: &[Missing]) -> impl Iterator<Item = String> + '_ {
        let repeated = missing.iter().flat_map(|one| std::iter::repeat_n(one, one.wanted - one.found));
        repeated.enumerate().map(|(index, one)| match one.stance {
            Stance::Principle => format!("{}. [{}]:", index + 1, one.principle),
            Stance::Antithesis => format!("{}. [not {}]:", index + 1, one.principle),
        })
    }

    fn opening(&self, missing: &[Missing]) -> Option<String> {
        let first = Self::labels(missing).next().filter(|_| !self.template.is_own())?;
        let first_answer =
            missing.iter().all(|one| one.found == 0) && missing.len() == 2 * self.principles.len();
        Some(if first_answer { format!("Principles\n{first}") } else { first })
    }

    fn reminder(&self, missing: &[Missing]) -> String {
        let lines: Vec<_> =
            Self::labels(missing).map(|label| format!("{label} Responses should …")).collect();
        format!(
            "Your answer still lacks {}. An antithesis asks for the opposite of what its principle asks for. \
             Please write what is missing, and nothing else, in this format:\n\n{}",
            list(missing),
            lines.join("\n")
        )
    }
}
