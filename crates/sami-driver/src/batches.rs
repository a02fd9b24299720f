//! Which pairs each optimizer step sees.

use rand::seq::SliceRandom;

use crate::streams::{Purpose, stream};

/// The order in which pairs are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they stand.
    Sequential,
    /// Shuffled, anew for every pass over the pairs.
    Shuffled {
        /// Seed of the shuffles.
        seed: u64,
    },
}

/// Cuts an endless repetition of `len` pairs into batches of `batch_size`: steps cycle through the pairs, and a batch
/// may wrap around their end, so every batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    len: usize,
    batch_size: usize,
    order: Order,
}

impl Batches {
    /// Batches over `len` pairs; `None` when there is no pair or the batches are empty.
    pub fn new(len: usize, batch_size: usize, order: Order) -> Option<Self> {
        (len > 0 && batch_size > 0).then_some(Self { len, batch_size, order })
    }

    /// Positions of step `step`'s pairs (steps count from 0), always `batch_size` of them.
    pub fn step(&self, step: usize) -> Vec<usize> {
        let first = step * self.batch_size;
        let mut pass = (first / self.len, self.pass(first / self.len));
        let mut positions = Vec::with_capacity(self.batch_size);
        for place in first..first + self.batch_size {
            if place / self.len != pass.0 {
                pass = (place / self.len, self.pass(place / self.len));
            }
            positions.push(pass.1[place % self.len]);
        }
        positions
    }

    fn pass(&self, number: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len).collect();
        if let Order::Shuffled { seed } = self.order {
            order.shuffle(&mut stream(seed, number as u64, 0, Purpose::PairOrder));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cycle_and_a_batch_wraps_around() {
        let batches = Batches::new(5, 3, Order::Sequential).unwrap();
        let steps: Vec<_> = (0..4).map(|step| batches.step(step)).collect();
        assert_eq!(steps, [vec![0, 1, 2], vec![3, 4, 0], vec![1, 2, 3], vec![4, 0, 1]]);
        assert_eq!(Batches::new(2, 5, Order::Sequential).unwrap().step(0), [0, 1, 0, 1, 0]);
        assert!(Batches::new(0, 3, Order::Sequential).is_none());
        assert!(Batches::new(3, 0, Order::Sequential).is_none());
    }

    #[test]
    fn every_shuffled_pass_holds_every_pair_once_in_its_own_order() {
        let batches = Batches::new(50, 10, Order::Shuffled { seed: 7 }).unwrap();
        let pass = |number: usize| -> Vec<usize> {
            (5 * number..5 * number + 5).flat_map(|s| batches.step(s)).collect()
        };
        let (first, second) = (pass(0), pass(1));
        assert_ne!(first, second);
        for mut pass in [first.clone(), second] {
            pass.sort_unstable();
            assert_eq!(pass, (0..50).collect::<Vec<_>>());
        }
        let other = Batches::new(50, 50, Order::Shuffled { seed: 8 }).unwrap().step(0);
        assert_ne!(other, first);
        // The order belongs to the pass, not to how it is cut into batches.
        assert_eq!(Batches::new(50, 50, Order::Shuffled { seed: 7 }).unwrap().step(0), first);
    }
}
