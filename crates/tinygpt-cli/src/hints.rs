//! What to do about an error of a library, in the words of the program that was run.
//!
//! A library does not know who asked: what is a model to `sample` is a tokenizer to `prepare`.

use tinygpt_data::hub::HubError;
use tinygpt_model::DeviceError;

/// What to do if a device cannot be used.
pub fn of_device(error: &DeviceError, binary: &str) -> String {
    match error {
        DeviceError::NotBuilt(spec) => {
            let feature = spec.feature().unwrap_or_default();
            format!(
                "build and run it with: cargo run --features {feature} --bin {binary} -- \
                 --device {feature} … (or choose --device cpu)"
            )
        }
        DeviceError::OnlyOnMacOs(_) => {
            "choose --device cpu, or --device cuda with an NVIDIA GPU".to_owned()
        }
        DeviceError::NoAnswer { .. } => {
            "check that the machine has such a GPU and its driver, or choose --device cpu".to_owned()
        }
    }
}

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
