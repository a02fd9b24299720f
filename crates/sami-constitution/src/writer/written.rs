//! What a principle writer wrote, as a file for people.

use std::fmt::Write;

use crate::error::Error;
use crate::principle::PrincipleSet;
use crate::writer::{AnswerNote, Missing, PrincipleWriter, Speaker, Turn};

/// Principles as a model wrote them, and how they came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    set: PrincipleSet,
    task: String,
    template: String,
    sampling: String,
    missing: Vec<Missing>,
    notes: Vec<AnswerNote>,
    turns: Vec<Turn>,
}

impl Written {
    pub(super) fn new(
        writer: &PrincipleWriter,
        set: PrincipleSet,
        missing: Vec<Missing>,
        notes: Vec<AnswerNote>,
        turns: Vec<Turn>,
    ) -> Self {
        let (task, template) = (writer.task.clone(), writer.template.source());
        Self { set, task, template, sampling: "temperature 0".to_owned(), missing, notes, turns }
    }

    /// Says that the answers were sampled otherwise than at temperature 0, in a few words for the file's head.
    #[must_use]
    pub fn sampled(self, how: impl Into<String>) -> Self {
        Self { sampling: how.into(), ..self }
    }

    /// The principles.
    pub fn set(&self) -> &PrincipleSet {
        &self.set
    }

    /// Wordings that were asked for and did not come; every side has at least one.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What in the answers was not plain, and what was done with it.
    pub fn notes(&self) -> &[AnswerNote] {
        &self.notes
    }

    /// The whole conversation, the model's last answer included.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// How many answers were read.
    pub fn answers(&self) -> usize {
        self.turns.iter().filter(|turn| turn.speaker == Speaker::Assistant).count()
    }

    /// A `principles.toml` to read and to edit by hand: where it comes from as comments, then one wording a line.
    /// [`PrincipleSet::from_toml`] reads it back. `model` names the writer.
    ///
    /// # Errors
    ///
    /// [`Error::Toml`] when the TOML writer refuses.
    pub fn to_toml(&self, model: &str) -> Result<String, Error> {
        let mut head = vec![
            format!(
                "Principles and antitheses, written by {model} ({}, {} answers).",
                self.sampling,
                self.answers()
            ),
            format!("Task: {}. Seed prompt: {}.", self.task, self.template),
        ];
        head.extend(self.missing.iter().map(|one| format!("Missing: {one}.")));
        head.extend(self.notes.iter().map(|note| format!("Note: {note}.")));
        head.push(
            "Edit freely: one sentence per wording, on one line. Every query draws one wording of each."
                .to_owned(),
        );
        let mut text = String::new();
        for line in head {
            // A line break would end the comment.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(text, "# {}", line.chars().filter(|c| !c.is_control()).collect::<String>());
        }
        text.push('\n');
        text.push_str(&self.set.to_toml()?);
        Ok(text)
    }
}
