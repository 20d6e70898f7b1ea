//! Both kinds of tokenizer: nothing is lost, and the ids are those of the library.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const STORY: &str = "Once upon a time, there was a small café.\n\nIt's “open”, said the owl.\t3 × 4 = \
                     12! Once more, there was a time. <|endoftext|> The owl's owl wasn't there.";

static CHARS: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::char_level(&chars_of(STORY)).unwrap());

static BPE: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::train_bpe(words_of(STORY), 300).unwrap());

fn chars_of(text: &str) -> CharSet {
    let mut chars = CharSet::new();
    chars.add(text);
    chars
}

fn words_of(text: &str) -> WordCounts {
    let mut words = WordCounts::new().unwrap();
    words.count(text);
    words
}

/// The ids that the library finds with the same file.
fn library_ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.inner.encode(text, false).unwrap().get_ids().to_vec()
}

/// Texts of every kind: any Unicode, and what tokenizers stumble over.
fn any_text() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(vec![
        "<|endoftext|>",
        "<|endoftext",
        "|>",
        "<0x41>",
        "<0xFF>",
        "Ġ",
        "Ċ",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\u{0}",
        "\u{7f}",
        "\u{a0}",
        "\u{3000}",
        "\u{200d}",
        "e\u{301}",
        "é",
        "👩‍👧",
        "\u{10ffff}",
        "\u{feff}",
        "it's",
        "'ll",
        "''",
        "１２",
        "123",
        "owl",
        "Once",
    ]);
    let part = prop_oneof![3 => tricky.prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_is_restored_and_the_ids_are_the_librarys(text in any_text()) {
        for tokenizer in [&*CHARS, &*BPE] {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(&ids, &library_ids(tokenizer, &text));
            prop_assert_eq!(&tokenizer.decode(&ids).unwrap(), &text);
            prop_assert_eq!(&tokenizer.inner.decode(&ids, false).unwrap(), &text);
            let mut stream = StreamDecoder::new(tokenizer);
            let mut streamed = String::new();
            for &id in &ids {
                streamed += &stream.push(id).unwrap();
            }
            prop_assert_eq!(streamed + &stream.finish(), text.as_str());
        }
    }

    #[test]
    fn any_ids_stream_as_they_decode(ids in prop::collection::vec(0u32..270, 0..40)) {
        for tokenizer in [&*CHARS, &*BPE] {
            let mut stream = StreamDecoder::new(tokenizer);
            let mut streamed = String::new();
            for &id in &ids {
                streamed += &stream.push(id).unwrap();
            }
            prop_assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids).unwrap());
        }
    }

    #[test]
    fn byte_lengths_add_up_to_the_text(text in any_text()) {
        for tokenizer in [&*CHARS, &*BPE] {
            let lengths = tokenizer.byte_lengths();
            let ids = tokenizer.encode(&text).unwrap();
            let n_bytes: u32 = ids.iter().map(|&id| lengths[id as usize]).sum();
            prop_assert_eq!(n_bytes as usize, text.replace(END_OF_TEXT, "").len());
        }
    }
}

#[test]
fn ids_are_laid_out_as_documented() {
    assert_eq!((CHARS.eot_id(), BPE.eot_id()), (0, 0));
    let n_chars = STORY.chars().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(CHARS.vocab_size(), 1 + n_chars + 256);
    // The first character in Unicode order is the tabulator; bytes follow the last character.
    assert_eq!(CHARS.encode("\t").unwrap(), [1]);
    assert_eq!(CHARS.encode("\u{1}").unwrap(), [n_chars as u32 + 2]);
    assert_eq!(CHARS.encode("é🐚").unwrap().len(), 1 + 4);
    assert_eq!(BPE.encode("Once").unwrap().len(), 1);
    assert_eq!(BPE.encode(END_OF_TEXT).unwrap(), [0]);
    assert_eq!((CHARS.encoding(), BPE.encoding()), (Encoding::Simple, Encoding::Bpe));
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for tokenizer in [&*CHARS, &*BPE] {
        tokenizer.save(dir.path()).unwrap();
        let again = Tokenizer::from_dir(dir.path()).unwrap();
        assert_eq!(again.sha256(), tokenizer.sha256());
        assert_eq!(again.encode(STORY).unwrap(), tokenizer.encode(STORY).unwrap());
    }
}

#[test]
fn ids_beyond_the_vocabulary_are_refused() {
    let error = CHARS.decode(&[0, 100_000]).unwrap_err().to_string();
    assert!(error.contains("100000") && error.contains("vocabulary"), "{error}");
    assert!(StreamDecoder::new(&BPE).push(u32::MAX).is_err());
}

#[test]
fn tokenizers_that_would_lose_text_are_refused() {
    let json: Value = serde_json::from_str(&CHARS.json).unwrap();
    let altered = |path: &str, value: Value| {
        let mut json = json.clone();
        *json.pointer_mut(path).unwrap() = value;
        json.to_string()
    };
    let mut without_a_byte = json.clone();
    without_a_byte["model"]["vocab"].as_object_mut().unwrap().shift_remove("<0x41>");
    let mut word = json.clone();
    word["model"]["vocab"]["owl"] = json!(999);
    let mut forged = json.clone();
    forged["model"]["vocab"]["owl"] = json!(u32::MAX);
    let cases = [
        ("{".to_owned(), "not a tokenizer.json"),
        ("[]".to_owned(), "not a tokenizer.json"),
        // The library panics over these two.
        (CHARS.json.replacen("\"decoder\": {", "\"decoder\": {7", 1), "not a tokenizer.json"),
        (
            altered("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
            "its reader gave up",
        ),
        (altered("/model/byte_fallback", json!(false)), "loses text"),
        (altered("/decoder", json!(null)), "loses text"),
        (altered("/pre_tokenizer", json!({"type": "Whitespace"})), "loses text"),
        (altered("/added_tokens", json!([])), "loses text"),
        (altered("/model/vocab/c", json!(5)), "two tokens have id 5"),
        (without_a_byte.to_string(), "no token `<0x41>`"),
        (word.to_string(), "not a character"),
        (forged.to_string(), "beyond"),
    ];
    for (json, expected) in cases {
        let error = Tokenizer::from_json(json, Path::new("t/tokenizer.json")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(message.starts_with("t/tokenizer.json: "), "{message}");
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
    }
}

#[test]
fn a_byte_level_tokenizer_that_loses_text_is_refused_with_the_text() {
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(&BPE.json).unwrap();
        change(&mut json);
        Tokenizer::from_json(json.to_string(), Path::new("t/tokenizer.json"))
    };
    let normalizer = |it: Value| altered(&|json| json["normalizer"] = it.clone());
    let without = |token: &str| {
        altered(&|json| {
            json["model"]["vocab"].as_object_mut().unwrap().shift_remove(token);
        })
    };
    let added = |flag: &str| {
        altered(&|json| {
            let mut token = json["added_tokens"][0].clone();
            (token["content"], token["id"], token[flag]) =
                (json!("<|im|>"), json!(300), json!(true));
            json["added_tokens"].as_array_mut().unwrap().push(token);
        })
    };
    for (refused, expected) in [
        // The library drops bytes for which there is no token.
        (without("~"), "\"~\" comes back as \"\""),
        (without("ÿ"), "accepted"),
        (without("å"), "comes back as"),
        (normalizer(json!({"type": "Lowercase"})), "\"H\" comes back as \"h\""),
        (normalizer(json!({"type": "NFC"})), "comes back as \"Å\""),
        (normalizer(json!({"type": "NFD"})), "\"İ\" comes back as \"I\\u{307}\""),
        (normalizer(json!({"type": "NFKC"})), "loses text"),
        (normalizer(json!({"type": "Strip", "strip_left": true, "strip_right": false})), "\" "),
        (
            normalizer(json!({"type": "Strip", "strip_left": false, "strip_right": true})),
            " \" comes",
        ),
        (normalizer(json!({"type": "Prepend", "prepend": "_"})), "comes back as \"_"),
        (
            normalizer(json!({"type": "Replace", "pattern": {"String": "ꙮ"}, "content": "o"})),
            "\"ꙮ\" comes back as \"o\"",
        ),
        (
            normalizer(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})),
            "comes back as",
        ),
        (
            altered(&|json| json["pre_tokenizer"]["add_prefix_space"] = json!(true)),
            "comes back as \" ",
        ),
        (added("lstrip"), "<|im|>"),
        (added("rstrip"), "<|im|>"),
        (added("special"), "accepted"),
        (
            altered(&|json| {
                json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
                {"type": "Whitespace"}, json["pre_tokenizer"].clone()]});
            }),
            "comes back as",
        ),
    ] {
        let message = match refused {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(message.chars().count() < 400, "{message}");
    }
}

#[test]
fn what_cuts_and_fills_batches_of_other_programs_changes_nothing_here() {
    let mut json: Value = serde_json::from_str(&BPE.json).unwrap();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 1_000_000_000}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT});
    let tokenizer = Tokenizer::from_json(json.to_string(), Path::new("t/tokenizer.json")).unwrap();
    assert_eq!(tokenizer.encode(STORY).unwrap(), BPE.encode(STORY).unwrap());
    assert_eq!(tokenizer.slow_because(), None);
}

#[test]
fn a_tokenizer_that_asks_for_too_much_is_refused_at_once() {
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(&BPE.json).unwrap();
        change(&mut json);
        Tokenizer::from_json(json.to_string(), Path::new("t/tokenizer.json"))
    };
    let step = |kind: &str| json!({"type": kind, "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let steps = |kind: &str, n: usize| {
        altered(&|json| {
            let inner = json!({"type": "Sequence", "pretokenizers": vec![step(kind); n]});
            json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [inner]});
        })
    };
    let normalizer = |it: Value| altered(&|json| json["normalizer"] = it.clone());
    let added = |n: u32| {
        altered(&|json| {
            let of = |id: u32| {
                let mut token = json["added_tokens"][0].clone();
                (token["content"], token["id"]) = (json!(format!("<|{id}|>")), json!(id));
                token
            };
            let tokens: Vec<Value> = (1_000..1_000 + n).map(of).collect();
            json["added_tokens"].as_array_mut().unwrap().extend(tokens);
        })
    };
    for (found, expected) in [
        (added(100_000), "100001 added tokens, more than the 10000"),
        (added(3_000), "accepted"),
        (steps("Digits", 1_000), "pipeline of 1001 steps, more than the 32"),
        (steps("ByteLevel", 28), "`ByteLevel` makes texts longer"),
        (steps("ByteLevel", 1), "accepted"),
        (
            normalizer(json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})),
            "loses text: its normalizer `Replace` makes texts longer",
        ),
        (
            normalizer(json!({"type": "Replace", "pattern": {"Regex": "a?"}, "content": "é"})),
            "makes texts longer",
        ),
        (normalizer(json!({"type": "Prepend", "prepend": "a".repeat(65)})), "makes texts longer"),
    ] {
        let message = found.map_or_else(|error| error.to_string(), |_| "accepted".to_owned());
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

/// [`BPE`] encoded by the library, which panics over texts of more than four tokens.
fn that_panics() -> Tokenizer {
    let mut json: Value = serde_json::from_str(&BPE.json).unwrap();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 9});
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    let bpe = Err("for the test".to_owned());
    Tokenizer { inner, bpe, ..Tokenizer::from_json(BPE.json.clone(), Path::new("t.json")).unwrap() }
}

#[test]
fn a_panic_of_the_library_while_encoding_is_an_error_and_the_next_text_is_encoded() {
    let tokenizer = that_panics();
    for parses_special in [true, false] {
        let mut encoder = tokenizer.encoder().parsing_special(parses_special);
        let error = encoder.encode_into("a b c d e f g", &mut Vec::new()).unwrap_err();
        let message = error.explained();
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
        for words in ["tokenizer.json", "\"a b c d e f g\"", "panics", "use another tokenizer"] {
            assert!(message.contains(words), "{words}: {message}");
        }
        let mut ids = Vec::new();
        encoder.encode_into("a", &mut ids).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), "a");
    }
}

/// Writes GPT-2's two files of [`BPE`] under these names.
fn write_pair(dir: &Path, [vocab, merges]: [&str; 2]) {
    let json: Value = serde_json::from_str(&BPE.json).unwrap();
    fs::write(dir.join(vocab), json["model"]["vocab"].to_string()).unwrap();
    let lines = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    fs::write(dir.join(merges), "#version: 0.2\n".to_owned() + &lines.collect::<String>()).unwrap();
}

#[test]
fn gpt2s_two_files_are_a_tokenizer() {
    for pair in [["vocab.json", "merges.txt"], ["encoder.json", "vocab.bpe"]] {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path(), pair);
        for path in [dir.path().to_path_buf(), dir.path().join(pair[0]), dir.path().join(pair[1])] {
            let found = Tokenizer::from_path(path).unwrap();
            assert_eq!(found.json, BPE.json);
        }
        // A whole file in the folder is preferred.
        CHARS.save(dir.path()).unwrap();
        assert_eq!(Tokenizer::from_path(dir.path()).unwrap().sha256(), CHARS.sha256());
        let file = dir.path().join(FILE_NAME);
        assert_eq!(Tokenizer::from_path(file).unwrap().sha256(), CHARS.sha256());
    }
}

#[test]
fn a_broken_pair_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let message = || Tokenizer::from_path(dir.path()).unwrap_err().to_string();
    assert!(message().contains("no tokenizer in this folder"), "{}", message());
    write_pair(dir.path(), ["vocab.json", "merges.txt"]);
    for (merges, expected) in [
        ("#version: 0.2\nO n c\n", "line 2 is \"O n c\""),
        ("On\n", "line 1 is \"On\""),
        ("O ✗\n", "does not fit its vocabulary"),
    ] {
        fs::write(dir.path().join("merges.txt"), merges).unwrap();
        assert!(message().contains("merges.txt") && message().contains(expected), "{}", message());
    }
    fs::remove_file(dir.path().join("merges.txt")).unwrap();
    assert!(message().contains("cannot read") && message().contains("merges.txt"), "{}", message());
    fs::write(dir.path().join("vocab.json"), "[]").unwrap();
    assert!(message().contains("not a list of tokens"), "{}", message());
}
