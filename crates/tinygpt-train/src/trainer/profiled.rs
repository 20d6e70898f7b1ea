//! How long the steps of a run take, compared to the speed of the machine.

use std::time::Duration;

use tinygpt_kernels::profile;
use tinygpt_model::{ComputeDevice, ModelError};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::report::{Operations, Profile};

/// The timed steps of a run.
#[derive(Debug, Default)]
pub(super) struct Profiled {
    n_steps: u64,
    wall: Duration,
}

impl Profiled {
    pub(super) fn add(&mut self, wall: Duration) {
        self.n_steps += 1;
        self.wall += wall;
    }

    /// What was measured on `device`; on a CPU with these threads and this speed.
    pub(super) fn conclude(
        self,
        device: &ComputeDevice,
        config: &TrainConfig,
        peak_flops: Option<f64>,
    ) -> Result<Profile, TrainError> {
        let operations = match device {
            ComputeDevice::Cuda(gpu) => Operations::Cuda {
                kernels: gpu.kernel_times(),
                bytes_per_second: gpu.copy_ceiling().map_err(ModelError::from)?,
                flops_per_second: peak_flops.unwrap_or_default(),
            },
            ComputeDevice::Tensors(_) => {
                let (threads, entries) = (config.resolved_threads(), profile::entries());
                Operations::Cpu { threads, entries, peak_flops }
            }
        };
        Ok(Profile { n_steps: self.n_steps, seconds: self.wall.as_secs_f64(), operations })
    }
}

/// Starts or stops measuring the operations of `device`.
pub(super) fn switch(device: &ComputeDevice, on: bool) -> Result<(), TrainError> {
    match device {
        ComputeDevice::Cuda(gpu) => Ok(gpu.profile(on).map_err(ModelError::from)?),
        ComputeDevice::Tensors(_) => {
            profile::switch(on);
            Ok(())
        }
    }
}

/// The fraction of `peak` that is `reached`; a higher `reached` becomes the new peak.
///
/// The machine may have been busy when the peak was measured: a faster step is a better
/// measurement.
pub(super) fn share_of_peak(peak: &mut f64, reached: f64) -> f64 {
    *peak = peak.max(reached);
    reached / *peak
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_faster_than_the_fastest_that_was_seen() {
        let mut peak = 100.0;
        let shares = [50.0, 200.0, 100.0, 200.0].map(|reached| share_of_peak(&mut peak, reached));
        assert_eq!(shares, [0.5, 1.0, 0.5, 1.0]);
    }
}
