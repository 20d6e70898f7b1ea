//! What a profile has measured.

use std::collections::HashMap;

use crate::sys::Handle;

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
    /// With the events before and after each.
    pub(crate) pending: Vec<(String, Work, [Handle; 2])>,
    pub(crate) times: HashMap<String, KernelTime>,
}

impl Recorder {
    /// Counts one launch.
    pub(crate) fn add(&mut self, name: String, work: Work, seconds: f64) {
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
}
