//! What the reader of an answer remarks.

use std::fmt;

use crate::constitution::Stance;

/// What the reader did with a piece of an answer that was not plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerNote {
    /// Items without names, as many as principles: taken in the order in which the principles were asked for.
    ByPosition {
        /// The principle.
        principle: String,
        /// The side.
        stance: Stance,
        /// The wording.
        text: String,
    },
    /// A second round of definitions without a word that they are antitheses: left out.
    Unclear {
        /// The principle.
        principle: String,
        /// The wording that was left out.
        text: String,
    },
    /// A placeholder or a fragment instead of a sentence: left out.
    NoSentence {
        /// The principle.
        principle: String,
        /// The side.
        stance: Stance,
        /// What stood there.
        text: String,
    },
    /// An answer that ended inside a thought: nothing was taken from it.
    OnlyThought {
        /// Which answer, counted from 1.
        answer: usize,
    },
    /// The principle's own words as its antithesis: left out.
    SameOnBothSides {
        /// The principle.
        principle: String,
        /// The wording.
        text: String,
    },
}

impl fmt::Display for AnswerNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |stance: &Stance| match stance {
            Stance::Principle => "the definition",
            Stance::Antithesis => "the antithesis",
        };
        match self {
            Self::ByPosition { principle, stance, text } => {
                write!(
                    f,
                    "taken for {} of {principle} by its place in the list, it has no name: {text}",
                    side(stance)
                )
            }
            Self::Unclear { principle, text } => {
                write!(
                    f,
                    "left out, {principle} comes twice and nothing says which one is the antithesis: {text}"
                )
            }
            Self::NoSentence { principle, stance, text } => {
                write!(f, "left out, no sentence for {} of {principle}: {text:?}", side(stance))
            }
            Self::OnlyThought { answer } => {
                write!(f, "nothing was taken from answer {answer}, which was cut off inside a thought")
            }
            Self::SameOnBothSides { principle, text } => {
                write!(f, "left out, the antithesis of {principle} repeats its definition: {text}")
            }
        }
    }
}
