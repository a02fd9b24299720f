//! The two halves of the queries that iterations take turns with.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

use crate::queries::Query;

/// Two halves without a common query; the first is larger by one where the number is odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Used by iterations 1, 3, 5, …
    pub first: Vec<Query>,
    /// Used by iterations 2, 4, 6, …
    pub second: Vec<Query>,
}

impl Splits {
    /// The half that iteration η (from 1) samples from and trains on. So π_{η−1}, trained on the other half, never samples
    /// for a query that it was trained on.
    pub fn of_iteration(&self, iteration: usize) -> &[Query] {
        if iteration % 2 == 1 { &self.first } else { &self.second }
    }
}

/// Shuffles the queries and deals them out in turn. The same queries and seed give the same halves, everywhere.
pub fn split_two(mut queries: Vec<Query>, seed: u64) -> Splits {
    queries.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
    let mut splits = Splits { first: Vec::new(), second: Vec::new() };
    for (index, query) in queries.into_iter().enumerate() {
        if index % 2 == 0 { splits.first.push(query) } else { splits.second.push(query) }
    }
    splits
}
