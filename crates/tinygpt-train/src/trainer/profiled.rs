//! How long the steps of a run take, compared to the speed of the machine.

use std::time::Duration;

use tinygpt_kernels::profile;

use crate::report::Profile;

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

    pub(super) fn conclude(self, threads: usize, peak_flops: Option<f64>) -> Profile {
        let (n_steps, seconds) = (self.n_steps, self.wall.as_secs_f64());
        Profile { n_steps, seconds, threads, entries: profile::entries(), peak_flops }
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
