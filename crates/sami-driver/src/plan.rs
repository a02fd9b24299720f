//! Who is asked when: the queries kept out for evaluation, the two splits, and the order within an iteration.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use sami_data::split_two;

use crate::error::DriverError;
use crate::recipe::{Recipe, StartFrom};
use crate::streams::{Purpose, stream};

/// Positions of queries, divided by their use. Everything follows from the seed and the number of queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPlan {
    seed: u64,
    start: StartFrom,
    evaluation: Vec<usize>,
    splits: [Vec<usize>; 2],
}

impl QueryPlan {
    /// Plans the recipe's `queries` queries: the first `evaluation.queries` are kept out, the others are shuffled and halved into two
    /// splits, of which odd iterations use the first and even ones the second.
    ///
    /// # Errors
    ///
    /// [`DriverError::TooFewQueries`] names the first iteration that a split cannot supply. When iterations continue
    /// from the previous model, every one needs queries that none before it used.
    pub fn new(recipe: &Recipe, queries: usize) -> Result<Self, DriverError> {
        let evaluation = recipe.evaluation.queries.min(queries);
        let halves = split_two((evaluation..queries).collect(), recipe.seed);
        let plan = Self {
            seed: recipe.seed,
            start: recipe.training.start,
            evaluation: (0..evaluation).collect(),
            splits: [halves.first, halves.second],
        };
        let mut used = [0, 0];
        for iteration in 1..=recipe.training.iterations {
            let (split, needed) = (plan.split_of(iteration), recipe.training.queries(iteration));
            let available = plan.splits[split].len() - used[split];
            if needed > available {
                return Err(DriverError::TooFewQueries { iteration, needed, split: split + 1, available });
            }
            if plan.start == StartFrom::Previous {
                used[split] += needed;
            }
        }
        Ok(plan)
    }

    /// Queries that no training sees.
    pub fn evaluation(&self) -> &[usize] {
        &self.evaluation
    }

    /// The two splits.
    pub fn splits(&self) -> &[Vec<usize>; 2] {
        &self.splits
    }

    /// Which split (0 or 1) iteration η (from 1) uses.
    pub fn split_of(&self, iteration: usize) -> usize {
        iteration.saturating_sub(1) % 2
    }

    /// The order in which iteration η asks its split. `used` holds the queries of earlier iterations; they are left out
    /// when iterations continue from the previous model, which has been trained on them.
    pub fn order(&self, iteration: usize, used: &HashSet<usize>) -> Vec<usize> {
        let split = &self.splits[self.split_of(iteration)];
        let fresh = |position: &&usize| self.start == StartFrom::Base || !used.contains(*position);
        let mut order: Vec<usize> = split.iter().filter(fresh).copied().collect();
        order.shuffle(&mut stream(self.seed, iteration as u64, 0, Purpose::QueryOrder));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{EvaluationSection, TrainingSection};

    fn recipe(start: StartFrom, iterations: usize) -> Recipe {
        let training = TrainingSection { batch_size: 10, iterations, start, ..TrainingSection::default() };
        Recipe { seed: 4, training, evaluation: EvaluationSection { queries: 7 }, ..Recipe::default() }
    }

    fn plan(start: StartFrom, iterations: usize, queries: usize) -> Result<QueryPlan, DriverError> {
        QueryPlan::new(&recipe(start, iterations), queries)
    }

    #[test]
    fn every_query_has_one_use_and_splits_alternate() {
        let plan = plan(StartFrom::Base, 3, 128).unwrap();
        let all = [plan.evaluation(), &plan.splits()[0], &plan.splits()[1]].concat();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 128);
        assert_eq!(plan.evaluation(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((plan.splits()[0].len(), plan.splits()[1].len()), (61, 60));
        let none = HashSet::new();
        let [first, second, third] = [1, 2, 3].map(|iteration| plan.order(iteration, &none));
        assert_ne!(first, third);
        let set = |order: &[usize]| order.iter().copied().collect::<HashSet<_>>();
        assert_eq!(set(&first), set(&third));
        assert!(set(&first).is_disjoint(&set(&second)));
    }

    #[test]
    fn shortage_is_told_with_the_iteration_and_the_split() {
        // 2, 4, 6 batches of 10 from two splits of 50: the third iteration cannot be supplied.
        let error = plan(StartFrom::Base, 3, 107).unwrap_err();
        assert_eq!(
            error.to_string(),
            "iteration 3 needs 60 queries, and split 1 has 50 left for it; add data, or lower training.batch_size, \
             training.batches, training.iterations or evaluation.queries"
        );
        // Continuing uses queries up: 20 + 60 of split 1.
        assert!(plan(StartFrom::Base, 3, 127).is_ok());
        let error = plan(StartFrom::Previous, 3, 127).unwrap_err();
        assert!(matches!(
            error,
            DriverError::TooFewQueries { iteration: 3, needed: 60, split: 1, available: 40 }
        ));
        assert!(plan(StartFrom::Previous, 3, 167).is_ok());
    }

    #[test]
    fn continuing_takes_fresh_queries_only() {
        let plan = plan(StartFrom::Previous, 3, 167).unwrap();
        let used: HashSet<usize> = plan.order(1, &HashSet::new()).into_iter().take(20).collect();
        let third = plan.order(3, &used);
        assert_eq!(third.len(), 60);
        assert!(third.iter().all(|position| !used.contains(position)));
    }
}
