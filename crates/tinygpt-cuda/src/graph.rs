//! CUDA graphs: launches that are recorded once and launched together.
//!
//! A graph costs the host one launch instead of hundreds. It holds the arguments of its kernels as they
//! were when it was recorded: numbers that change from step to step live in GPU memory.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::sync::atomic::Ordering;

use crate::sys::{Handle, cuda};
use crate::{CudaError, Gpu};

/// A recorded series of launches.
///
/// It keeps neither the modules nor the memory that its kernels use: the owner of those owns the graph
/// too, and drops it first.
#[derive(Debug)]
pub struct Graph {
    handle: Handle,
    gpu: Gpu,
}

impl Gpu {
    /// Records what `launches` launches, without running it. Only launches of the calling thread are
    /// recorded, and no other thread may launch on this [`Gpu`] meanwhile.
    ///
    /// Allocating, waiting and copying to or from the host inside is an error. Products must be planned
    /// before.
    ///
    /// # Errors
    /// The error of `launches`, or [`CudaError`] if they cannot be recorded.
    pub fn capture<E: From<CudaError>>(
        &self,
        launches: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let driver = self.current()?;
        // SAFETY: the stream lives.
        let code = unsafe { (driver.capture_begin)(self.stream(), cuda::CAPTURE_THREAD_LOCAL) };
        driver.check("cuStreamBeginCapture", code)?;
        self.inner.is_capturing.store(true, Ordering::Relaxed);
        let mut recording = Recording { gpu: self, is_open: true };
        launches()?;
        let recorded = recording.end()?;
        let mut handle = Handle::NULL;
        // SAFETY: a handle to write to, and the graph that was recorded.
        let code = unsafe { (driver.graph_instantiate)(&raw mut handle, recorded, 0) };
        // SAFETY: recorded above; what was instantiated is a copy.
        let _ = unsafe { (driver.graph_destroy)(recorded) };
        driver.check("cuGraphInstantiate", code)?;
        Ok(Graph { handle, gpu: self.clone() })
    }
}

/// A stream that records; ended on drop if an error or a panic leaves it open.
struct Recording<'a> {
    gpu: &'a Gpu,
    is_open: bool,
}

impl Recording<'_> {
    fn end(&mut self) -> Result<Handle, CudaError> {
        self.is_open = false;
        self.gpu.inner.is_capturing.store(false, Ordering::Relaxed);
        let driver = self.gpu.current()?;
        let mut graph = Handle::NULL;
        // SAFETY: a handle to write to; the stream records.
        let code = unsafe { (driver.capture_end)(self.gpu.stream(), &raw mut graph) };
        driver.check("cuStreamEndCapture", code)?;
        Ok(graph)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        if let Ok(graph) = self.end()
            && let Ok(driver) = self.gpu.current()
        {
            // SAFETY: recorded and not instantiated.
            let _ = unsafe { (driver.graph_destroy)(graph) };
        }
    }
}

impl Graph {
    /// Launches everything that was recorded.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    pub fn launch(&self) -> Result<(), CudaError> {
        let driver = self.gpu.current()?;
        // SAFETY: both live.
        let code = unsafe { (driver.graph_launch)(self.handle, self.gpu.stream()) };
        driver.check("cuGraphLaunch", code)?;
        self.gpu.launched("a graph")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(driver) = self.gpu.current() {
            // SAFETY: instantiated in `capture` and destroyed once.
            let _ = unsafe { (driver.graph_exec_destroy)(self.handle) };
        }
    }
}
