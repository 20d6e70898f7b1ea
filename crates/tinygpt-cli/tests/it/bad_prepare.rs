//! What `prepare` refuses: each message names the key or file and has a hint.

use std::fs;

use crate::program::{Bad, check_all, trained};

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let dir = trained();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("empty.txt", b"");
    write("tiny_tales.txt", b"Once upon a time there was a name that was taken.");
    write("tiny.txt", b"a");
    write("latin.txt", b"caf\xe9 and more");
    write("text.docx", b"words");
    write("no_column.jsonl", b"{\"story\": \"once\"}\n");
    write("broken.jsonl", b"{\"text\": \"once\"}\n{\"text\": \n");
    write("garbage.parquet", b"PAR1 is not enough");
    write("folder/notes.docx", b"no text here");
    write("garbage/tokenizer.json", b"{\"version\": 3}");
    write("data/mistyped/dataset.json", b"{\"sorce\": \"given\"}");
    write("data/cut/dataset.json", b"{");
    write("bad.json", b"{\"vocab_sise\": 5}");
    let table: &[Bad<'_>] = &[
        ("--dataset-name nobody", 2, &["`nobody`", "tiny_tales", "dataset.json", "--source"]),
        ("--dataset-name ../up", 2, &["`dataset_name`", "../up", "it contains `/`"]),
        ("--dataset-name con", 2, &["`dataset_name`", "con", "Windows"]),
        ("--dataset-name shakespeare_char", 5, &["127.0.0.1:9", "--source"]),
        ("--dataset-name tiny_tales --source text.txt", 2, &["tiny_tales", "leave --source out"]),
        ("--source tiny_tales.txt", 2, &["`tiny_tales`", "--dataset-name my_tiny_tales"]),
        ("--source *.txt", 4, &["*.txt", "cannot read", "its spelling"]),
        ("--dataset-name mistyped", 2, &["mistyped/dataset.json", "did you mean `source`?"]),
        ("--dataset-name cut", 2, &["cut/dataset.json", "line 1", "one JSON object"]),
        ("--source missing.txt", 4, &["missing.txt", "cannot read", "its spelling"]),
        ("--source empty.txt", 2, &["empty.txt", "give more"]),
        ("--source tiny.txt", 2, &["tiny.txt", "give more"]),
        ("--source latin.txt", 3, &["latin.txt", "byte 3", "iconv"]),
        ("--source text.docx", 2, &["text.docx", ".txt", ".jsonl", ".parquet"]),
        ("--source folder", 2, &["folder", "`notes.docx`", ".txt", ".jsonl", ".parquet"]),
        ("--source text.txt --val-source missing.txt", 4, &["missing.txt", "its spelling"]),
        ("--val-source text.txt --dataset-name tiny_tales", 2, &["val_source", "--source"]),
        ("--source text.txt --separator a\\x", 2, &["separator", "the escapes are"]),
        ("--source text.txt --text-template {a", 2, &["text_template", "a brace"]),
        ("--source text.txt --max-bad-fraction 2", 2, &["`max_bad_fraction` is 2", "0 to 1"]),
        ("--source text.txt --format pdf", 2, &["pdf", "jsonl", "parquet"]),
        ("--source no_column.jsonl", 2, &["no_column.jsonl", "`text`", "`story`", "--text-column"]),
        ("--source broken.jsonl", 3, &["broken.jsonl: line 2", "cut off", "--max-bad-fraction"]),
        ("--source garbage.parquet", 3, &["garbage.parquet", "fetch it again"]),
        ("--source text.txt --val-fraction 0", 2, &["`val_fraction` is 0", "0.1"]),
        ("--source text.txt --val-fraction 1", 2, &["`val_fraction` is 1", "less than 1"]),
        ("--source text.txt --data-percentage 0", 2, &["`data_percentage` is 0", "at most 100"]),
        (
            "--source text.txt --data-percentage 101",
            2,
            &["`data_percentage` is 101", "at most 100"],
        ),
        ("--source text.txt --encoding-type bpe --vocab-size 10", 2, &["vocab_size", "10", "257"]),
        ("--source text.txt --tokenizer nowhere", 4, &["nowhere", "its spelling"]),
        (
            "--source text.txt --tokenizer garbage",
            3,
            &["garbage/tokenizer.json", "give a byte-level"],
        ),
        (
            "--source text.txt --encoding-type bpe --tokenizer data/text/simple",
            2,
            &["encoding_type", "set it to `simple`"],
        ),
        ("--source text.txt --val-fraction 0.2", 2, &["val_fraction", "0.1", "0.2", "--force"]),
        ("--source text.txt --data-dir text.txt", 4, &["text.txt", "name another path"]),
        ("--source text.txt --encoding-type words", 2, &["words", "simple", "bpe"]),
        ("--source text.txt --vocab-size -1", 2, &["-1", "--vocab-size", "an integer"]),
        ("--source text.txt --sauce x", 2, &["--sauce", "--source"]),
        ("--config-file bad.json", 2, &["bad.json line 1", "did you mean `vocab_size`?"]),
        ("--dataset-name tiny_stories", 5, &["127.0.0.1:9", "tiny_tales"]),
    ];
    check_all("prepare", dir.path(), table);
}
