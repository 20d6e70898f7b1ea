//! Where the time of a GPU goes: two events around each launch, off by default.
//!
//! While it is on, every launch is measured by itself. A kernel that is shorter than the host needs to launch
//! the next one, a few microseconds, is measured as longer than it is.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use crate::recorder::{KernelTime, Recorder, Work};
use crate::{CudaError, Gpu, GpuEvent};

impl Gpu {
    /// Starts or stops measuring each launch. Stopping waits for the GPU.
    ///
    /// # Errors
    /// [`CudaError`] if a kernel failed.
    pub fn profile(&self, on: bool) -> Result<(), CudaError> {
        let was_on = self.inner.is_profiled.swap(on, Ordering::Relaxed);
        if was_on && !on { self.read_events() } else { Ok(()) }
    }

    fn read_events(&self) -> Result<(), CudaError> {
        let mut recorder = self.recorder();
        for (name, work, events) in std::mem::take(&mut recorder.pending) {
            let [before, after] = events.map(|handle| GpuEvent::from_handle(handle, self));
            let seconds = f64::from(before.elapsed_ms(&after)?) * 1e-3;
            recorder.add(name, work, seconds);
        }
        Ok(())
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.inner.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether launches are measured.
    #[must_use]
    pub fn is_profiled(&self) -> bool {
        self.inner.is_profiled.load(Ordering::Relaxed)
    }

    /// What was measured so far, in no order; not what was launched since the profile is on.
    #[must_use]
    pub fn kernel_times(&self) -> Vec<KernelTime> {
        self.recorder().times.values().cloned().collect()
    }

    /// Runs a launch; while the profile is on, with an event before and after it.
    pub(crate) fn measured(
        &self,
        name: impl FnOnce() -> String,
        work: Work,
        launch: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        if !self.is_profiled() || self.inner.is_capturing.load(Ordering::Relaxed) {
            return launch();
        }
        let events = [GpuEvent::new(self)?, GpuEvent::new(self)?];
        events[0].record()?;
        launch()?;
        events[1].record()?;
        self.recorder().pending.push((name(), work, events.map(GpuEvent::into_handle)));
        Ok(())
    }
}
