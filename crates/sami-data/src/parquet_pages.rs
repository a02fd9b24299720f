//! Pages of a Parquet column, with what the library that decodes them takes for granted.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

/// Where a column's pages lie must be places in a file.
pub(crate) fn check_places(column: &ColumnChunkMetaData) -> Result<()> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    match start >= 0 && column.compressed_size() >= 0 && column.num_values() >= 0 {
        true => Ok(()),
        false => Err(ParquetError::General("a column lies outside of the file".to_owned())),
    }
}

/// Refuses a page that refers to a dictionary which was not there, and a dictionary with fewer texts than it says.
pub(crate) struct CheckedPages {
    pages: Box<dyn PageReader>,
    /// Values are texts: their length in four bytes, and their bytes.
    texts: bool,
    dictionary: bool,
}

impl CheckedPages {
    pub(crate) fn new(pages: Box<dyn PageReader>, texts: bool) -> Self {
        Self { pages, texts, dictionary: false }
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        let refers =
            |encoding: &Encoding| matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
        match &page {
            Some(Page::DictionaryPage { buf, num_values, .. }) => {
                if self.texts && !holds_texts(buf, *num_values) {
                    return Err(ParquetError::General("a dictionary ends before its last text".to_owned()));
                }
                self.dictionary = true;
            }
            Some(Page::DataPage { encoding, .. } | Page::DataPageV2 { encoding, .. })
                if refers(encoding) && !self.dictionary =>
            {
                return Err(ParquetError::General(
                    "a page refers to a dictionary that is not there".to_owned(),
                ));
            }
            _ => {}
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

fn holds_texts(mut bytes: &[u8], count: u32) -> bool {
    for _ in 0..count {
        let Some((length, rest)) = bytes.split_first_chunk() else { return false };
        let Some(rest) = rest.get(u32::from_le_bytes(*length) as usize..) else { return false };
        bytes = rest;
    }
    true
}
