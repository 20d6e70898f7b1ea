//! Hints for errors of the libraries, in flags and commands.
//!
//! The libraries name keys; here they become flags, environment variables and commands.

use tinygpt_model::DeviceError;

mod data;

/// The hint if a device cannot be used.
pub fn of_device(error: &DeviceError, binary: &str) -> String {
    match error {
        DeviceError::NotBuilt(_) => format!(
            "build and run it with: cargo run --features metal --bin {binary} -- --device metal … (or \
             choose --device cpu)"
        ),
        DeviceError::OnlyOnMacOs(_) => {
            "choose --device cpu, or --device cuda with an NVIDIA GPU".to_owned()
        }
        DeviceError::Cuda { source, .. } => {
            let cpu = "choose --device cpu";
            source.hint().map_or_else(|| cpu.to_owned(), |hint| format!("{hint}, or {cpu}"))
        }
        DeviceError::NoAnswer { .. } => {
            "check that the machine has such a GPU and its driver, or choose --device cpu"
                .to_owned()
        }
    }
}

pub use data::{in_flags, of_data, of_hub};
