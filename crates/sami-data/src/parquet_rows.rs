//! Rows of a Parquet file as JSON objects of their text and whole numbers, a few at a time.
//!
//! Columns that hold anything else, and maps, are left unread: no format of queries needs them, and a data set's other columns
//! may be large.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::parquet_nested::{Leaf, Levels};
use crate::parquet_pages::{CheckedPages, check_places};

/// Rows that are decoded at once. Pages are decompressed one at a time for each column, whatever this is.
const BATCH: usize = 64;

/// Reads rows in order.
pub(crate) struct ParquetRows {
    file: SerializedFileReader<File>,
    columns: Vec<Leaf>,
    next_group: usize,
    group: Vec<Column>,
    /// Rows of the group that were not decoded yet.
    left: usize,
    ready: VecDeque<String>,
}

impl std::fmt::Debug for ParquetRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetRows").field("columns", &self.columns).field("left", &self.left).finish()
    }
}

impl ParquetRows {
    /// Reads the file's description at its end. The error says what is wrong with it.
    pub(crate) fn open(file: File) -> Result<Self, String> {
        let file = SerializedFileReader::new(file).map_err(said)?;
        let columns = Leaf::all(file.metadata().file_metadata().schema_descr().root_schema());
        if columns.is_empty() {
            return Err("it has no column of text or whole numbers".to_owned());
        }
        Ok(Self { file, columns, next_group: 0, group: Vec::new(), left: 0, ready: VecDeque::new() })
    }

    /// The next row as a JSON object; `None` after the last. Nothing follows an error.
    pub(crate) fn next(&mut self) -> Result<Option<String>, String> {
        // What can be checked beforehand is (`parquet_pages`); yet the decoders trust some counts within a page.
        let next = panic::catch_unwind(AssertUnwindSafe(|| self.next_unguarded()));
        next.unwrap_or_else(|_| Err("a page contradicts itself".to_owned()))
    }

    fn next_unguarded(&mut self) -> Result<Option<String>, String> {
        while self.ready.is_empty() {
            if self.left == 0 && !self.open_group()? {
                return Ok(None);
            }
            self.decode()?;
        }
        Ok(self.ready.pop_front())
    }

    /// Goes to the next row group that has rows.
    fn open_group(&mut self) -> Result<bool, String> {
        while self.next_group < self.file.num_row_groups() {
            let group = self.file.get_row_group(self.next_group).map_err(said)?;
            self.next_group += 1;
            let rows = group.metadata().num_rows();
            self.left = usize::try_from(rows).map_err(|_| format!("a row group says it has {rows} rows"))?;
            if self.left > 0 {
                let schema = self.file.metadata().file_metadata().schema_descr();
                let open = |place: &Leaf| {
                    check_places(group.metadata().column(place.number)).map_err(said)?;
                    let column = schema.column(place.number);
                    let pages = group.get_column_page_reader(place.number).map_err(said)?;
                    let pages = CheckedPages::new(pages, column.physical_type() == Type::BYTE_ARRAY);
                    let present = column.max_def_level();
                    Column::new(get_column_reader(column, Box::new(pages)), present)
                };
                self.group = self.columns.iter().map(open).collect::<Result<_, _>>()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn decode(&mut self) -> Result<(), String> {
        let wanted = self.left.min(BATCH);
        let mut rows = vec![Value::Null; wanted];
        for (leaf, column) in self.columns.iter().zip(&mut self.group) {
            let values = column.read(wanted)?;
            let mut indexes = Vec::new();
            let (mut place, mut begun) = (rows.iter_mut(), 0);
            let mut row = None;
            for (levels, value) in values {
                if levels.repetition == 0 {
                    row = place.next();
                    begun += 1;
                }
                let contradiction = || format!("column {} has more than its row group", leaf.name());
                leaf.put(row.as_deref_mut().ok_or_else(contradiction)?, levels, &mut indexes, value);
            }
            if begun != wanted {
                return Err(format!("column {} ends before its row group does", leaf.name()));
            }
        }
        self.left -= wanted;
        self.ready.extend(rows.iter().map(Value::to_string));
        Ok(())
    }
}

/// A column of one row group, with the level at which its values are there; below it they are null.
struct Column {
    values: Values,
    present: i16,
}

enum Values {
    Text(ColumnReaderImpl<ByteArrayType>),
    Short(ColumnReaderImpl<Int32Type>),
    Long(ColumnReaderImpl<Int64Type>),
}

impl Column {
    fn new(reader: ColumnReader, present: i16) -> Result<Self, String> {
        let values = match reader {
            ColumnReader::ByteArrayColumnReader(reader) => Values::Text(reader),
            ColumnReader::Int32ColumnReader(reader) => Values::Short(reader),
            ColumnReader::Int64ColumnReader(reader) => Values::Long(reader),
            _ => return Err("a column is not of the type that the file's description says".to_owned()),
        };
        Ok(Self { values, present })
    }

    /// The values of so many rows, or of as many as there are, null where none is there.
    fn read(&mut self, rows: usize) -> Result<Vec<(Levels, Value)>, String> {
        match &mut self.values {
            Values::Text(reader) => read(reader, self.present, rows, |bytes: ByteArray| {
                let text = std::str::from_utf8(bytes.data());
                text.map(Value::from).map_err(|_| "a text is not UTF-8".to_owned())
            }),
            Values::Short(reader) => read(reader, self.present, rows, |number| Ok(Value::from(number))),
            Values::Long(reader) => read(reader, self.present, rows, |number| Ok(Value::from(number))),
        }
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    present: i16,
    rows: usize,
    convert: impl Fn(T::T) -> Result<Value, String>,
) -> Result<Vec<(Levels, Value)>, String> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let (_, _, levels) = reader
        .read_records(rows, Some(&mut definitions), Some(&mut repetitions), &mut values)
        .map_err(said)?;
    // A level that is always the same is not stored.
    let stored = |levels: &[i16], index: usize, always: i16| levels.get(index).copied().unwrap_or(always);
    let mut values = values.into_iter();
    let of = |index| {
        let definition = stored(&definitions, index, present);
        let levels = Levels { definition, repetition: stored(&repetitions, index, 0) };
        let value = match definition == present {
            true => values
                .next()
                .ok_or_else(|| "a page has fewer values than it says".to_owned())
                .and_then(&convert)?,
            false => Value::Null,
        };
        Ok((levels, value))
    };
    (0..levels).map(of).collect()
}

/// What the reader says, without the name of the format, which the message has already.
fn said(error: ParquetError) -> String {
    match error {
        ParquetError::General(message) | ParquetError::NYI(message) | ParquetError::EOF(message) => message,
        error => error.to_string(),
    }
}
