//! Opens the device that `--device` names.

use anyhow::Result;
use tinygpt_model::{ComputeDevice, DeviceSpec};
use tinygpt_train::chain;

use crate::hints;
use crate::terminal::say;

/// Opens the device; if `auto` cannot use a GPU whose driver is there, says why.
///
/// # Errors
/// [`tinygpt_model::DeviceError`] if this build or this machine does not have it.
pub fn open(spec: DeviceSpec, binary: &str) -> Result<ComputeDevice> {
    if spec != DeviceSpec::Auto {
        return Ok(ComputeDevice::open(spec)?);
    }
    let (device, reason) = ComputeDevice::open_best();
    if let Some(reason) = reason {
        say(&format!("note: computing on {}: {}", device.name(), chain(&reason)));
        say(&format!("hint: {}", hints::of_device(&reason, binary)));
    }
    Ok(device)
}
