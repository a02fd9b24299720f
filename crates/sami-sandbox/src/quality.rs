//! What a principle of this world can ask of a response.

use std::fmt;

use crate::wordings::{self, Wordings};

/// Which of the two tasks a text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Requests and answers, as in HH-RLHF.
    Dialogue,
    /// Posts and summaries, as in TL;DR.
    Summaries,
}

/// A quality that a response has, or has the opposite of, or leaves open. A principle asks for one; its antithesis asks for
/// the opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quality {
    /// Concrete steps, against hazy hints.
    Helpful,
    /// Turns a harmful request into something kinder, against cheering it on. Says nothing about other requests.
    Harmless,
    /// Opens with a kind word, against a gruff one.
    Courteous,
    /// Takes leave as in a letter, against slang.
    Formal,
    /// Numbered steps, against steps linked by words.
    Orderly,
    /// Foresees success, against failure.
    Hopeful,
    /// Asks something back, against closing the matter.
    Curious,
    /// Speaks from life, against quoting manuals.
    Personal,
    /// Short sentences, against drawn-out ones.
    Concise,
    /// All facts of a post, against a single one.
    Comprehensive,
}

impl Quality {
    /// Every quality; those of dialogue first.
    pub const ALL: [Self; 10] = [
        Self::Helpful,
        Self::Harmless,
        Self::Courteous,
        Self::Formal,
        Self::Orderly,
        Self::Hopeful,
        Self::Curious,
        Self::Personal,
        Self::Concise,
        Self::Comprehensive,
    ];

    /// Its name, which is that of its principle.
    pub fn name(self) -> &'static str {
        self.wordings().name
    }

    /// The task whose responses have it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Concise | Self::Comprehensive => Kind::Summaries,
            _ => Kind::Dialogue,
        }
    }

    /// The qualities of one task's responses.
    pub fn of(kind: Kind) -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().filter(move |quality| quality.kind() == kind)
    }

    pub(crate) fn wordings(self) -> &'static Wordings {
        &wordings::ALL[self as usize]
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a response stands on a quality, or what an article asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lean {
    /// The principle's side.
    For,
    /// Neither.
    #[default]
    Open,
    /// The antithesis's side.
    Against,
}

impl Lean {
    /// All three.
    pub const ALL: [Self; 3] = [Self::For, Self::Open, Self::Against];

    /// +1, 0 or −1.
    pub fn sign(self) -> i32 {
        match self {
            Self::For => 1,
            Self::Open => 0,
            Self::Against => -1,
        }
    }
}

/// Where a response stands on every quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Style([Lean; Quality::ALL.len()]);

impl Style {
    /// Where it stands on `quality`.
    pub fn lean(&self, quality: Quality) -> Lean {
        self.0[quality as usize]
    }

    /// The same style with another stand on one quality.
    #[must_use]
    pub fn with(mut self, quality: Quality, lean: Lean) -> Self {
        self.0[quality as usize] = lean;
        self
    }

    /// How far it follows what is asked: for every article +1 where it takes the article's side, −1 where it takes the
    /// opposite, 0 where it leaves the matter open.
    pub fn score(&self, asked: &[(Quality, Lean)]) -> i32 {
        asked.iter().map(|&(quality, lean)| lean.sign() * self.lean(quality).sign()).sum()
    }
}
