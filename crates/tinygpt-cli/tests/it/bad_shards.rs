//! Damaged and forged shards: `train` refuses them by name before the first step.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::program::{SMALL, check_all, snapshot, trained};

/// The header of a shard, in bytes; its last 32 are the SHA-256 of the others.
const HEADER: usize = 128;

/// What is done to the bytes of a shard.
type Damage = fn(&mut Vec<u8>);

fn find(dir: &Path, name: &str) -> PathBuf {
    snapshot(dir).into_keys().find(|path| path.ends_with(name)).unwrap()
}

/// Writes bytes into the header and makes its checksum right again.
fn forge(shard: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    shard.splice(at..at + bytes.len(), bytes.iter().copied());
    let checksum = Sha256::digest(&shard[..96]);
    shard.splice(96..HEADER, checksum);
}

/// Replaces the ids and makes both checksums right.
fn forge_ids(shard: &mut Vec<u8>, ids: &[u8]) {
    shard.splice(HEADER.., ids.iter().copied());
    forge(shard, 64, &Sha256::digest(ids));
    forge(shard, 16, &(ids.len() as u64 / 2).to_le_bytes());
}

#[test]
fn damaged_and_forged_shards_are_refused_before_the_first_step() {
    let damages: [(&str, Damage); 20] = [
        ("shorter than", |shard| shard.clear()),
        ("shorter than", |shard| shard.truncate(1)),
        ("shorter than", |shard| shard.truncate(7)),
        ("shorter than", |shard| shard.truncate(HEADER - 1)),
        ("0 bytes of ids", |shard| shard.truncate(HEADER)),
        ("bytes of ids, expected", |shard| shard.truncate(shard.len() / 2)),
        ("bytes of ids, expected", |shard| _ = shard.pop()),
        ("bytes of ids, expected", |shard| shard.push(0)),
        ("not a token shard", |shard| shard[0] = b'X'),
        ("not a token shard", |shard| *shard = b"PAR1".repeat(100)),
        ("shard format 9", |shard| shard[8] = 9),
        ("the header is damaged", |shard| shard[17] ^= 1),
        ("the header is damaged", |shard| shard[HEADER - 1] ^= 1),
        ("checksum of its ids", |shard| shard[HEADER + 5] ^= 1),
        ("ids of 7 bytes", |shard| forge(shard, 12, &7u32.to_le_bytes())),
        ("expected 36893488147419103230", |shard| forge(shard, 16, &u64::MAX.to_le_bytes())),
        ("expected 2199023255552", |shard| forge(shard, 16, &(1u64 << 40).to_le_bytes())),
        ("vocabulary of 5", |shard| forge(shard, 24, &5u64.to_le_bytes())),
        ("made by tokenizer 0707", |shard| forge(shard, 32, &[7; 32])),
        ("meta.json lists", |shard| forge_ids(shard, &[1, 0, 2, 0, 3, 0])),
    ];
    let dir = trained();
    let train = format!("{SMALL} --out-dir new");
    for name in ["train-00000.bin", "val-00000.bin"] {
        let path = find(&dir.path().join("data"), name);
        let whole = fs::read(&path).unwrap();
        for (printed, damage) in damages {
            let mut shard = whole.clone();
            damage(&mut shard);
            fs::write(&path, shard).unwrap();
            check_all("train", dir.path(), &[(&train, 3, &[name, printed, "prepare", "--force"])]);
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(!dir.path().join("new/checkpoints").exists());
}
