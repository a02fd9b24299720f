//! Contrast sets that a policy cannot take: found before work starts, left out, and listed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use sami_data::write_json_lines;
use sami_policy::{ContrastPolicy, ContrastSet};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, DriverError};
use crate::sources::SetSource;

/// A query that is left out, because a model or a server refuses it. A line of a list of refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The query.
    pub id: String,
    /// Why, in the words of whoever refuses.
    pub refused: String,
}

/// Which of some sets a policy takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screening {
    taken: Vec<usize>,
    refused: Vec<Refused>,
}

impl Screening {
    /// Asks the policy about every set; it computes nothing with the model.
    ///
    /// # Errors
    ///
    /// [`DriverError::Refused`] for the first refusal if `strict`, [`DriverError::AllRefused`] where no
    /// set is left, and what reading the sets meets.
    pub fn new<P: ContrastPolicy>(
        policy: &P,
        sets: &mut dyn SetSource,
        strict: bool,
    ) -> Result<Self, DriverError> {
        let mut found = Self::default();
        for position in 0..sets.count() {
            let set = sets.set(position)?;
            match policy.refusal(&set).map_err(|e| Doing::Check.failed(e))? {
                None => found.taken.push(position),
                Some(refusal) => {
                    let (id, reason) = (set.id().to_owned(), refusal.message);
                    if strict {
                        return Err(DriverError::Refused { id, reason });
                    }
                    found.refused.push(Refused { id, refused: reason });
                }
            }
        }
        match (found.taken.is_empty(), most_frequent(&found.refused)) {
            (true, Some(Refused { id, refused })) => Err(DriverError::AllRefused {
                refused: found.refused.len(),
                id: id.clone(),
                reason: refused.clone(),
            }),
            _ => Ok(found),
        }
    }

    /// Positions of the sets that are taken, ascending.
    pub fn taken(&self) -> &[usize] {
        &self.taken
    }

    /// The others.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Writes the refused ones to `path`, one JSON object per line, and warns of them. Where there are
    /// none, a list that an earlier call left is removed.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), DriverError> {
        let at = |source| DriverError::Io { path: path.to_owned(), source };
        if self.refused.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(error)),
                _ => Ok(()),
            };
        }
        write_json_lines(path, &self.refused)?;
        let (refused, all) = (self.refused.len(), self.refused.len() + self.taken.len());
        tracing::warn!(
            "the model cannot take {refused} of {all} sets, and they are left out; {} lists them with the reasons",
            path.display()
        );
        Ok(())
    }
}

/// The sets that a screening took, of those of another source.
#[derive(Debug)]
pub struct TakenSets<'a> {
    sets: &'a mut dyn SetSource,
    taken: &'a [usize],
}

impl<'a> TakenSets<'a> {
    /// Of the sets that were screened.
    pub fn new(sets: &'a mut dyn SetSource, screening: &'a Screening) -> Self {
        Self { sets, taken: screening.taken() }
    }
}

impl SetSource for TakenSets<'_> {
    fn count(&self) -> usize {
        self.taken.len()
    }

    fn set(&mut self, position: usize) -> Result<ContrastSet, DriverError> {
        let position = self.taken.get(position).ok_or(DriverError::NothingToScore)?;
        self.sets.set(*position)
    }
}

/// The first with the most frequent reason. Reasons that differ in numbers and in the query alone are one.
pub(crate) fn most_frequent(refused: &[Refused]) -> Option<&Refused> {
    let kind = |one: &Refused| -> String {
        one.refused.replace(&one.id, "").chars().filter(|c| !c.is_ascii_digit()).collect()
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    for one in refused {
        *counts.entry(kind(one)).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    refused.iter().find(|one| counts.get(&kind(one)) == Some(&most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_alone_are_one() {
        let one = |id: &str, refused: &str| Refused { id: id.into(), refused: refused.into() };
        let refused = [
            one("q:1", "set q:1: token id 7 is unknown"),
            one("q:2", "set q:2 is 30 tokens long"),
            one("other", "set other is 500 tokens long"),
        ];
        assert_eq!(most_frequent(&refused), Some(&refused[1]));
        assert_eq!(most_frequent(&[]), None);
    }
}
