//! What stands in for Parquet files where the feature `parquet` is off.

use std::fs::File;

/// There is none.
#[derive(Debug)]
pub(crate) enum ParquetRows {}

impl ParquetRows {
    /// Refuses the file.
    pub(crate) fn open(_: File) -> Result<Self, String> {
        Err("this program was built without the feature `parquet`, which is on by default; build it with \
             that feature, or write the rows as JSON lines"
            .to_owned())
    }

    pub(crate) fn next(&mut self) -> Result<Option<String>, String> {
        match *self {}
    }
}
