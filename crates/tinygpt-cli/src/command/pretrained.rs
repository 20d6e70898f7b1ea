//! Downloads a GPT-2 from the Hugging Face hub: `hub:owner/name` in place of a model directory.
//!
//! Small files come first, so that another kind of model is refused before its weights are
//! downloaded. All files are from one commit. `tinygpt-data` has the transfer and the cache.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tinygpt_data::hub::{self, HubError, HubOptions};
use tinygpt_data::{DataError, FILE_SETS, OPTIONAL_FILES, Source};
use tinygpt_model::hf;

use crate::hub_environment;
use crate::progress::PrepareBars;
use crate::usage::UsageError;

/// Whether `name` is a repository and not a path.
pub(super) fn is_on_hub(name: &str) -> bool {
    matches!(Source::from(name), Source::Hub { .. })
}

/// The directory of the model `name`, downloaded if it is not in the cache.
///
/// # Errors
/// A wrong name, a model that is not a GPT-2, a download that fails.
pub(super) fn fetch(name: &str) -> Result<PathBuf> {
    let Source::Hub { repository, folder: None, revision } = Source::from(name) else {
        let message = format!("`{name}` is not a model; use hub:owner/name[@revision]");
        return Err(UsageError::new(message).into());
    };
    let hub = hub_environment::read()?;
    fetch_from(&hub, &repository, &revision).with_context(|| format!("cannot fetch {name}"))
}

fn fetch_from(hub: &HubOptions, repository: &str, revision: &str) -> Result<PathBuf> {
    let bars = PrepareBars::default();
    let fetch = |revision: &str, sets: &[&[&str]], optional: &[&str], hub: &HubOptions| {
        hub::fetch_model_files(repository, revision, (sets, optional), hub, &bars)
    };
    // Only the listing, which is requested here, says which optional files there are.
    let config =
        fetch(revision, &[&[hf::CONFIG]], &OPTIONAL_FILES, hub).map_err(DataError::from)?;
    let dir = config.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
    let commit = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    hf::read_config(dir)?;
    // A commit never changes: files of it in the cache need no request to the hub.
    let offline = HubOptions { offline: true, ..hub.clone() };
    let fetch = |sets: &[&[&str]]| match fetch(&commit, sets, &[], &offline) {
        Err(HubError::NotCached { .. }) => fetch(&commit, sets, &[], hub),
        found => found,
    };
    fetch(&FILE_SETS).map_err(DataError::from)?;
    let weights = fetch(&[&[hf::WEIGHTS], &[hf::INDEX]]).map_err(DataError::from)?;
    if weights.iter().any(|path| path.ends_with(hf::INDEX)) {
        let shards = hf::shard_names(dir)?;
        let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
        fetch(&[&shards]).map_err(DataError::from)?;
    }
    Ok(dir.to_owned())
}
