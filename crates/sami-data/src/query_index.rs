//! Queries by their position, without holding more of them than fits a fixed amount of memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::entries::{Entries, Entry, Input};
use crate::error::DataError;
use crate::queries::{OnBadLine, Query, QueryReader, label, query};
use crate::query_report::QueryReport;
use crate::shape::QueryShape;

/// Queries are held as long as their texts and ids fit this many bytes: 64 MiB.
const HELD_BYTES: usize = 64 << 20;

/// All queries of some files, in order, without duplicates. Small data are held; of larger data 8 bytes per query are, and
/// what is asked for is read again.
#[derive(Debug)]
pub struct QueryIndex {
    files: Vec<PathBuf>,
    shape: QueryShape,
    report: QueryReport,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Held(Vec<Query>),
    /// File and number of the record within it, from 0 and 1.
    Places(Vec<(u32, u32)>),
}

impl QueryIndex {
    /// Reads all files once, as [`crate::read_queries`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open<P: AsRef<Path>>(
        files: &[P],
        shape: impl Into<QueryShape>,
        on_bad_line: OnBadLine,
    ) -> Result<Self, DataError> {
        Self::open_holding(files, shape, on_bad_line, HELD_BYTES)
    }

    /// As [`QueryIndex::open`], with another amount of memory for texts.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_holding<P: AsRef<Path>>(
        files: &[P],
        shape: impl Into<QueryShape>,
        on_bad_line: OnBadLine,
        held_bytes: usize,
    ) -> Result<Self, DataError> {
        let shape = shape.into();
        let mut reader = QueryReader::open(files, shape.clone(), on_bad_line)?;
        let (mut held, mut bytes, mut places) = (Some(Vec::new()), 0, Vec::new());
        while let Some(query) = reader.next() {
            let query = query?;
            let (file, line) = reader.place();
            places.push((file as u32, line as u32));
            bytes += query.id.len() + query.text.len() + size_of::<Query>();
            held = held.filter(|_| bytes <= held_bytes);
            if let Some(held) = &mut held {
                held.push(query);
            }
        }
        let content = held.map_or(Content::Places(places), Content::Held);
        let files = files.iter().map(|path| path.as_ref().to_owned()).collect();
        Ok(Self { files, shape, report: reader.into_report(), content })
    }

    /// The number of queries.
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Held(queries) => queries.len(),
            Content::Places(places) => places.len(),
        }
    }

    /// Whether there is none; opening refuses that.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts and hashes of the files.
    pub fn report(&self) -> &QueryReport {
        &self.report
    }

    /// The queries at some positions, in the order asked for. Goes once through the files where queries are not held, so ask
    /// for many at a time.
    ///
    /// # Errors
    ///
    /// [`DataError::Line`] and [`DataError::Changed`] where a file is no longer what it was, [`DataError::Io`].
    pub fn read(&self, positions: &[usize]) -> Result<Vec<Query>, DataError> {
        let places = match &self.content {
            Content::Held(queries) => {
                return positions
                    .iter()
                    .map(|&p| queries.get(p).cloned().ok_or_else(|| self.changed(0)))
                    .collect();
            }
            Content::Places(places) => places,
        };
        // By file and line, which position wants it.
        let mut wanted: HashMap<(usize, usize), usize> = HashMap::new();
        for (slot, &position) in positions.iter().enumerate() {
            let (file, line) = places.get(position).ok_or_else(|| self.changed(0))?;
            wanted.insert((*file as usize, *line as usize), slot);
        }
        let mut found: Vec<Option<Query>> = vec![None; positions.len()];
        for file in 0..self.files.len() {
            let missing = wanted.keys().filter(|(of, _)| *of == file).count();
            if missing > 0 {
                self.read_file(file, missing, &wanted, &mut found)?;
            }
        }
        found.into_iter().map(|query| query.ok_or_else(|| self.changed(0))).collect()
    }

    fn read_file(
        &self,
        file: usize,
        mut missing: usize,
        wanted: &HashMap<(usize, usize), usize>,
        found: &mut [Option<Query>],
    ) -> Result<(), DataError> {
        let path = &self.files[file];
        let label = label(path, self.files[..file].iter().map(PathBuf::as_path));
        let mut entries = Entries::open(&Input::File(path.clone()), &self.shape)?;
        while let Some(Entry { place, parsed }) = entries.next(&label)? {
            let Some(&slot) = wanted.get(&(file, place.number())) else { continue };
            let parsed = parsed.map_err(|problem| DataError::at(path, place, problem))?;
            found[slot] = Some(query(&label, place.number(), parsed));
            missing -= 1;
            if missing == 0 {
                return Ok(());
            }
        }
        Err(self.changed(file))
    }

    fn changed(&self, file: usize) -> DataError {
        DataError::Changed { path: self.files.get(file).cloned().unwrap_or_default() }
    }
}
