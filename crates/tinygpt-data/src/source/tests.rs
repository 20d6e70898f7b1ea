//! Every format gives the same documents, in bounded pieces, and names what is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::{Fields, PIECE_BYTES, ReadAs, Separator, SourceStats, Text, expand};
use crate::error::{DataError, ErrorKind};

/// How text is read unless something is chosen, but without any bad record.
pub(super) fn as_usual() -> ReadAs {
    ReadAs {
        fields: Fields::column("text"),
        separator: Separator::default(),
        lossy: false,
        is_chat: false,
        max_bad_fraction: 0.0,
    }
}

/// The text of a file.
fn text(path: &Path, text_column: &str) -> Text {
    let read_as = ReadAs { fields: Fields::column(text_column), ..as_usual() };
    Text::Files { files: expand(&[path.to_path_buf()], None).unwrap().files, read_as }
}

/// The counts of a text of this many documents and nothing else.
pub(super) fn only_documents(n_documents: u64) -> SourceStats {
    SourceStats { n_documents, ..SourceStats::default() }
}

/// The documents of a file with the pieces of each joined, and what else there was.
pub(super) fn read(path: &Path) -> Result<(Vec<String>, SourceStats), DataError> {
    read_as(path, as_usual())
}

/// The same, read in another way.
pub(super) fn read_as(
    path: &Path,
    read_as: ReadAs,
) -> Result<(Vec<String>, SourceStats), DataError> {
    let files = expand(&[path.to_path_buf()], None)?.files;
    read_text(&Text::Files { files, read_as })
}

/// The same for any text.
fn read_text(text: &Text) -> Result<(Vec<String>, SourceStats), DataError> {
    let mut stream = text.open();
    let (mut documents, mut current) = (Vec::new(), String::new());
    while let Some(piece) = stream.next_piece()? {
        assert!(piece.text.len() <= PIECE_BYTES + (64 << 10));
        assert!(!piece.text.is_empty());
        current += &piece.text;
        if piece.ends_document {
            documents.push(std::mem::take(&mut current));
        }
    }
    assert!(current.is_empty());
    assert_eq!(Some(stream.n_bytes_read()), text.n_bytes());
    Ok((documents, stream.stats()))
}

/// A file in `dir`, and its folders.
pub(super) fn file(dir: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn plain_text_is_split_at_separators() {
    let cases: &[(&str, &[&str])] = &[
        ("one document\n\nwith a blank line\n", &["one document\n\nwith a blank line\n"]),
        ("a\n<|endoftext|>\nb\n<|endoftext|>\n", &["a", "b"]),
        ("a\r\n<|endoftext|>\r\nb", &["a", "b"]),
        ("\n\na\n\n<|endoftext|>\n\nb\n\nc\n", &["\n\na", "b\n\nc\n"]),
        ("a\n<|endoftext|>\n<|endoftext|>\nb", &["a", "b"]),
        ("in a line <|endoftext|> too\n", &["in a line", "too\n"]),
        ("a<|endoftext|>b<|endoftext|>", &["a", "b"]),
        ("a  <|endoftext|>\r\n\r\nb\n  <|endoftext|>\n  c", &["a", "b", "  c"]),
        ("a  \n<|endoftext|>\n  b", &["a  ", "  b"]),
        ("<|endoftext|> a", &["a"]),
        ("<|endoftext|><|endoftext|>", &[]),
        ("a <|endoftext|", &["a <|endoftext|"]),
        ("<|endoftext|>\na\n<|endoftext|>", &["a"]),
        ("", &[]),
        ("\n \n", &[]),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (content, expected) in cases {
        let (documents, _) = read(&file(&dir, "a.txt", content)).unwrap();
        assert_eq!(documents, *expected, "{content:?}");
    }
}

#[test]
fn long_texts_come_in_pieces_that_join_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let words = "größer als ein Stück, 長い文章. ".repeat(60_000);
    let unbroken = "長い".repeat(500_000);
    let blank = format!("{} end", " ".repeat(2_500_000));
    for long in [&words, &unbroken, &blank] {
        assert!(long.len() > 2 * PIECE_BYTES);
        let plain = file(&dir, "a.txt", long);
        assert!(read(&plain).unwrap().0 == [long.as_str()]);
        let two = format!("{long}\n<|endoftext|>\n{long}\n<|endoftext|>\n");
        let (documents, _) = read(&file(&dir, "b.txt", two)).unwrap();
        assert!(documents == [long.as_str(), long.as_str()]);
        let json = serde_json::json!({ "text": long }).to_string();
        assert!(read(&file(&dir, "c.jsonl", json)).unwrap().0 == [long.as_str()]);
    }
}

#[test]
fn json_lines_skip_nulls_and_empty_texts_and_count_them() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"id\": 1, \"text\": \"a\\n\\u00e9\"}\n\n{\"text\": null}\r\n{\"text\": \"\"}\n{\"text\": \"b\"}";
    assert_eq!(
        read(&file(&dir, "a.jsonl", lines)).unwrap(),
        (
            vec!["a\né".to_owned(), "b".to_owned()],
            SourceStats { n_nulls: 1, n_empty: 1, ..only_documents(2) }
        )
    );
}

/// Writes a parquet file with an `id` column before `text`, `groups` row groups of `texts`.
fn parquet_file(path: &Path, texts: &[Option<&[u8]>], groups: usize, properties: WriterProperties) {
    let schema =
        parse_message_type("message m { required int64 id; optional binary text (STRING); }")
            .unwrap();
    let file = File::create(path).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> =
            texts.iter().flatten().map(|text| ByteArray::from(text.to_vec())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_is_read_in_every_codec_and_page_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let texts: Vec<Option<&[u8]>> =
        vec![Some("é".as_bytes()), None, Some(b""), Some(b"same"), Some(b"same"), None];
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ] {
        for dictionary in [true, false] {
            let properties = WriterProperties::builder()
                .set_compression(codec)
                .set_dictionary_enabled(dictionary)
                .build();
            parquet_file(&path, &texts, 3, properties);
            let (documents, stats) = read(&path).unwrap();
            assert_eq!(documents, ["é", "same", "same"].repeat(3));
            assert_eq!(stats, SourceStats { n_nulls: 6, n_empty: 3, ..only_documents(9) });
        }
    }
}

#[test]
fn bad_files_are_refused_with_the_place_of_the_fault() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.parquet");
    parquet_file(&good, &[Some(b"a")], 1, WriterProperties::default());
    let bytes = fs::read(&good).unwrap();
    let latin1 = dir.path().join("latin1.parquet");
    parquet_file(&latin1, &[Some(b"caf\xe9")], 1, WriterProperties::default());
    let late = [b"x ".repeat(700_000), b"\xff".to_vec()].concat();
    let cases: Vec<(PathBuf, &str)> = vec![
        (file(&dir, "a.txt", b"caf\xe9 au lait"), "invalid UTF-8 at byte 3"),
        (file(&dir, "b.txt", b"a\n<|endoftext|>\nb\xff"), "invalid UTF-8 at byte 17"),
        (file(&dir, "c.txt", late), "invalid UTF-8 at byte 1400000"),
        (file(&dir, "d.txt", b"cut \xe2\x82"), "invalid UTF-8 at byte 4"),
        (file(&dir, "a.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}"), "line 2: `text` is a number"),
        (file(&dir, "b.jsonl", "{\"text\": \"a\""), "line 1: the last line is cut off"),
        (file(&dir, "c.jsonl", "[\"a\", [\"text\"]]"), "line 1: not a JSON object but a list"),
        (file(&dir, "d.jsonl", "{\"story\": \"a\", \"id\": 1}"), "it has `story` and `id`"),
        (file(&dir, "e.jsonl", b"{\"text\": \"\xff\"}"), "invalid UTF-8 at byte 10"),
        (file(&dir, "f.jsonl", "{\"text\": [\"a\"]}"), "is a list"),
        (file(&dir, "a.parquet", "PAR1"), "not a readable parquet file"),
        (file(&dir, "b.parquet", ""), "not a readable parquet file"),
        (file(&dir, "c.parquet", &bytes[..bytes.len() - 1]), "not a readable parquet file"),
        (file(&dir, "d.parquet", "<html>no such file</html>"), "not a readable parquet file"),
        (latin1, "row group 0, row 0, column `text`: invalid UTF-8 at byte 3"),
        (dir.path().join("missing.txt"), "cannot read"),
    ];
    for (path, expected) in cases {
        let error = read(&path).unwrap_err();
        let message = error.explained();
        assert!(message.contains(expected), "{expected}: {message}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name), "{message}");
    }
    for (column, expected) in [("story", "it has `id` and `text`"), ("id", "not one string a row")]
    {
        let text = text(&good, column);
        let message = text.open().next_piece().unwrap_err().explained();
        assert!(message.contains(expected) && message.contains("`text_column`"), "{message}");
    }
}

#[test]
fn damaged_parquet_never_panics_or_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    parquet_file(&path, &[Some(b"abc"), None, Some(b"de")], 2, WriterProperties::default());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, bytes).unwrap();
        let text = text(&path, "text");
        let mut stream = text.open();
        // Without checksums of its pages a file may be wrong and readable.
        let error = loop {
            match stream.next_piece() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let harmless = [ErrorKind::Corrupt, ErrorKind::Usage];
        assert!(error.is_none_or(|error| harmless.contains(&error.kind())));
    }
}

#[test]
fn parquet_columns_are_joined_by_a_template() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let schema = "message m { optional binary q (STRING); required int64 id; \
                  required binary a (STRING); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(&path).unwrap(), schema, Default::default())
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let strings = |texts: &[String]| texts.iter().map(|it| it.as_str().into()).collect::<Vec<_>>();
    let n = 700;
    // Every third question is null.
    let levels: Vec<i16> = (0..n).map(|i| i16::from(i % 3 > 0)).collect();
    let questions: Vec<String> = (0..n).filter(|i| i % 3 > 0).map(|i| format!("q{i}")).collect();
    let answers: Vec<String> = (0..n).map(|i| format!("a{i}")).collect();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = strings(&questions);
    column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let ids: Vec<i64> = (0..n).collect();
    column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = strings(&answers);
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let template = |text: &str| ReadAs { fields: Fields::template(text).unwrap(), ..as_usual() };
    let (documents, _) = read_as(&path, template("{a}: {q}")).unwrap();
    assert_eq!(documents.len(), 700);
    assert_eq!([&documents[0], &documents[1], &documents[698]], ["a0: ", "a1: q1", "a698: q698"]);
    let message = read_as(&path, template("{a} {id}")).unwrap_err().explained();
    assert!(message.contains("column `id` holds"), "{message}");
    let message = read_as(&path, template("{a} {none}")).unwrap_err().explained();
    assert!(message.contains("no text column `none`"), "{message}");
}
