//! Shards: what is written is read, and nothing else is.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::header::{HEADER_BYTES, Header, Width};
use super::*;
use crate::error::{DataError, ErrorKind};
use crate::tokenizer::hex;

const TOKENIZER: [u8; 32] = [7; 32];

fn write(dir: &Path, ids: &[u32], vocab_size: usize, max_tokens: u64) -> Vec<ShardInfo> {
    let mut writer =
        ShardWriter::new(dir, "train", vocab_size, TOKENIZER).with_max_tokens(max_tokens);
    for part in ids.chunks(7) {
        writer.write(&Packed::of(part, vocab_size).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

fn open(dir: &Path, shards: &[ShardInfo], vocab_size: usize) -> Result<TokenDataset, DataError> {
    TokenDataset::open(dir, shards, vocab_size, &hex(&TOKENIZER))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn written_shards_read_back_from_any_position(
        ids in prop::collection::vec(0u32..100_000, 1..200),
        wide: bool,
        max_tokens in 1u64..50,
        start in 0usize..200,
        n in 0usize..200,
    ) {
        let vocab_size = if wide { 100_000 } else { 1 << 16 };
        let ids: Vec<u32> = ids.into_iter().map(|id| id % vocab_size as u32).collect();
        let dir = tempfile::tempdir().unwrap();
        let shards = write(dir.path(), &ids, vocab_size, max_tokens);
        prop_assert_eq!(shards.len(), ids.len().div_ceil(max_tokens as usize));
        let stream = open(dir.path(), &shards, vocab_size).unwrap();
        prop_assert_eq!(stream.len(), ids.len());
        let mut read = vec![0; n];
        match ids.get(start..start + n) {
            Some(expected) => {
                stream.read(start, &mut read).unwrap();
                prop_assert_eq!(&read, expected);
            }
            None => prop_assert!(stream.read(start, &mut read).is_err()),
        }
    }

    #[test]
    fn every_flipped_bit_is_found(bit in 0usize..(HEADER_BYTES + 40) * 8) {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<u32> = (0..20).collect();
        let shards = write(dir.path(), &ids, 300, 1_000);
        let path = dir.path().join("train-00000.bin");
        let mut bytes = fs::read(&path).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let error = open(dir.path(), &shards, 300).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

/// A shard with a header that is right for its ids, but for what `forge` changes.
fn forged(forge: impl FnOnce(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
    let mut ids: Vec<u8> = (0..20u16).flat_map(u16::to_le_bytes).collect();
    let mut header = Header {
        width: Width::U16,
        n_tokens: 20,
        vocab_size: 300,
        tokenizer_sha256: TOKENIZER,
        ids_sha256: Sha256::digest(&ids).into(),
    };
    forge(&mut header, &mut ids);
    [header.to_bytes(), ids].concat()
}

#[test]
fn damaged_and_forged_shards_are_refused_by_name() {
    let whole = forged(|_, _| {});
    let cut = |n_bytes: usize| whole[..n_bytes].to_vec();
    let other = |offset: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[offset] = byte;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not a token shard", other(0, b'X')),
        ("not a token shard", vec![0; 500]),
        ("shorter than", cut(0)),
        ("shorter than", cut(7)),
        ("shorter than", cut(HEADER_BYTES - 1)),
        ("0 bytes of ids, expected 40", cut(HEADER_BYTES)),
        ("39 bytes of ids, expected 40", cut(whole.len() - 1)),
        ("41 bytes of ids, expected 40", [whole.clone(), vec![0]].concat()),
        ("format 2", other(8, 2)),
        ("header is damaged", other(12, 4)),
        ("header is damaged", other(127, 0)),
        ("expected 36893488147419103230", forged(|header, _| header.n_tokens = u64::MAX)),
        ("40 bytes of ids, expected 38", forged(|header, _| header.n_tokens = 19)),
        ("expected 80", forged(|header, _| header.width = Width::U32)),
        ("made by tokenizer 0909", forged(|header, _| header.tokenizer_sha256 = [9; 32])),
        ("vocabulary of 10, expected 300", forged(|header, _| header.vocab_size = 10)),
        ("checksum of its ids", forged(|_, ids| ids[0] = 99)),
        ("not the shard that meta.json lists", forged(|header, _| header.ids_sha256 = [1; 32])),
    ];
    let dir = tempfile::tempdir().unwrap();
    let shards = write(dir.path(), &(0..20).collect::<Vec<u32>>(), 300, 1_000);
    let path = dir.path().join("train-00000.bin");
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(dir.path(), &shards, 300).unwrap().len(), 20);
    for (expected, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let error = open(dir.path(), &shards, 300).unwrap_err();
        let message = error.explained();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(
            message.contains("train-00000.bin")
                && message.ends_with("prepare the dataset again with `force`")
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(open(dir.path(), &shards, 300).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn ids_outside_the_vocabulary_are_neither_written_nor_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Packed::of(&[1, 300], 300).is_err());
    let mut shards = write(dir.path(), &[1, 2], 300, 1_000);
    let bytes = forged(|header, ids| {
        *ids = [299u16, 300].into_iter().flat_map(u16::to_le_bytes).collect();
        header.n_tokens = 2;
        header.ids_sha256 = Sha256::digest(&ids).into();
        shards[0].sha256 = hex(&header.ids_sha256);
    });
    fs::write(dir.path().join("train-00000.bin"), bytes).unwrap();
    let message = open(dir.path(), &shards, 300).unwrap_err().explained();
    assert!(message.contains("id 300 is outside the vocabulary of 300"), "{message}");
}

#[test]
fn a_shard_that_changes_while_it_is_open_is_an_error_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<u32> = (0..20_000).map(|id| id % 300).collect();
    let shards = write(dir.path(), &ids, 300, 100_000);
    let path = dir.path().join("train-00000.bin");
    let whole = fs::read(&path).unwrap();
    let stream = open(dir.path(), &shards, 300).unwrap();
    let mut read = vec![0; 20_000];
    let mut message = |start: usize, n: usize| {
        let error = stream.read(start, &mut read[..n]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        error.explained()
    };
    let file = fs::File::options().write(true).open(&path).unwrap();
    for (n_bytes, start, n) in [(HEADER_BYTES + 999, 0, 500), (HEADER_BYTES, 9, 1), (0, 0, 20_000)]
    {
        file.set_len(n_bytes as u64).unwrap();
        let message = message(start, n);
        for words in ["train-00000.bin", "has become shorter", "prepare the dataset again"] {
            assert!(message.contains(words), "{words}: {message}");
        }
    }
    fs::write(&path, [&whole[..HEADER_BYTES], &vec![0xff; 40_000]].concat()).unwrap();
    assert!(message(5, 5).contains("ids have changed"));
    // What is still there can be read.
    fs::write(&path, &whole[..HEADER_BYTES + 1_000]).unwrap();
    stream.read(0, &mut read[..500]).unwrap();
    assert_eq!(read[..500], ids[..500]);
}
