//! A GPT-2 of the Hugging Face hub, brought to this machine: what `hub:owner/name` stands for where a
//! model's directory could stand.
//!
//! The small files come first, so that a model of another kind is refused before its weights are on
//! the way. All files are of one commit. Transfer and cache are the data crate's.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tinygpt_data::hub::{self, HubError, HubOptions};
use tinygpt_data::{DataError, FILE_SETS, Source};
use tinygpt_model::hf;

use crate::hub_environment;
use crate::progress::PrepareBars;
use crate::usage::UsageError;

/// Whether `name` is a repository and no path.
pub(super) fn is_on_hub(name: &str) -> bool {
    matches!(Source::from(name), Source::Hub { .. })
}

/// The directory with the model called `name`, downloaded if it is not there yet.
///
/// # Errors
/// A name that is none, another model than a GPT-2, and whatever a download can fail with.
pub(super) fn fetch(name: &str) -> Result<PathBuf> {
    let Source::Hub { repository, folder: None, revision } = Source::from(name) else {
        let expected = "expected hub:owner/name or hub:owner/name@revision";
        let message = format!("`{name}` is no model, {expected}");
        return Err(UsageError::new(message).into());
    };
    let hub = hub_environment::read()?;
    let fetched = fetch_from(&hub, &repository, &revision).map_err(in_terms_of_models);
    fetched.with_context(|| format!("cannot fetch {name}"))
}

/// A model that the network or the cache does not have: what the data crate advises is about datasets.
#[derive(Debug)]
pub(crate) struct NotFetched {
    message: String,
    /// What to do.
    pub(crate) hint: &'static str,
}

impl fmt::Display for NotFetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NotFetched {}

/// The same error, with advice for someone who wants a model.
fn in_terms_of_models(error: anyhow::Error) -> anyhow::Error {
    let Some(DataError::Hub(found)) = error.downcast_ref::<DataError>() else { return error };
    let (message, hint) = match found {
        HubError::NotCached { repository, revision, cache_dir, reason } => (
            format!(
                "offline (HF_HUB_OFFLINE), and {} does not hold {repository} at revision \
                 {revision}: {reason}",
                cache_dir.display()
            ),
            "unset HF_HUB_OFFLINE once to download it, or name a model's directory instead of hub:",
        ),
        HubError::Unreachable { host, url, source, .. } => (
            format!("could not reach {host} for {url}: {source}"),
            "check the connection, set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, or name a \
             model's directory instead of hub:",
        ),
        HubError::Redirect { url, target, reason } => (
            format!("{url} redirects to {target}, which is not followed: {reason}"),
            "check HF_ENDPOINT, or name a model's directory instead of hub:",
        ),
        _ => return error,
    };
    NotFetched { message, hint }.into()
}

fn fetch_from(hub: &HubOptions, repository: &str, revision: &str) -> Result<PathBuf> {
    let bars = PrepareBars::default();
    let fetch = |revision: &str, sets: &[&[&str]], hub: &HubOptions| {
        hub::fetch_model_files(repository, revision, sets, hub, &bars)
    };
    let config = fetch(revision, &[&[hf::CONFIG]], hub).map_err(DataError::from)?;
    let dir = config.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
    let commit = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    hf::read_config(dir)?;
    // A commit never changes: what the cache has of it needs no question to the hub.
    let offline = HubOptions { offline: true, ..hub.clone() };
    let fetch = |sets: &[&[&str]]| match fetch(&commit, sets, &offline) {
        Err(HubError::NotCached { .. }) => fetch(&commit, sets, hub),
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
