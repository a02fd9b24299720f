//! Rows of a Parquet file as JSON objects of their text and whole numbers, a few at a time.
//!
//! Columns that hold anything else, lists and maps among them, are left unread: no format of queries needs them, and a
//! data set's other columns may be large.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Value};

use crate::parquet_pages::{CheckedPages, check_places};

/// Rows that are decoded at once. Pages are decompressed one at a time for each column, whatever this is.
const BATCH: usize = 64;

/// Reads rows in order.
pub(crate) struct ParquetRows {
    file: SerializedFileReader<File>,
    columns: Vec<Place>,
    next_group: usize,
    group: Vec<Column>,
    /// Rows of the group that were not decoded yet.
    left: usize,
    ready: VecDeque<String>,
}

/// Which column is read, and where its values go.
#[derive(Debug)]
struct Place {
    number: usize,
    path: Vec<String>,
    present: i16,
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
        let schema = file.metadata().file_metadata().schema_descr();
        let columns: Vec<_> = schema
            .columns()
            .iter()
            .enumerate()
            .filter(|(_, column)| is_read(column))
            .map(|(number, column)| Place {
                number,
                path: column.path().parts().to_vec(),
                present: column.max_def_level(),
            })
            .collect();
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
                let open = |place: &Place| {
                    check_places(group.metadata().column(place.number)).map_err(said)?;
                    let column = schema.column(place.number);
                    let pages = group.get_column_page_reader(place.number).map_err(said)?;
                    let pages = CheckedPages::new(pages, column.physical_type() == Type::BYTE_ARRAY);
                    Column::new(get_column_reader(column, Box::new(pages)), place.present)
                };
                self.group = self.columns.iter().map(open).collect::<Result<_, _>>()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn decode(&mut self) -> Result<(), String> {
        let wanted = self.left.min(BATCH);
        let mut rows = vec![Map::new(); wanted];
        for (Place { path, .. }, column) in self.columns.iter().zip(&mut self.group) {
            let values = column.read(wanted)?;
            if values.len() != wanted {
                return Err(format!("column {} ends before its row group does", path.join(".")));
            }
            for (row, value) in rows.iter_mut().zip(values) {
                insert(row, path, value);
            }
        }
        self.left -= wanted;
        self.ready.extend(rows.into_iter().map(|row| Value::Object(row).to_string()));
        Ok(())
    }
}

/// Puts a value where its column stands: `info.post` into the object `info`.
fn insert(row: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => drop(row.insert(name.clone(), value)),
        [name, rest @ ..] => {
            let inner = row.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// One value per row, of text or whole numbers.
fn is_read(column: &ColumnDescriptor) -> bool {
    let (logical, converted) = (column.logical_type_ref(), column.converted_type());
    let kind = match column.physical_type() {
        Type::BYTE_ARRAY => {
            matches!(logical, Some(LogicalType::String | LogicalType::Json | LogicalType::Enum))
                || matches!(converted, ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM)
        }
        Type::INT32 | Type::INT64 => {
            matches!(logical, None | Some(LogicalType::Integer { .. })) && converted != ConvertedType::DECIMAL
        }
        _ => false,
    };
    kind && column.max_rep_level() == 0
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

    /// As many of `rows` values as there are, null among them.
    fn read(&mut self, rows: usize) -> Result<Vec<Value>, String> {
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
) -> Result<Vec<Value>, String> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let (records, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values).map_err(said)?;
    if present == 0 {
        levels = vec![0; records];
    }
    let mut values = values.into_iter();
    let of = |level| match level == present {
        true => {
            values.next().ok_or_else(|| "a page has fewer values than it says".to_owned()).and_then(&convert)
        }
        false => Ok(Value::Null),
    };
    levels.into_iter().map(of).collect()
}

/// What the reader says, without the name of the format, which the message has already.
fn said(error: ParquetError) -> String {
    match error {
        ParquetError::General(message) | ParquetError::NYI(message) | ParquetError::EOF(message) => message,
        error => error.to_string(),
    }
}
