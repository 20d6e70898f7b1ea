//! What to do about an error of a library, in the words of the program that was run.
//!
//! A library does not know who asked: what is a model to `sample` is a tokenizer to `prepare`.

use tinygpt_data::hub::HubError;

/// What to do if the hub cannot be reached or must not be asked.
pub fn of_hub(error: &HubError, binary: &str) -> Option<String> {
    let instead = match (error.is_about_model(), binary) {
        (true, "prepare") => "name a tokenizer on this machine with --tokenizer PATH",
        (true, "train") => "name a model on this machine with --init-from DIR",
        (true, _) => "name a model on this machine with --checkpoint DIR",
        (false, _) => {
            "prepare text of your own with --source PATH, or the built-in stories with \
             --dataset-name tiny_tales"
        }
    };
    match error {
        HubError::Unreachable { .. } | HubError::Redirect { .. } => Some(format!(
            "check the connection (HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy); without it, \
             {instead}"
        )),
        HubError::NotCached { .. } => {
            Some(format!("unset HF_HUB_OFFLINE to download it once, or {instead}"))
        }
        error => error.hint().map(str::to_owned),
    }
}
