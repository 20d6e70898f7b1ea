//! `train --verify-resume`: prints what was compared, and whether it was equal.

use anyhow::{Result, bail};
use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_train::{Compared, StopFlag, TrainConfig};

use crate::exit::Ended;
use crate::terminal::{Output, say};

/// Proves that resuming is exact with `config`, or fails.
pub(super) fn verify_resume(
    device: &ComputeDevice,
    config: &TrainConfig,
    n: u64,
    prepared: Prepared,
    stop: &StopFlag,
) -> Result<Ended> {
    say(&format!(
        "training {} steps without a stop, and again with a stop after {n}, in {}",
        2 * n,
        std::env::temp_dir().display()
    ));
    let compared = tinygpt_train::verify_resume(device, config, n, prepared, stop)?;
    let Some(compared) = compared else {
        return Ok(Ended::Stopped(stop.signal().unwrap_or_default()));
    };
    let mut out = Output::lock();
    for Compared { what, extent, difference } in &compared {
        out.print(&match difference {
            None => format!("{what:8}  equal   {extent}\n"),
            Some(difference) => format!("{what:8}  DIFFER  {difference}\n"),
        })?;
    }
    if compared.iter().any(|one| one.difference.is_some()) {
        bail!("the resumed run differs from the uninterrupted one, see above");
    }
    out.print("the resumed run equals the uninterrupted one, bit for bit\n")?;
    Ok(Ended::Done)
}
