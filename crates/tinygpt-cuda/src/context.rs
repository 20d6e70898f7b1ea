//! The driver's context of a GPU and the one stream that everything is launched on.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::ffi::c_int;

use crate::CudaError;
use crate::driver::Driver;
use crate::sys::{Handle, cuda};

/// The primary context of a GPU, with one stream; released on drop.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) driver: Driver,
    device: c_int,
    handle: Handle,
    pub(crate) stream: Handle,
}

impl Context {
    /// Retains the primary context, makes it current and creates the stream.
    pub(crate) fn retain(driver: Driver, device: c_int) -> Result<Self, CudaError> {
        let mut handle = Handle::NULL;
        // SAFETY: a handle to write to.
        let code = unsafe { (driver.context_retain)(&raw mut handle, device) };
        driver.check_start("cuDevicePrimaryCtxRetain", code)?;
        let mut context = Self { driver, device, handle, stream: Handle::NULL };
        context.make_current()?;
        let driver = &context.driver;
        // SAFETY: a handle to write to.
        let code =
            unsafe { (driver.stream_create)(&raw mut context.stream, cuda::STREAM_NON_BLOCKING) };
        driver.check("cuStreamCreate", code)?;
        Ok(context)
    }

    /// Makes the context current in the calling thread. Costs tens of nanoseconds.
    pub(crate) fn make_current(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained until drop.
        self.driver.check("cuCtxSetCurrent", unsafe { (self.driver.context_set)(self.handle) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A context that is lost refuses all of this, and there is nothing left to do about it.
        // SAFETY: created in `retain`, and everything that used them is dropped.
        unsafe {
            let _ = (self.driver.context_set)(self.handle);
            if self.stream != Handle::NULL {
                let _ = (self.driver.stream_destroy)(self.stream);
            }
            let _ = (self.driver.context_release)(self.device);
        }
    }
}
