//! Random streams for everything that is not a response.
//!
//! Responses draw from [`StreamKey::new`]`(seed, iteration, query, constitution)`, with constitutions counted from 0. The
//! driver's own draws use the same keys with constitution numbers from the far end, so that no two purposes share a stream.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sami_policy::StreamKey;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Which constitutions a query meets, and the variant of each principle.
    Constitutions,
    /// The order of a constitution's principles in the training prompt.
    PrincipleOrder,
    /// The order in which a split's queries are taken.
    QueryOrder,
    /// The order of pairs in training.
    PairOrder,
}

/// The stream of one purpose.
pub(crate) fn stream(seed: u64, iteration: u64, query: u64, purpose: Purpose) -> ChaCha12Rng {
    let number = u64::MAX - purpose as u64;
    ChaCha12Rng::from_seed(StreamKey::new(seed, iteration, query, number).bytes())
}
