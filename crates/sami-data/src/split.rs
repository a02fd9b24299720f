//! The two halves of the queries that iterations take turns with.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

/// Two halves without a common query; the first is larger by one where the number is odd. `T` is a [`crate::Query`], or what
/// stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits<T> {
    /// Used by iterations 1, 3, 5, …
    pub first: Vec<T>,
    /// Used by iterations 2, 4, 6, …
    pub second: Vec<T>,
}

impl<T> Splits<T> {
    /// The half that iteration η (from 1) samples from and trains on. So π_{η−1}, trained on the other half, never samples
    /// for a query that it was trained on.
    pub fn of_iteration(&self, iteration: usize) -> &[T] {
        if iteration % 2 == 1 { &self.first } else { &self.second }
    }
}

/// Shuffles the queries and deals them out in turn. The same queries and seed give the same halves, everywhere.
pub fn split_two<T>(mut queries: Vec<T>, seed: u64) -> Splits<T> {
    queries.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
    let mut splits = Splits { first: Vec::new(), second: Vec::new() };
    for (index, query) in queries.into_iter().enumerate() {
        if index % 2 == 0 { splits.first.push(query) } else { splits.second.push(query) }
    }
    splits
}
