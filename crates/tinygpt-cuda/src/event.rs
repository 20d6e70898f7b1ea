//! Events: points in the stream whose distance in time can be measured.
#![expect(unsafe_code, reason = "calls of the driver")]

use crate::sys::Handle;
use crate::{CudaError, Gpu};

/// A point in the stream.
#[derive(Debug)]
pub struct GpuEvent {
    handle: Handle,
    gpu: Gpu,
}

impl GpuEvent {
    /// An event that is not recorded.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        let driver = gpu.current()?;
        let mut handle = Handle::NULL;
        // SAFETY: a handle to write to.
        let code = unsafe { (driver.event_create)(&raw mut handle, 0) };
        driver.check("cuEventCreate", code)?;
        Ok(Self { handle, gpu: gpu.clone() })
    }

    /// The event of [`GpuEvent::into_handle`].
    pub(crate) fn from_handle(handle: Handle, gpu: &Gpu) -> Self {
        Self { handle, gpu: gpu.clone() }
    }

    /// The driver's event, for [`GpuEvent::from_handle`]: what a GPU owns cannot hold that GPU.
    pub(crate) fn into_handle(mut self) -> Handle {
        std::mem::replace(&mut self.handle, Handle::NULL)
    }

    /// Marks the point after everything launched so far.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn record(&self) -> Result<(), CudaError> {
        let driver = self.gpu.current()?;
        // SAFETY: both live.
        let code = unsafe { (driver.event_record)(self.handle, self.gpu.stream()) };
        driver.check("cuEventRecord", code)
    }

    /// Waits until the GPU has reached this point.
    ///
    /// # Errors
    /// [`CudaError`] if a kernel failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let driver = self.gpu.current()?;
        // SAFETY: the event lives.
        let code = unsafe { (driver.event_synchronize)(self.handle) };
        driver.check("cuEventSynchronize", code)
    }

    /// Milliseconds from this event to a `later` one. Waits for both.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails or one of them was not recorded.
    pub fn elapsed_ms(&self, later: &Self) -> Result<f32, CudaError> {
        later.synchronize()?;
        let driver = self.gpu.current()?;
        let mut milliseconds = 0.0;
        // SAFETY: a number to write to; both events live.
        let code =
            unsafe { (driver.event_elapsed)(&raw mut milliseconds, self.handle, later.handle) };
        driver.check("cuEventElapsedTime", code)?;
        Ok(milliseconds)
    }
}

impl Drop for GpuEvent {
    fn drop(&mut self) {
        if self.handle != Handle::NULL
            && let Ok(driver) = self.gpu.current()
        {
            // SAFETY: created in `new` and destroyed once.
            let _ = unsafe { (driver.event_destroy)(self.handle) };
        }
    }
}
