//! A cache shared with other programs: changed files are noticed, and their files are not overwritten.

use std::fs;

use tinygpt_data::hub::{HubError, HubOptions};

use super::{EVER, World};
use crate::fake_hub::{Ask, Fault, git_hash, parquet_file, sha256};

#[test]
fn a_flipped_bit_in_the_cache_is_found_when_the_file_is_next_used() {
    for (etag, name) in [(None, sha256 as fn(&[u8]) -> String), (Some(Fault::GitEtag), git_hash)] {
        let world = World::new();
        if let Some(etag) = etag {
            world.hub.fail(Ask::Description, EVER, etag);
        }
        let files = world.fetch_well();
        let blob = world.blobs().join(name(&world.train));
        let n_asked = world.hub.requests().len();
        world.fetch_well();
        let per_look = world.hub.requests().len() - n_asked;

        let mut bytes = world.train.clone();
        bytes[100_000] ^= 1;
        fs::write(&blob, &bytes).unwrap();
        // Without the hub it is an error by name, and stays as it is.
        let world = with_hub(world, false);
        let error = world.fetch().unwrap_err();
        assert!(matches!(error, HubError::NotCached { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("is damaged") && message.contains(".parquet"), "{message}");
        assert!(fs::read(&blob).unwrap() == bytes);
        // With it, it is downloaded again.
        let world = with_hub(world, true);
        assert_eq!(world.fetch_well(), files);
        assert!(world.notices().contains("is damaged"), "{}", world.notices());
        assert!(fs::read(&blob).unwrap() == world.train);
        // Once: what was compared is not compared again.
        let n_asked = world.hub.requests().len();
        world.fetch_well();
        assert_eq!(world.hub.requests().len() - n_asked, per_look);
    }
}

#[test]
fn a_download_that_differs_from_its_git_hash_is_refused() {
    let world = World::new();
    let hash = "0123456789012345678901234567890123456789";
    world.hub.fail(Ask::Description, 1, Fault::Etag(hash));
    let message = world.fetch_badly();
    assert!(message.contains(&format!("git hash {hash}")), "{message}");
}

fn with_hub(world: World, is_there: bool) -> World {
    let options = HubOptions { offline: !is_there, ..world.options.clone() };
    World { options, ..world }
}

#[cfg(unix)]
#[test]
fn what_a_link_in_the_cache_leads_to_is_not_written() {
    let link: [fn(&std::path::Path, &std::path::Path); 2] = [
        |victim, place| std::os::unix::fs::symlink(victim, place).unwrap(),
        |victim, place| fs::hard_link(victim, place).unwrap(),
    ];
    for link in link {
        let world = World::new();
        let victim = world.home.path().join("victim");
        fs::write(&victim, "somebody's").unwrap();
        fs::create_dir_all(world.blobs()).unwrap();
        let refs = world.blobs().with_file_name("refs");
        fs::create_dir_all(&refs).unwrap();
        link(&victim, &world.part());
        link(&victim, &refs.join("main"));
        world.fetch_well();
        assert_eq!(fs::read(&victim).unwrap(), b"somebody's");
        // The next run finds the revision without the hub.
        with_hub(world, false).fetch_well();
    }
}

#[test]
fn one_etag_for_several_files_mixes_nothing() {
    let world = World::new();
    world.hub.fail(Ask::Description, EVER, Fault::Etag("always-the-same"));
    for _ in 0..2 {
        let files = world.fetch_well();
        assert!(fs::read(&files.validation[0]).unwrap() == parquet_file(&["The end."]));
    }
    // A hash that two files of different sizes cannot have is refused.
    let world = World::new();
    let hash = "0123456789012345678901234567890123456789";
    world.hub.fail(Ask::Description, EVER, Fault::Etag(hash));
    let message = world.fetch().unwrap_err().to_string();
    assert!(message.contains(hash) && message.contains("different sizes"), "{message}");
}
