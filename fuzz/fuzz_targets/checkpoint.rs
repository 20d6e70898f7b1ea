//! Damages one file of a run's directory: a checkpoint that is found is what was saved.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tinygpt_fuzz::{Damage, World};
use tinygpt_train::InitFrom;
use tinygpt_train::checkpoint::{Which, locate};

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fuzz_target!(|input: (u8, Vec<Damage>)| {
    let (which, damages) = input;
    let out_dir = WORLD.out_dir();
    let files = WORLD.files(&out_dir);
    let (path, bytes) = files[usize::from(which) % files.len()];
    let mut damaged = bytes.to_vec();
    damages.iter().for_each(|damage| damage.apply(&mut damaged));
    fs::write(path, damaged).expect("a file that can be written");
    for which in [Which::Best, Which::Last] {
        let Ok(found) = locate(&out_dir, &which) else { continue };
        let found = fs::canonicalize(found).expect("a checkpoint that was found");
        for (path, bytes) in WORLD.files(&found) {
            let is_manifest = path.ends_with("manifest.json");
            assert!(is_manifest || fs::read(path).ok().as_deref() == Some(bytes), "{path:?}");
        }
    }
    // Either way out is right; a panic is not.
    drop(WORLD.trainer(InitFrom::Resume));
    WORLD.restore();
});
