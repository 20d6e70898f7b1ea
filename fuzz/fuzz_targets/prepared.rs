//! Damages one file of a prepared dataset: it is refused, or everything in it can be read.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tinygpt_data::Prepared;
use tinygpt_fuzz::{Damage, World};

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fuzz_target!(|input: (u8, Vec<Damage>)| {
    let (which, damages) = input;
    let data_dir = WORLD.data_dir();
    let files = WORLD.files(&data_dir);
    let (path, bytes) = files[usize::from(which) % files.len()];
    let mut damaged = bytes.to_vec();
    damages.iter().for_each(|damage| damage.apply(&mut damaged));
    fs::write(path, damaged).expect("a file that can be written");
    if let Ok(prepared) = Prepared::open(&data_dir, "text", None) {
        for stream in [&prepared.train, &prepared.val] {
            let mut ids = vec![0; stream.len()];
            stream.read(0, &mut ids).expect("tokens of an opened dataset");
            let text = prepared.tokenizer.decode(&ids).expect("ids of an opened dataset");
            assert!(!text.is_empty());
        }
    }
    fs::write(path, bytes).expect("a file that can be written");
});
