//! Principles and wordings that training never sees.

use thiserror::Error;

use crate::error::{Error, Location};
use crate::principle::{Principle, PrincipleSet};

/// What is kept from training, to test with: whole principles (does the model follow principles that it was never trained
/// on?) and the last wordings of each side (does it follow the meaning or the words?).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldOut {
    /// Names of principles to hold out whole.
    pub principles: Vec<String>,
    /// Of every other principle, so many wordings of each side, counted from the end of its list.
    pub wordings: usize,
}

/// What cannot be held out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HoldOutProblem {
    /// A name that the set does not have.
    #[error("principle {0} is to be held out, but the set has none of this name")]
    Unknown(String),
    /// Nothing left to train on.
    #[error("every principle is held out; leave at least one to train on")]
    All,
    /// No wording left to train on.
    #[error(
        "principle {name} has {count} {side}, so {wordings} cannot be held out; write more of them, or hold out fewer"
    )]
    TooFew {
        /// The principle.
        name: String,
        /// `statements` or `antitheses`.
        side: &'static str,
        /// How many there are.
        count: usize,
        /// How many are to be held out.
        wordings: usize,
    },
    /// One wording on both sides of the line.
    #[error(
        "{text:?} would be trained on as {trained} and held out as {held_out}; word one of them differently"
    )]
    Shared {
        /// The wording.
        text: String,
        /// The principle that trains.
        trained: String,
        /// The principle that is held out.
        held_out: String,
    },
}

/// Principles parted into those to train on and those to test with. No wording is in two parts, upper and lower case and
/// white space aside: [`PrincipleSet::hold_out`] makes the only ones there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOut {
    training: PrincipleSet,
    principles: Option<PrincipleSet>,
    paraphrases: Option<PrincipleSet>,
}

impl HeldOut {
    /// What training may draw from.
    pub fn training(&self) -> &PrincipleSet {
        &self.training
    }

    /// Principles that training never sees, with all their wordings.
    pub fn principles(&self) -> Option<&PrincipleSet> {
        self.principles.as_ref()
    }

    /// The principles of training in wordings that it never sees.
    pub fn paraphrases(&self) -> Option<&PrincipleSet> {
        self.paraphrases.as_ref()
    }
}

impl PrincipleSet {
    /// Parts the set.
    ///
    /// # Errors
    ///
    /// [`Error::HoldOut`]: a name that is not there, nothing left to train on, a wording that would be in two parts.
    pub fn hold_out(&self, what: &HoldOut) -> Result<HeldOut, Error> {
        let fail = |problem| Error::HoldOut { at: Location::default(), problem };
        if let Some(name) =
            what.principles.iter().find(|name| !self.principles().iter().any(|one| one.name == **name))
        {
            return Err(fail(HoldOutProblem::Unknown(name.clone())));
        }
        let (held, kept): (Vec<Principle>, Vec<Principle>) =
            self.principles().iter().cloned().partition(|one| what.principles.contains(&one.name));
        if kept.is_empty() {
            return Err(fail(HoldOutProblem::All));
        }
        let mut training = Vec::with_capacity(kept.len());
        let mut paraphrases = Vec::with_capacity(kept.len());
        for Principle { name, mut statements, mut antitheses } in kept {
            let part = |side, list: &mut Vec<String>| match list.len().checked_sub(what.wordings) {
                Some(rest @ 1..) => Ok(list.split_off(rest)),
                _ => {
                    let (name, count, wordings) = (name.clone(), list.len(), what.wordings);
                    Err(fail(HoldOutProblem::TooFew { name, side, count, wordings }))
                }
            };
            let tested = [part("statements", &mut statements)?, part("antitheses", &mut antitheses)?];
            let [held_statements, held_antitheses] = tested;
            paraphrases.push(Principle {
                name: name.clone(),
                statements: held_statements,
                antitheses: held_antitheses,
            });
            training.push(Principle { name, statements, antitheses });
        }
        let tested = if what.wordings == 0 { Vec::new() } else { paraphrases };
        if let Some(problem) = shared(&training, held.iter().chain(&tested)) {
            return Err(fail(problem));
        }
        let set = |list: Vec<Principle>| if list.is_empty() { Ok(None) } else { Self::new(list).map(Some) };
        Ok(HeldOut { training: Self::new(training)?, principles: set(held)?, paraphrases: set(tested)? })
    }
}

fn shared<'a>(
    training: &[Principle],
    held_out: impl Iterator<Item = &'a Principle>,
) -> Option<HoldOutProblem> {
    let wordings = |one: &Principle| -> Vec<(String, String)> {
        let all = one.statements.iter().chain(&one.antitheses);
        all.map(|text| (text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase(), text.clone()))
            .collect()
    };
    let trained: Vec<_> = training.iter().map(|one| (one, wordings(one))).collect();
    for held in held_out {
        for (folded, text) in wordings(held) {
            if let Some((one, _)) =
                trained.iter().find(|(_, list)| list.iter().any(|(other, _)| *other == folded))
            {
                let (trained, held_out) = (one.name.clone(), held.name.clone());
                return Some(HoldOutProblem::Shared { text, trained, held_out });
            }
        }
    }
    None
}
