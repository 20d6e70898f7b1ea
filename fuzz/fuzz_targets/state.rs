//! Damages one file of a checkpoint and makes the manifest agree, so that the parsers behind it
//! are reached: the run is refused or resumes.
#![no_main]

use std::fmt::Write;
use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tinygpt_fuzz::{Damage, World};
use tinygpt_train::checkpoint::{Which, locate};
use tinygpt_train::{InitFrom, Silent, StopFlag};

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// The manifest with the true size and hash of the file `name`.
fn agreeing(manifest: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(manifest).expect("the manifest");
    let files = manifest["files"].as_array_mut().expect("a list of files");
    let entry = files.iter_mut().find(|entry| entry["name"] == name).expect("the file's entry");
    let mut sha256 = String::new();
    for byte in Sha256::digest(content) {
        write!(sha256, "{byte:02x}").expect("a string");
    }
    entry["bytes"] = json!(content.len());
    entry["sha256"] = json!(sha256);
    serde_json::to_vec_pretty(&manifest).expect("a manifest")
}

fuzz_target!(|input: (u8, Vec<Damage>)| {
    let (which, damages) = input;
    let last = locate(&WORLD.out_dir(), &Which::Last).expect("a checkpoint");
    let last = fs::canonicalize(last).expect("its directory");
    let manifest_path = last.join("manifest.json");
    let all = WORLD.files(&last);
    let manifest = all.iter().find(|(path, _)| *path == manifest_path).expect("a manifest").1;
    let files: Vec<_> = all.iter().filter(|(path, _)| *path != manifest_path).collect();
    let (path, bytes) = files[usize::from(which) % files.len()];
    let mut damaged = bytes.to_vec();
    damages.iter().for_each(|damage| damage.apply(&mut damaged));
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    fs::write(manifest_path, agreeing(manifest, name, &damaged)).expect("the manifest written");
    fs::write(path, damaged).expect("a file that can be written");
    if let Ok(mut trainer) = WORLD.trainer(InitFrom::Resume) {
        drop(trainer.run(&StopFlag::new(), &mut Silent));
    }
    WORLD.restore();
});
