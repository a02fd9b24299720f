//! Parquet files that pyarrow wrote (`fixtures/make_parquet.py`), whole and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use sami_data::{OnBadLine, QueryFormat, read_queries};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

fn message(path: &Path, format: QueryFormat) -> String {
    read_queries(&[path], format, OnBadLine::Stop).unwrap_err().to_string()
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_the_feature_the_next_step_is_said() {
    let text = message(&fixture("plain.parquet"), QueryFormat::Jsonl);
    assert!(
        text.contains("plain.parquet is a Parquet file that cannot be read: this program was built"),
        "{text}"
    );
    assert!(text.contains("without the feature `parquet`, which is on by default"), "{text}");
}

#[cfg(feature = "parquet")]
mod with_the_feature {
    use std::fs;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use sami_data::{LineReader, QueryIndex, QueryShape, read_pairs, sha256};

    use super::*;

    #[test]
    fn dialogues_span_row_groups() {
        let path = fixture("dialogues.parquet");
        let read = read_queries(&[&path], QueryFormat::HhRlhf, OnBadLine::Stop).unwrap();
        assert_eq!(read.queries.len(), 300);
        for (n, query) in read.queries.iter().enumerate() {
            assert_eq!(query.text, format!("How many sheep stand on hill {n}?"));
            assert_eq!(query.id, format!("dialogues:{}", n + 1));
        }
        let file = &read.report.files[0];
        assert_eq!((file.lines, file.queries), (300, 300));
        assert_eq!(file.sha256, sha256(&path).unwrap());
        // Read again, in any order, without holding them.
        let index = QueryIndex::open_holding(&[&path], QueryFormat::HhRlhf, OnBadLine::Stop, 0).unwrap();
        let backwards: Vec<_> = (0..300).rev().collect();
        let mut again = index.read(&backwards).unwrap();
        again.reverse();
        assert_eq!(again, read.queries);
    }

    #[test]
    fn posts_stand_below_their_info() {
        let path = fixture("comparisons.parquet");
        let read = read_queries(&[path], QueryFormat::TldrComparisons, OnBadLine::Stop).unwrap();
        let texts: Vec<_> = read.queries.iter().map(|query| query.text.as_str()).collect();
        assert_eq!(texts, (0..5).map(|n| format!("My kettle number {n} sings.")).collect::<Vec<_>>());
        assert_eq!(read.queries[3].id, "t3_3");
        assert_eq!(read.report.files[0].duplicates, 5);
    }

    #[test]
    fn absent_values_are_absent() {
        let path = fixture("plain.parquet");
        let read = read_queries(&[path], QueryFormat::Jsonl, OnBadLine::Stop).unwrap();
        let seen: Vec<_> =
            read.queries.iter().map(|query| (query.id.as_str(), query.text.as_str())).collect();
        let expected =
            [("7", "Wie spät ist es?"), ("8", "Who sweeps the stairs?"), ("plain:3", "Is soup a drink?")];
        assert_eq!(seen, expected);
    }

    /// Rows as pyarrow reads them, lists in lists and absent objects included.
    #[test]
    fn nested_rows_are_what_pyarrow_says() {
        for name in ["nested", "conversations"] {
            let rows = |file: String| {
                let lines = LineReader::open(&fixture(&file)).unwrap();
                lines
                    .map(|line| line.unwrap().text.unwrap().parse().unwrap())
                    .collect::<Vec<serde_json::Value>>()
            };
            let (found, expected) = (rows(format!("{name}.parquet")), rows(format!("{name}.jsonl")));
            assert_eq!(found.len(), expected.len(), "{name}");
            for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(found, expected, "{name}, row {number}");
            }
        }
    }

    #[test]
    fn conversations_give_their_first_user_turns() {
        let path = fixture("conversations.parquet");
        let read = read_queries(&[&path], QueryFormat::Auto, OnBadLine::Skip).unwrap();
        let texts: Vec<_> = read.queries.iter().map(|query| query.text.as_str()).collect();
        assert_eq!(texts[..3], ["Who feeds the heron?", "Why?", "How deep is pond 0?"]);
        assert_eq!(texts[3], "How deep is pond 1?\n\nHow deep is pond 1?");
        assert_eq!(
            read.report.to_string(),
            "102 queries, 0 duplicates dropped, 4 lines skipped (bad-turn 1, empty-query 3), 66 lines mended (joined-turns 66)"
        );
        let field = QueryShape::new(QueryFormat::Jsonl, Some("messages.0.content".parse().unwrap())).unwrap();
        let read = read_queries(&[path], field, OnBadLine::Skip).unwrap();
        assert_eq!(read.queries[1].text, "Be brief.");
    }

    #[test]
    fn every_encoding_and_compression_is_read() {
        for name in ["dictionary-brotli", "plain-lz4", "delta-snappy", "delta-length-none"] {
            let path = fixture(&format!("{name}.parquet"));
            let read = read_queries(&[path], QueryFormat::Auto, OnBadLine::Stop);
            let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((read.queries.len(), read.report.duplicates()), (100, 100), "{name}");
            for (n, query) in read.queries.iter().enumerate() {
                let expected = (format!("How many sheep stand on hill {n}?"), (2 * n).to_string());
                assert_eq!((query.text.clone(), query.id.clone()), expected, "{name}");
            }
        }
    }

    #[test]
    fn what_holds_no_queries_is_refused() {
        let text = message(&fixture("numbers.parquet"), QueryFormat::Jsonl);
        assert!(text.ends_with("numbers.parquet is a Parquet file that cannot be read: it has no column of text or whole numbers"), "{text}");
        let text = message(&fixture("plain.parquet"), QueryFormat::HhRlhf);
        assert!(text.ends_with("plain.parquet, line 1: the record has no field chosen; its fields: \"id\", \"prompt\", \"query\""), "{text}");
        let text = read_pairs(&fixture("plain.parquet")).unwrap_err().to_string();
        assert!(text.contains("only queries, one a row, are read from those; write it as JSON"), "{text}");
        let text = message(&fixture("plain.parquet"), QueryFormat::Tldr);
        assert!(text.contains("write it as JSON"), "{text}");
    }

    /// Whatever is damaged is refused with the file's name, or does not matter; and nothing panics.
    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = dir.path().join("damaged.parquet");
        for (name, format) in [
            ("plain.parquet", QueryFormat::Jsonl),
            ("comparisons.parquet", QueryFormat::TldrComparisons),
            ("conversations.parquet", QueryFormat::Auto),
        ] {
            let whole = fs::read(fixture(name)).unwrap();
            // The largest one is damaged at every third place.
            let step = if whole.len() > 3000 { 3 } else { 1 };
            for end in (4..whole.len()).step_by(step) {
                fs::write(&path, &whole[..end]).unwrap();
                let text = message(&path, format);
                assert!(
                    text.contains("damaged.parquet is a Parquet file that cannot be read: "),
                    "{end}: {text}"
                );
            }
            let mut refused = 0;
            for place in (4..whole.len()).step_by(step) {
                let mut bytes = whole.clone();
                bytes[place] ^= [0x01, 0x80, 0xff][place / step % 3];
                fs::write(&path, &bytes).unwrap();
                if let Err(error) = read_queries(&[&path], format, OnBadLine::Stop) {
                    assert!(error.to_string().contains("damaged.parquet"), "{place}: {error}");
                    refused += 1;
                }
            }
            assert!(refused > whole.len() / step / 3, "{name}: {refused}");
        }
    }

    /// 16 MiB of text in 16 row groups take a small part of that.
    #[test]
    fn rows_stream() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.parquet");
        let schema = Arc::new(parse_message_type("message m { required binary query (UTF8); }").unwrap());
        let mut file = SerializedFileWriter::new(
            fs::File::create(&path).unwrap(),
            schema,
            WriterProperties::new().into(),
        )
        .unwrap();
        for group in 0..16 {
            let mut rows = file.next_row_group().unwrap();
            let mut column = rows.next_column().unwrap().unwrap();
            let text = |row: i32| ByteArray::from(format!("{group} {row} ").repeat(180).into_bytes());
            let texts: Vec<_> = (0..1024).map(text).collect();
            column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            column.close().unwrap();
            rows.close().unwrap();
        }
        file.close().unwrap();
        let mut bytes = 0;
        let info = allocation_counter::measure(|| {
            for line in LineReader::open(&path).unwrap() {
                bytes += line.unwrap().text.unwrap().len();
            }
        });
        assert!(bytes > 16 << 20, "{bytes}");
        assert!(info.bytes_max < 6 << 20, "{}", info.bytes_max);
    }
}
