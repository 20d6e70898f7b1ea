//! Damages a `tokenizer.json`: it is refused, or it gives every text back.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tinygpt_data::Tokenizer;
use tinygpt_fuzz::{Damage, World};

static WORLD: LazyLock<World> = LazyLock::new(World::new);
static FILE: LazyLock<(PathBuf, Vec<u8>)> = LazyLock::new(|| {
    let path = WORLD.data_dir().join("text/simple/tokenizer.json");
    let bytes = fs::read(&path).expect("the tokenizer");
    (WORLD.data_dir().join("damaged.json"), bytes)
});

fuzz_target!(|input: (Vec<Damage>, &str)| {
    let (damages, text) = input;
    let (path, bytes) = &*FILE;
    let mut damaged = bytes.clone();
    damages.iter().for_each(|damage| damage.apply(&mut damaged));
    fs::write(path, damaged).expect("a file that can be written");
    let Ok(tokenizer) = Tokenizer::from_path(path) else { return };
    assert!((tokenizer.eot_id() as usize) < tokenizer.vocab_size());
    let Ok(ids) = tokenizer.encode(text) else { return };
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).expect("its own ids"), text);
});
