//! All constitutions that a set of principles makes, and draws from them.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::constitution::{Article, Constitution, Stance};
use crate::error::Error;
use crate::principle::PrincipleSet;

/// At most so many principles in a set: their 2^P combinations of sides must be countable in 64 bits.
pub const MAX_PRINCIPLES: usize = 63;

/// Which constitutions meet each other in a contrast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contrasts {
    /// Any distinct ones, all equally likely.
    #[default]
    Any,
    /// The one that takes every principle's own side comes first, and distinct others follow: the contrasts that the
    /// paper's TL;DR files hold (positive against a negative).
    AgainstAllPrinciples,
}

/// Every combination of principle and antithesis over a set of principles: 2^P constitutions for P principles.
///
/// A combination is counted by the bits of its index: bit p set means the antithesis of principle p. So index 0 takes
/// every principle's own side.
#[derive(Clone, Debug)]
pub struct ConstitutionSpace {
    principles: PrincipleSet,
}

impl ConstitutionSpace {
    /// The space over `principles`.
    pub fn new(principles: PrincipleSet) -> Self {
        Self { principles }
    }

    /// What it was made from.
    pub fn principles(&self) -> &PrincipleSet {
        &self.principles
    }

    /// The number of distinct combinations, 2^P; wordings and order are not counted.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        1 << self.principles.principles().len()
    }

    /// Every combination, each in the first wording of its sides and in the set's order.
    pub fn all(&self) -> impl Iterator<Item = Constitution> + '_ {
        (0..self.len()).map(|combination| self.plain(combination))
    }

    /// A combination of this space in the first wording of its sides.
    pub(crate) fn plain(&self, combination: u64) -> Constitution {
        self.build(combination, &|_, _| 0)
    }

    /// `n` constitutions with distinct combinations of sides: every set of `n` equally likely, in random order, articles in
    /// the set's order.
    ///
    /// Each side's wording is drawn uniformly, once per call: constitutions of one contrast that agree on a principle agree
    /// in its wording too, so that they differ only in what they ask for.
    ///
    /// # Errors
    ///
    /// [`Error::NoContrast`] for `n` below 2, [`Error::TooFew`] when there are not `n` combinations.
    pub fn sample_distinct<R: Rng + ?Sized>(
        &self,
        n: usize,
        rng: &mut R,
    ) -> Result<Vec<Constitution>, Error> {
        self.sample(n, Contrasts::Any, rng)
    }

    /// As [`ConstitutionSpace::sample_distinct`], with a choice of which constitutions meet.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn sample<R: Rng + ?Sized>(
        &self,
        n: usize,
        contrasts: Contrasts,
        rng: &mut R,
    ) -> Result<Vec<Constitution>, Error> {
        self.check(n)?;
        let combinations = match contrasts {
            Contrasts::Any => distinct(0, self.len(), n, rng),
            Contrasts::AgainstAllPrinciples => {
                let mut others = distinct(1, self.len(), n - 1, rng);
                others.insert(0, 0);
                others
            }
        };
        Ok(self.worded(combinations, rng))
    }

    /// Whether there are `n` combinations.
    ///
    /// # Errors
    ///
    /// As [`ConstitutionSpace::sample_distinct`].
    pub(crate) fn check(&self, n: usize) -> Result<(), Error> {
        if n < 2 {
            return Err(Error::NoContrast { wanted: n });
        }
        if n as u64 > self.len() {
            let principles = self.principles.principles().len();
            return Err(Error::TooFew { wanted: n, available: self.len(), principles });
        }
        Ok(())
    }

    /// Constitutions of these combinations, which must be of this space, in wordings drawn once for all of them.
    pub(crate) fn worded<R: Rng + ?Sized>(&self, combinations: Vec<u64>, rng: &mut R) -> Vec<Constitution> {
        let wordings: Vec<[usize; 2]> = self
            .principles
            .principles()
            .iter()
            .map(|one| [one.statements.len(), one.antitheses.len()].map(|len| rng.random_range(0..len)))
            .collect();
        let wording = |principle: usize, stance| match stance {
            Stance::Principle => wordings[principle][0],
            Stance::Antithesis => wordings[principle][1],
        };
        combinations.into_iter().map(|combination| self.build(combination, &wording)).collect()
    }

    fn build(&self, combination: u64, wording: &dyn Fn(usize, Stance) -> usize) -> Constitution {
        let articles = self.principles.principles().iter().enumerate().map(|(index, principle)| {
            let stance = if combination >> index & 1 == 0 { Stance::Principle } else { Stance::Antithesis };
            let text = principle.variants(stance)[wording(index, stance)].clone();
            Article { principle: principle.name.clone(), stance, text }
        });
        Constitution::from_checked(articles.collect())
    }
}

/// `n` distinct numbers from `low..high`, every set of them equally likely (Floyd's algorithm), in random order. There must
/// be that many.
fn distinct<R: Rng + ?Sized>(low: u64, high: u64, n: usize, rng: &mut R) -> Vec<u64> {
    let mut chosen = Vec::with_capacity(n);
    for top in high - n as u64..high {
        let candidate = rng.random_range(low..=top);
        chosen.push(if chosen.contains(&candidate) { top } else { candidate });
    }
    chosen.shuffle(rng);
    chosen
}
