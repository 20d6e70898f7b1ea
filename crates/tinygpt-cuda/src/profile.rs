//! Where the time of a GPU goes: two events around each launch, off by default.
//!
//! While it is on, every launch is measured by itself. A kernel that is shorter than the host needs to launch
//! the next one, a few microseconds, is measured as longer than it is.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use crate::{CudaError, Gpu, GpuEvent};

/// What a launch moves and computes at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes read and written, each once.
    pub bytes: u64,
    /// Floating-point operations of its matrix products.
    pub flops: u64,
}

impl Work {
    /// Work that only moves bytes.
    #[must_use]
    pub fn bytes(bytes: usize) -> Self {
        Self { bytes: bytes as u64, flops: 0 }
    }
}

/// All launches of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel's name; for a product its shape.
    pub name: String,
    /// How often it was launched.
    pub launches: u64,
    /// The time of all launches on the GPU.
    pub seconds: f64,
    /// The work of all launches.
    pub work: Work,
}

/// Launches that were measured and not read yet.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pending: Vec<(String, Work, [GpuEvent; 2])>,
    times: HashMap<String, KernelTime>,
}

impl Gpu {
    /// Starts or stops measuring each launch. Stopping waits for the GPU.
    ///
    /// # Errors
    /// [`CudaError`] if a kernel failed.
    pub fn profile(&self, on: bool) -> Result<(), CudaError> {
        let was_on = self.inner.is_profiled.swap(on, Ordering::Relaxed);
        // Events hold this GPU: none of them may stay in what it owns.
        if was_on && !on { self.recorder().read() } else { Ok(()) }
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
        self.recorder().pending.push((name(), work, events));
        Ok(())
    }
}

impl Recorder {
    fn read(&mut self) -> Result<(), CudaError> {
        for (name, work, [before, after]) in self.pending.drain(..) {
            let seconds = f64::from(before.elapsed_ms(&after)?) * 1e-3;
            let time = self.times.entry(name.clone()).or_insert_with(|| KernelTime {
                name,
                launches: 0,
                seconds: 0.0,
                work: Work::default(),
            });
            time.launches += 1;
            time.seconds += seconds;
            time.work.bytes += work.bytes;
            time.work.flops += work.flops;
        }
        Ok(())
    }
}
