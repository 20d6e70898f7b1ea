//! What `train` refuses: each message names the key or file and has a hint.

use std::fs;

use crate::program::{Bad, SMALL, check_all, trained};

/// Contents of a config file, and what the message must contain next to the file's name.
const CONFIGS: &[(&str, &[&str])] = &[
    ("{\"n_layr\": 6}", &["line 1", "`n_layr`", "did you mean `n_layer`?", "--help"]),
    ("{\n\n\"n-layer\": 6}", &["line 3", "`n-layer`", "did you mean `n_layer`?"]),
    ("{\"colour\": 6}", &["unknown key `colour`", "--help"]),
    ("{\"data_percentage\": 6}", &["`data_percentage`, which is a key of `prepare`"]),
    ("{\"n_layer\": \"six\"}", &["`n_layer`", "\"six\"", "expected an integer"]),
    ("{\"n_layer\": 6.5}", &["`n_layer`", "6.5", "expected an integer"]),
    ("{\"n_layer\": -1}", &["`n_layer`", "-1", "expected an integer"]),
    ("{\"batch_size\": 99999999999999999999}", &["`batch_size`", "expected an integer"]),
    ("{\"dropout\": \"0.1\"}", &["`dropout`", "expected a number"]),
    ("{\"bias\": 1}", &["`bias`", "expected true or false"]),
    ("{\"out_dir\": 5}", &["`out_dir`", "expected a path in quotes"]),
    ("{\"device\": true}", &["`device`", "expected text in quotes"]),
    ("{\"encoding_type\": \"bytes\"}", &["`encoding_type`", "`simple`", "`bpe`"]),
    ("{\"dtype\": \"int8\"}", &["`dtype`", "`float32`", "`bfloat16`"]),
    ("{\"n_layer\": 1, \"n_layer\": 2}", &["`n_layer` is set twice", "expected once"]),
    ("", &["not one JSON object", "line 1"]),
    ("[1, 2]", &["not one JSON object", "braces"]),
    ("{\"n_layer\": 6,\n}", &["not one JSON object", "line 2", "comma"]),
    ("{\n// six\n\"n_layer\": 6}", &["not one JSON object", "line 2", "comments"]),
    ("{\"n_layer\": 6} {}", &["not one JSON object", "trailing characters"]),
    ("{\"n_layer\": 0, \"batch_size\": 0}", &["2 errors", "`n_layer`", "`batch_size`"]),
    ("{\"n_lyer\": 6,\n\"bias\": 1}", &["2 errors", "line 1", "line 2"]),
];

#[test]
fn config_files_are_refused_with_line_and_hint() {
    let dir = trained();
    let mut table = Vec::new();
    for (index, (content, says)) in CONFIGS.iter().enumerate() {
        let name = format!("bad{index}.json");
        fs::write(dir.path().join(&name), content).unwrap();
        let mut says = says.to_vec();
        says.push(Box::leak(name.clone().into_boxed_str()));
        table.push((format!("--config-file {name}"), says));
    }
    fs::write(dir.path().join("latin.json"), b"{\"out_dir\": \"\xe9\"}").unwrap();
    table.push(("--config-file latin.json".into(), vec!["latin.json", "byte 13", "iconv"]));
    let deep = format!("{{\"n_layer\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    fs::write(dir.path().join("deep.json"), deep).unwrap();
    table.push(("--config-file deep.json".into(), vec!["deep.json", "recursion", "is an example"]));
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/mine.json"), "{}").unwrap();
    table.push(("--config-file no.json".into(), vec!["no.json", "config/mine.json"]));
    table.push(("--config-file config".into(), vec!["config", "cannot read", "one JSON object"]));
    let table: Vec<Bad<'_>> = table.iter().map(|(args, says)| (&args[..], 2, &says[..])).collect();
    check_all("train", dir.path(), &table);
}

#[test]
fn flags_are_refused_with_range_and_hint() {
    let base = "--dataset-name text --out-dir new";
    let table: &[Bad<'_>] = &[
        ("--n-layers 2", 2, &["--n-layers", "similar", "--n-layer"]),
        ("--n-layer two", 2, &["two", "--n-layer", "an integer"]),
        ("--learning-rate nan", 2, &["--learning-rate", "finite"]),
        ("--bias perhaps", 2, &["perhaps", "--bias", "true, false"]),
        ("--n-embd 130 --n-head 4", 2, &["`n_embd` is 130 (--n-embd)", "multiple of `n_head` (4)"]),
        ("--dropout 1", 2, &["`dropout` is 1", "from 0"]),
        ("--init-std 0", 2, &["`init_std` is 0 (--init-std)", "above 0"]),
        ("--embedding-std 0", 2, &["`embedding_std` is 0 (--embedding-std)", "above 0"]),
        ("--embedding-std 1e300", 2, &["`embedding_std` is", "single precision"]),
        ("--init-std 1e300", 2, &["`init_std` is", "(--init-std)", "single precision"]),
        ("--init-std 1e-60", 2, &["`init_std` is", "(--init-std)", "single precision"]),
        ("--dropout -0.1", 2, &["`dropout` is -0.1", "from 0"]),
        ("--learning-rate 0", 2, &["`learning_rate` is 0", "above 0"]),
        ("--learning-rate 1e-3 --min-lr 1", 2, &["`min_lr` is 1", "`learning_rate`"]),
        ("--warmup-iters 50 --max-iters 20", 2, &["`lr_decay_iters` is 20", "`warmup_iters` (50)"]),
        ("--batch-size 0", 2, &["`batch_size` is 0", "at least 1"]),
        ("--block-size 0", 2, &["`block_size` is 0", "at least 1"]),
        ("--eval-interval 0", 2, &["`eval_interval` is 0", "at least 1"]),
        ("--log-interval 0", 2, &["`log_interval` is 0", "at least 1"]),
        ("--max-iters 0", 2, &["`max_iters` is 0", "at least 1"]),
        ("--eval-iters 0", 2, &["`eval_iters` is 0", "at least 1"]),
        ("--gradient-accumulation-steps 0", 2, &["`gradient_accumulation_steps` is 0", "1"]),
        ("--beta2 1", 2, &["`beta2` is 1", "not including 1"]),
        ("--weight-decay -1", 2, &["`weight_decay` is -1", "at least 0"]),
        ("--grad-clip -1", 2, &["`grad_clip` is -1", "at least 0"]),
        ("--vocab-size 0", 2, &["`vocab_size` is 0", "null or at least 1"]),
        ("--threads 0", 2, &["`threads` is 0", "one per physical core"]),
        ("--threads 1000000", 2, &["`threads` is 1000000", "1 to 1024"]),
        ("--profile --device metal", 2, &["`profile` is true", "`device` cpu or cuda"]),
        ("--plan --find-lr", 2, &["--find-lr", "cannot be combined with --plan"]),
        ("--plan --serve 0", 2, &["--serve", "cannot be combined with --plan", "trains"]),
        ("--sweep rates.json --report out", 2, &["--report", "cannot be combined with --sweep"]),
        ("--compile", 2, &["`compile` is true", "expected false"]),
        ("--wandb-log true", 2, &["`wandb_log` is true", "metrics.jsonl"]),
        ("--dtype float16", 2, &["`dtype`", "float16", "loss scaling", "bfloat16"]),
        ("--device gpu", 2, &["`device`", "cpu, auto, cuda, cuda:1, metal or mps"]),
        ("--dataset-name ../text", 2, &["`dataset_name`", "../text", "without a path"]),
        ("--overwrite --init-from resume", 2, &["`overwrite`", "expected false", "`init_from`"]),
    ];
    let dir = trained();
    let table: Vec<(String, i32, &[&str])> =
        table.iter().map(|(args, code, says)| (format!("{base} {args}"), *code, *says)).collect();
    // A flag that is given twice is the later one: the case's own value counts.
    let table: Vec<Bad<'_>> =
        table.iter().map(|(args, code, says)| (&args[..], *code, *says)).collect();
    check_all("train", dir.path(), &table);
    assert!(!dir.path().join("new").exists(), "refused before anything is written");
}

#[test]
fn what_only_the_disk_shows_is_refused_before_the_first_step() {
    let small = |extra: &str| format!("{SMALL} --out-dir new {extra}");
    let table = [
        ("--dataset-name nobody", 2, &["`nobody`", "tiny_tales", "dataset.json"][..]),
        (
            "--dataset-name tiny_stories",
            2,
            &[
                "`tiny_stories`",
                "downloaded",
                "--bin prepare -- --dataset-name tiny_stories",
                "config/quickstart.json",
            ],
        ),
        (
            "--dataset-name shakespeare_char",
            2,
            &["downloaded", "--dataset-name shakespeare_char", "config/quickstart.json"],
        ),
        (
            // The recipe's tokenizer is meant, not a new one.
            "--dataset-name fineweb_edu --encoding-type bpe",
            2,
            &["downloaded", "--bin prepare -- --dataset-name fineweb_edu\n"],
        ),
        (
            "--dataset-name tiny_stories --encoding-type bpe",
            2,
            &["--bin prepare -- --dataset-name tiny_stories --encoding-type bpe\n"],
        ),
        (
            "--encoding-type bpe",
            2,
            &[
                "`text` is prepared as simple, not as bpe",
                "--encoding-type simple, or prepare it",
                "--dataset-name text --source PATH --encoding-type bpe",
            ],
        ),
        (
            "--data-percentage 5",
            2,
            &["option of `prepare`, not of `train`", "give it to `prepare`"],
        ),
        ("--data_percentage=5", 2, &["option of `prepare`, not of `train`"]),
        ("--top-k 5", 2, &["option of `sample`, not of `train`", "train --help"]),
        ("--data-dir elsewhere", 2, &["`text`", "elsewhere", "--source"]),
        ("--vocab-size 70", 2, &["`vocab_size` is 70 (--vocab-size)", "at least 287"]),
        ("--n-embd 1099511627776", 2, &["of memory", "lower `n_layer`, `n_embd`"]),
        ("--batch-size 1099511627776", 2, &["of memory", "lower `batch_size` to"]),
        (
            "--block-size 100000",
            2,
            &["`block_size` is 100000 (--block-size)", "at most 1442", "12987", "1443"],
        ),
        (
            "--block-size 100000 --batch-size 100000 --n-embd 1024",
            2,
            &["`block_size` is 100000", "at most 1442"],
        ),
        ("--init-from resume", 2, &["new holds no checkpoint", "--init-from scratch"]),
        ("--n-layer x", 2, &["'x'", "--n-layer", "expected an integer"]),
        ("--init-from resum", 2, &["`init_from` is resum", "scratch, resume, auto"]),
        ("--init-from out", 2, &["`init_from`", "out/best"]),
        ("--out-dir out", 2, &["out", "--init-from resume", "--overwrite"]),
        ("--out-dir text.txt", 4, &["text.txt", "name another path"]),
        ("--out-dir text.txt/out", 4, &["text.txt/out", "name another path"]),
        (
            "--out-dir out --init-from resume --n-layer 3",
            2,
            &["`n_layer` is 2 there and 3 here", "set it to 2"],
        ),
    ];
    let dir = trained();
    let table: Vec<_> =
        table.iter().map(|(args, code, says)| (small(args), *code, *says)).collect();
    let table: Vec<Bad<'_>> =
        table.iter().map(|(args, code, says)| (&args[..], *code, *says)).collect();
    check_all("train", dir.path(), &table);
}
