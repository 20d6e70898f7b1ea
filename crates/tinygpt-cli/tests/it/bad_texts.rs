//! Damaged and unusual texts in `prepare`: the right exit code, a message that names file and place and
//! has a hint, no panic, and memory in proportion to the file.

use std::fs;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::program::{Bad, check_all, run};

/// A parquet file of one column; of integers if the schema says so, else of `texts`.
fn parquet(schema: &str, texts: &[&[u8]], codec: Compression, dictionary: bool) -> Vec<u8> {
    let message = parse_message_type(&format!("message m {{ {schema} }}")).unwrap();
    let properties =
        WriterProperties::builder().set_compression(codec).set_dictionary_enabled(dictionary);
    let properties = Arc::new(properties.build());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(message), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let levels = vec![1; texts.len()];
    let values: Vec<ByteArray> = texts.iter().map(|text| text.to_vec().into()).collect();
    if schema.contains("int64") {
        let numbers: Vec<i64> = (0..texts.len() as i64).collect();
        column.typed::<Int64Type>().write_batch(&numbers, Some(&levels), None).unwrap();
    } else {
        let rows = schema.contains("repeated").then(|| vec![0; texts.len()]);
        let column = column.typed::<ByteArrayType>();
        column.write_batch(&values, Some(&levels), rows.as_deref()).unwrap();
    }
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

const TEXT: &str = "optional binary text (STRING);";

/// A good file of a few stories, unpacked and without a dictionary.
fn good() -> Vec<u8> {
    let story: &[u8] = b"Once there was a cat, and the cat sat on a mat.";
    parquet(TEXT, &[story; 40], Compression::UNCOMPRESSED, false)
}

/// Replaces the number at `at` (thrift's compact form) by `value` and lets the page, whose size
/// in the file stands at `size_at`, give up the bytes that it takes.
fn forge(mut file: Vec<u8>, at: usize, size_at: usize, value: u64) -> Vec<u8> {
    let length = |file: &[u8], at: usize| file[at..].iter().position(|&b| b < 0x80).unwrap() + 1;
    let number = |mut value: u64| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let forged = number(value << 1);
    let old = length(&file, at);
    let n_more = (forged.len() - old) as u64;
    let n_size = length(&file, size_at);
    let groups = file[size_at..size_at + n_size].iter().rev();
    let size = groups.fold(0u64, |size, &byte| size << 7 | u64::from(byte & 0x7f)) >> 1;
    let smaller = number((size - n_more) << 1);
    assert_eq!(smaller.len(), n_size);
    file.splice(size_at..size_at + n_size, smaller);
    file.splice(at..at + old, forged);
    file
}

/// Where the numbers of the first page's header begin: the two sizes and what follows them.
fn header_fields(file: &[u8]) -> [usize; 3] {
    assert_eq!((file[4], file[6]), (0x15, 0x15));
    let after = |at: usize| at + file[at..].iter().position(|&byte| byte < 0x80).unwrap() + 1;
    let unpacked = 7;
    let packed = after(unpacked) + 1;
    [unpacked, packed, after(packed)]
}

/// A page that claims to be 2 GiB when it is unpacked.
fn forged_page() -> Vec<u8> {
    let stories: Vec<String> = (0..200).map(|i| format!("Story number {i} of many.")).collect();
    let stories: Vec<&[u8]> = stories.iter().map(String::as_bytes).collect();
    let file = parquet(TEXT, &stories, Compression::SNAPPY, false);
    let [unpacked, packed, _] = header_fields(&file);
    forge(file, unpacked, packed, i32::MAX as u64)
}

/// A dictionary that claims a billion entries.
fn forged_dictionary() -> Vec<u8> {
    let stories: Vec<String> = (0..200).map(|i| format!("Story number {i} of many.")).collect();
    let stories: Vec<&[u8]> = stories.iter().map(String::as_bytes).collect();
    let file = parquet(TEXT, &stories, Compression::UNCOMPRESSED, true);
    let [_, packed, rest] = header_fields(&file);
    assert_eq!((file[rest], file[rest + 1]), (0x4c, 0x15), "a dictionary's header");
    forge(file, rest + 2, packed, 1 << 30)
}

fn broken_parquet() -> Vec<(&'static str, Vec<u8>)> {
    let good = good();
    let n = good.len();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file.splice(at..at + bytes.len(), bytes.iter().copied());
        file
    };
    let of =
        |schema: &str| parquet(schema, &[b"0123456789".as_slice(); 9], Compression::SNAPPY, false);
    vec![
        ("empty", Vec::new()),
        ("magic", b"PAR1".to_vec()),
        ("magics", b"PAR1PAR1".to_vec()),
        ("page", b"<html>please log in</html>".to_vec()),
        ("half", good[..n / 2].to_vec()),
        ("last", good[..n - 1].to_vec()),
        ("first", good[1..].to_vec()),
        ("footer_long", with(n - 8, &[0xff, 0xff, 0xff, 0x7f])),
        ("footer_none", with(n - 8, &[0; 4])),
        ("footer_zeros", with(n - 60, &[0; 50])),
        ("encrypted", with(n - 4, b"PARE")),
        ("header", with(4, &[0xff; 6])),
        ("levels", with(header_fields(&good)[2] + 12, &[0xff; 30])),
        ("number", of("optional int64 text;")),
        ("list", of("repeated binary text (STRING);")),
        ("latin", parquet(TEXT, &[b"fine", b"caf\xe9"], Compression::SNAPPY, false)),
        ("forged_page", forged_page()),
        ("forged_dictionary", forged_dictionary()),
        ("no_rows", parquet(TEXT, &[], Compression::SNAPPY, false)),
        ("no_text", parquet(TEXT, &[b"".as_slice(); 5], Compression::SNAPPY, false)),
        ("story", of("optional binary story (STRING);")),
    ]
}

#[test]
fn broken_parquet_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in broken_parquet() {
        fs::write(dir.path().join(format!("{name}.parquet")), bytes).unwrap();
    }
    let unreadable = ["not a readable parquet file", "fetch it again"].as_slice();
    let column = ["not one string a row", "--text-column"].as_slice();
    let table: Vec<(&str, i32, &[&str])> = vec![
        ("empty", 3, unreadable),
        ("magic", 3, unreadable),
        ("magics", 3, unreadable),
        ("page", 3, unreadable),
        ("half", 3, unreadable),
        ("last", 3, unreadable),
        ("first", 3, unreadable),
        ("footer_long", 3, unreadable),
        ("footer_none", 3, unreadable),
        ("footer_zeros", 3, unreadable),
        ("encrypted", 3, unreadable),
        ("header", 3, unreadable),
        ("levels", 3, &["fetch it again"]),
        ("number", 3, column),
        ("list", 3, column),
        ("latin", 3, &["row group 0, row 1", "byte 3", "--lossy"]),
        ("forged_page", 3, &["claims to hold 2147483647", "fetch it again"]),
        ("forged_dictionary", 3, &["claims 1073741824 values", "fetch it again"]),
        ("no_rows", 2, &["0 characters", "give more"]),
        ("no_text", 2, &["0 characters", "give more"]),
        ("story", 2, &["it has `story`", "--text-column"]),
    ];
    assert_eq!(table.len(), broken_parquet().len());
    let calls: Vec<String> =
        table.iter().map(|(name, ..)| format!("--source {name}.parquet")).collect();
    let says: Vec<_> = table.iter().map(|(name, _, says)| [says, &[*name][..]].concat()).collect();
    let rows: Vec<Bad<'_>> = calls
        .iter()
        .zip(&table)
        .zip(&says)
        .map(|((call, row), says)| (&**call, row.1, &**says))
        .collect();
    check_all("prepare", dir.path(), &rows);
}

#[test]
fn broken_lines_and_texts_are_refused_by_place() {
    let dir = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> = "Once upon a time".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!("{{\"text\": {}", "[".repeat(100_000));
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("number.jsonl", b"{\"text\": \"a\"}\n{\"text\": 5}".to_vec()),
        ("list.jsonl", b"{\"text\": [\"a\"]}".to_vec()),
        ("object.jsonl", b"{\"text\": {\"en\": \"a\"}}".to_vec()),
        ("flag.jsonl", b"{\"text\": true}".to_vec()),
        ("column.jsonl", b"{\"story\": \"a\"}".to_vec()),
        ("nothing.jsonl", b"{}".to_vec()),
        ("cut.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"b".to_vec()),
        ("array.jsonl", b"[[\"a\"], [\"b\"]]".to_vec()),
        ("string.jsonl", b"\"once".to_vec()),
        ("two.jsonl", b"{\"text\": \"a\"} {\"text\": \"b\"}".to_vec()),
        ("surrogate.jsonl", b"{\"text\": \"\\ud800\"}".to_vec()),
        ("deep.jsonl", deep.into_bytes()),
        ("latin.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"caf\xe9\"}".to_vec()),
        ("wide.jsonl", utf16.clone()),
        ("null.jsonl", b"{\"text\": null}\n{\"text\": null}".to_vec()),
        ("latin.txt", b"caf\xe9 au lait".to_vec()),
        ("cut.txt", b"a whole text and a cut \xe2\x82".to_vec()),
        ("wide.txt", utf16),
        ("late.txt", [b"x ".repeat(900_000), b"\xff".to_vec()].concat()),
        ("separators.txt", b"<|endoftext|>\n".repeat(5)),
        ("blank.txt", b" \n\n".to_vec()),
        ("packed.txt.gz", b"\x1f\x8b\x08".to_vec()),
        ("noextension", b"some text".to_vec()),
    ];
    for (name, bytes) in &files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    fs::create_dir(dir.path().join("folder")).unwrap();
    let table: &[Bad<'_>] = &[
        ("--source number.jsonl", 3, &["number.jsonl", "line 2", "a number", "--text-column"]),
        ("--source list.jsonl", 3, &["line 1", "a list", "--text-column"]),
        ("--source object.jsonl", 3, &["line 1", "an object", "--text-column"]),
        ("--source flag.jsonl", 3, &["line 1", "a boolean", "--text-column"]),
        ("--source column.jsonl", 2, &["line 1", "`story`", "--text-column"]),
        ("--source nothing.jsonl", 2, &["line 1", "none", "--text-column"]),
        ("--source cut.jsonl", 3, &["line 2", "the last line is cut off", "--max-bad-fraction"]),
        ("--source array.jsonl", 3, &["line 1", "a list", "an array of objects or strings"]),
        ("--source string.jsonl", 3, &["line 1", "the last line is cut off"]),
        ("--source two.jsonl", 3, &["line 1", "one JSON object on each line"]),
        ("--source surrogate.jsonl", 2, &["1 characters", "give more"]),
        ("--source deep.jsonl", 3, &["line 1", "the last line is cut off"]),
        ("--source latin.jsonl", 3, &["byte 27", "iconv", "--lossy"]),
        ("--source wide.jsonl", 3, &["UTF-16LE", "iconv -f UTF-16LE -t UTF-8"]),
        ("--source null.jsonl", 2, &["0 characters", "give more"]),
        ("--source latin.txt", 3, &["byte 3", "iconv -f WINDOWS-1252", "--lossy"]),
        ("--source cut.txt", 3, &["byte 23", "cut off", "--lossy"]),
        ("--source wide.txt", 3, &["UTF-16LE", "iconv -f UTF-16LE -t UTF-8"]),
        ("--source late.txt", 3, &["byte 1800000", "iconv"]),
        ("--source separators.txt", 2, &["0 characters", "give more"]),
        ("--source blank.txt", 2, &["0 characters", "give more"]),
        ("--source packed.txt.gz", 3, &["gzip data is cut off", "fetch it again"]),
        ("--source noextension", 2, &["noextension", ".jsonl", "--format"]),
        ("--source folder", 2, &["folder", ".parquet"]),
        ("--source nowhere.parquet", 4, &["nowhere.parquet", "its spelling"]),
        ("--source hub:../up", 2, &["repository", "owner/name"]),
        ("--source hub:o/n@../up", 2, &["revision", "main"]),
    ];
    let name = |args: &'static str| args.rsplit([' ', ':']).next().unwrap();
    let says: Vec<_> = table.iter().map(|row| [row.2, &[name(row.0)]].concat()).collect();
    let rows: Vec<Bad<'_>> =
        table.iter().zip(&says).map(|(row, says)| (row.0, row.1, &**says)).collect();
    check_all("prepare", dir.path(), &rows);
}

/// Under a limit of 1 GiB of addresses a forged count of 2 GiB would end the program.
#[cfg(target_os = "linux")]
#[test]
fn forged_counts_reserve_no_memory() {
    use crate::program::{command, run_command};

    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("page", forged_page()), ("dictionary", forged_dictionary())] {
        let file = format!("{name}.parquet");
        fs::write(dir.path().join(&file), bytes).unwrap();
        let prepare = command("prepare", dir.path());
        let mut limited = std::process::Command::new("sh");
        limited.current_dir(dir.path()).env("MALLOC_ARENA_MAX", "1");
        limited.env("HF_HOME", dir.path()).args(["-c", "ulimit -v 1048576; exec \"$@\"", "sh"]);
        let ran = run_command(limited.arg(prepare.get_program()).args(["--source", &file]));
        assert_eq!(ran.code, 3, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("claims"), "{}", ran.stderr);
    }
}

/// A file of one row that a dictionary holds and that is repeated many times.
fn repeating(n_rows: usize, n_bytes: usize) -> Vec<u8> {
    let message =
        Arc::new(parse_message_type("message m { required binary text (STRING); }").unwrap());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_dictionary_page_size_limit(1 << 30)
        .set_dictionary_enabled(true);
    let properties = Arc::new(properties.build());
    let mut writer = SerializedFileWriter::new(Vec::new(), message, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // Shares its bytes with its copies.
    let value = ByteArray::from("a cat ".repeat(n_bytes / 6).into_bytes());
    let values = vec![value; n_rows];
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_small_parquet_file_that_unpacks_to_gigabytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bomb = repeating(1_500, 15 << 20);
    assert!(bomb.len() < 8 << 10, "{}", bomb.len());
    fs::write(dir.path().join("bomb.parquet"), bomb).unwrap();
    let says = ["bomb.parquet", "that unpack to more than", "bytes of text"];
    check_all("prepare", dir.path(), &[("--source bomb.parquet", 3, &says)]);
    // The same row a few times is a text.
    fs::write(dir.path().join("good.parquet"), repeating(40, 100)).unwrap();
    run("prepare", dir.path(), "--source good.parquet").ok();
}
