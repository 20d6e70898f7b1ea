//! Flipped bits, and files that are cut, extended or removed: each is found, and an older checkpoint
//! is used.

use std::fs;
use std::path::Path;

use tinygpt_train::checkpoint::{Which, locate};

use crate::common::{begun, resume, undisturbed};
use crate::program::copy_tree;
use crate::report::{Random, conclude, times};

/// The names of the files in a checkpoint.
fn files(checkpoint: &Path) -> Vec<String> {
    let entries = fs::read_dir(checkpoint).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Damages a file in some way, and says how.
fn damage(path: &Path, random: &mut Random) -> String {
    let mut bytes = fs::read(path).unwrap();
    let n = bytes.len();
    let what = match random.below(20) {
        0 => {
            fs::remove_file(path).unwrap();
            return "is gone".to_owned();
        }
        1 => {
            bytes.push(random.next() as u8);
            "has a byte more".to_owned()
        }
        2..=5 => {
            let cuts = [0, 1, 7, 8, n / 2, n - 1, random.below(n)];
            bytes.truncate(cuts[random.below(cuts.len())]);
            format!("is cut to {} of {n} bytes", bytes.len())
        }
        _ => {
            let bit = random.below(8 * n);
            bytes[bit / 8] ^= 1 << (bit % 8);
            format!("has bit {bit} of {} flipped", 8 * n)
        }
    };
    fs::write(path, bytes).unwrap();
    what
}

#[test]
fn any_damage_to_any_file_of_a_checkpoint_is_found() {
    let begun = begun(4);
    let out_dir = begun.path().join("out");
    let checkpoint = out_dir.join("checkpoints/step-00000004");
    let files = files(&checkpoint);
    assert_eq!(files.len(), 8, "{files:?}");
    let n_trials = times(500, 10_000);
    let mut failures = Vec::new();
    for trial in 0..n_trials {
        let mut random = Random::of("damage", trial);
        let name = &files[trial % files.len()];
        let path = checkpoint.join(name);
        let good = fs::read(&path).unwrap();
        let what = damage(&path, &mut random);
        match locate(&out_dir, &Which::Last) {
            Ok(_) => failures.push(format!("trial {trial}: {name} {what}, and was believed")),
            // A manifest that is wrong of a file accuses that file.
            Err(error) if name != "manifest.json" && !error.to_string().contains(name.as_str()) => {
                failures.push(format!("trial {trial}: {name} {what}, and it says {error}"));
            }
            Err(_) => {}
        }
        fs::write(&path, good).unwrap();
    }
    conclude("bit flips, cuts and losses of a file", n_trials, &failures);
}

#[test]
fn a_run_resumes_from_an_older_checkpoint_and_says_what_is_lost() {
    let begun = begun(8);
    undisturbed();
    let n_trials = times(8, 96);
    let mut failures = Vec::new();
    for trial in 0..n_trials {
        let mut random = Random::of("fallback", trial);
        let dir = crate::common::tempdir();
        copy_tree(begun.path(), dir.path());
        let out_dir = dir.path().join("out");
        let newest = out_dir.join("checkpoints/step-00000008");
        let files = files(&newest);
        let name = &files[trial % files.len()];
        let what = damage(&newest.join(name), &mut random);
        let resumed = resume(&out_dir, 0).and_then(|ran| {
            let says = ["DAMAGED", name, "from step 6", "2 steps are lost"];
            match says.into_iter().find(|words| !ran.stderr.contains(*words)) {
                None => Ok(()),
                Some(words) => Err(format!("{words:?} is not printed: {}", ran.stderr)),
            }
        });
        failures.extend(resumed.err().map(|why| format!("trial {trial}: {name} {what}: {why}")));
    }
    conclude("runs that fall back to an older checkpoint", n_trials, &failures);
}
