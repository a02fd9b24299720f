//! Contrasts that are picked from a space by the sides that their constitutions take.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::constitution::Constitution;
use crate::error::{Error, Location};
use crate::source::SourceProblem;
use crate::space::ConstitutionSpace;

/// Some contrasts of a space: at least one, each of at least two distinct combinations of sides. Wordings are not picked: every
/// draw has its own, as in [`ConstitutionSpace::sample`].
#[derive(Clone, Debug)]
pub struct PickedContrasts {
    space: ConstitutionSpace,
    contrasts: Vec<Vec<u64>>,
}

impl PickedContrasts {
    /// Contrasts of `space`, each a list of constitutions as their ids name them: `helpful+not-harmless`, a side of every
    /// principle, in any order.
    ///
    /// # Errors
    ///
    /// [`Error::Source`]: no contrast, fewer than two constitutions in one, two that are the same; a name that is no principle's, a
    /// principle without a side or with two.
    pub fn new<S: AsRef<str>>(space: ConstitutionSpace, contrasts: &[Vec<S>]) -> Result<Self, Error> {
        let picked = combinations(&space, contrasts)
            .map_err(|problem| Error::Source { at: Location::default(), problem })?;
        Ok(Self { space, contrasts: picked })
    }

    /// What they were picked from.
    pub fn space(&self) -> &ConstitutionSpace {
        &self.space
    }

    /// The constitutions of the shortest contrast.
    pub(crate) fn fewest(&self) -> (String, usize) {
        let lengths = self.contrasts.iter().map(Vec::len).enumerate();
        let (index, found) = lengths.min_by_key(|(_, len)| *len).unwrap_or_default();
        (name(index), found)
    }

    /// One contrast, all equally likely: its first constitution, and `n` − 1 others of it. There must be as many.
    pub(crate) fn draw<R: Rng + ?Sized>(&self, n: usize, rng: &mut R) -> Vec<Constitution> {
        let mut drawn = self.contrasts[rng.random_range(0..self.contrasts.len())].clone();
        drawn[1..].shuffle(rng);
        drawn.truncate(n);
        self.space.worded(drawn, rng)
    }

    /// Every combination that some contrast has, in first wordings.
    pub(crate) fn all(&self) -> impl Iterator<Item = Constitution> + '_ {
        self.contrasts.iter().flatten().map(|combination| self.space.plain(*combination))
    }

    /// One contrast of all the combinations.
    pub(crate) fn whole(&self) -> Self {
        let mut all: Vec<u64> = Vec::new();
        for combination in self.contrasts.iter().flatten() {
            if !all.contains(combination) {
                all.push(*combination);
            }
        }
        Self { space: self.space.clone(), contrasts: vec![all] }
    }
}

fn name(index: usize) -> String {
    format!("contrast {index}")
}

fn combinations<S: AsRef<str>>(
    space: &ConstitutionSpace,
    contrasts: &[Vec<S>],
) -> Result<Vec<Vec<u64>>, SourceProblem> {
    if contrasts.is_empty() {
        return Err(SourceProblem::NoContrast);
    }
    let mut picked = Vec::with_capacity(contrasts.len());
    for (index, contrast) in contrasts.iter().enumerate() {
        let of = name(index);
        if contrast.len() < 2 {
            return Err(SourceProblem::TooShort { of, found: contrast.len() });
        }
        let mut one: Vec<u64> = Vec::with_capacity(contrast.len());
        for id in contrast {
            let combination = combination(space, &of, id.as_ref())?;
            if one.contains(&combination) {
                return Err(SourceProblem::Same { of });
            }
            one.push(combination);
        }
        picked.push(one);
    }
    Ok(picked)
}

/// The combination that an id names.
fn combination(space: &ConstitutionSpace, of: &str, id: &str) -> Result<u64, SourceProblem> {
    let principles = space.principles().principles();
    let mut sides: Vec<Option<bool>> = vec![None; principles.len()];
    let (of, id) = (of.to_owned(), id.to_owned());
    for label in id.split('+').map(str::trim) {
        let (name, antithesis) = label.strip_prefix("not-").map_or((label, false), |name| (name, true));
        let Some(index) = principles.iter().position(|one| one.name == name) else {
            let known = principles.iter().map(|one| one.name.clone()).collect();
            return Err(SourceProblem::UnknownSide { of, name: name.to_owned(), known });
        };
        if sides[index].replace(antithesis).is_some() {
            let name = name.to_owned();
            return Err(SourceProblem::TwoSides { of, id, name });
        }
    }
    let mut combination = 0;
    for ((index, side), principle) in sides.iter().enumerate().zip(principles) {
        match side {
            Some(antithesis) => combination |= u64::from(*antithesis) << index,
            None => return Err(SourceProblem::NoSide { of, id, name: principle.name.clone() }),
        }
    }
    Ok(combination)
}
