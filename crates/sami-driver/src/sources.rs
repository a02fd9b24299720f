//! Where queries and contrast sets come from: memory, or files that are read as far as they are needed.

use std::fmt;
use std::path::Path;

use sami_data::{DataError, PairIndex, Query, QueryIndex};
use sami_policy::ContrastSet;

use crate::error::DriverError;
use crate::train::contrast_set;

/// Queries by position.
pub trait QuerySource: fmt::Debug {
    /// The number of queries.
    fn count(&self) -> usize;

    /// The queries at some positions, in the order asked for.
    ///
    /// # Errors
    ///
    /// What reading them meets.
    fn read(&self, positions: &[usize]) -> Result<Vec<Query>, DataError>;
}

impl QuerySource for Vec<Query> {
    fn count(&self) -> usize {
        self.len()
    }

    fn read(&self, positions: &[usize]) -> Result<Vec<Query>, DataError> {
        Ok(positions.iter().filter_map(|&position| self.get(position).cloned()).collect())
    }
}

impl QuerySource for QueryIndex {
    fn count(&self) -> usize {
        self.len()
    }

    fn read(&self, positions: &[usize]) -> Result<Vec<Query>, DataError> {
        QueryIndex::read(self, positions)
    }
}

/// Contrast sets by position.
pub trait SetSource: fmt::Debug {
    /// The number of sets.
    fn count(&self) -> usize;

    /// The set at a position.
    ///
    /// # Errors
    ///
    /// What reading it meets.
    fn set(&mut self, position: usize) -> Result<ContrastSet, DriverError>;
}

impl SetSource for Vec<ContrastSet> {
    fn count(&self) -> usize {
        self.len()
    }

    fn set(&mut self, position: usize) -> Result<ContrastSet, DriverError> {
        self.get(position).cloned().ok_or(DriverError::NothingToScore)
    }
}

/// The kept pairs of a file; it is indexed, and a set is read when it is needed.
#[derive(Debug)]
pub struct PairSets(PairIndex);

impl PairSets {
    /// Reads the file once and checks it.
    ///
    /// # Errors
    ///
    /// Unreadable lines, records that are no contrast set, and [`DriverError::NoPairs`].
    pub fn open(path: &Path) -> Result<Self, DriverError> {
        let index = PairIndex::open(path)?;
        if index.is_empty() {
            return Err(DriverError::NoPairs { path: path.to_owned(), rejected: index.rejected() });
        }
        Ok(Self(index))
    }
}

impl SetSource for PairSets {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn set(&mut self, position: usize) -> Result<ContrastSet, DriverError> {
        contrast_set(&self.0.read(position)?)
    }
}
