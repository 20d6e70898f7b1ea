//! The driver: which GPUs there are, and its error codes as errors.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::ffi::{CStr, c_char, c_int};
use std::ops::Deref;
use std::ptr;
use std::sync::Mutex;

use crate::CudaError;
use crate::error::{Kind, kind_of};
use crate::load::{self, Version, show};
use crate::search::{OLDEST, Search};
use crate::sys::{DriverTable, cuda};

/// The driver, initialized.
#[derive(Debug)]
pub(crate) struct Driver {
    table: DriverTable,
    /// The newest version of CUDA that it supports.
    pub(crate) version: Version,
    /// What was launched last, for the error of a kernel that stopped later.
    last_launch: Mutex<&'static str>,
}

impl Deref for Driver {
    type Target = DriverTable;

    fn deref(&self) -> &DriverTable {
        &self.table
    }
}

impl Driver {
    /// Loads and initializes the driver.
    ///
    /// # Errors
    /// [`CudaError`]: it is missing, too old, or does not start.
    pub(crate) fn load(search: &Search) -> Result<Self, CudaError> {
        let table = load::driver(search)?;
        let mut driver = Self { table, version: (0, 0), last_launch: Mutex::new("nothing") };
        // SAFETY: the flags must be 0.
        let code = unsafe { (driver.init)(0) };
        if code == cuda::NO_DEVICE {
            return Err(CudaError::NoCard { index: 0, found: 0 });
        }
        driver.check_start("cuInit", code)?;
        let mut number: c_int = 0;
        // SAFETY: an integer to write to.
        driver.check("cuDriverGetVersion", unsafe { (driver.driver_version)(&raw mut number) })?;
        // 12080 is 12.8.
        let number = u32::try_from(number).unwrap_or(0);
        driver.version = (number / 1000, number % 1000 / 10);
        if driver.version.0 < OLDEST {
            return Err(CudaError::DriverTooOld {
                driver: show(driver.version),
                needed_by: "this program".into(),
                needed: show((OLDEST, 0)),
                hint: "update NVIDIA's driver to version 525 or newer".into(),
            });
        }
        Ok(driver)
    }

    /// The number of GPUs.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub(crate) fn count(&self) -> Result<usize, CudaError> {
        let mut count: c_int = 0;
        // SAFETY: an integer to write to.
        self.check("cuDeviceGetCount", unsafe { (self.device_count)(&raw mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The handle of a GPU.
    ///
    /// # Errors
    /// [`CudaError::NoCard`].
    pub(crate) fn device(&self, index: usize) -> Result<c_int, CudaError> {
        let found = self.count()?;
        let ordinal = c_int::try_from(index).ok().filter(|_| index < found);
        let ordinal = ordinal.ok_or(CudaError::NoCard { index, found })?;
        let mut device: c_int = 0;
        // SAFETY: an integer to write to.
        self.check("cuDeviceGet", unsafe { (self.device_get)(&raw mut device, ordinal) })?;
        Ok(device)
    }

    /// The name of a GPU.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub(crate) fn name(&self, device: c_int) -> Result<String, CudaError> {
        let mut bytes = [0u8; 256];
        let name = bytes.as_mut_ptr().cast::<c_char>();
        // SAFETY: the driver writes at most 255 bytes, the last of them 0.
        self.check("cuDeviceGetName", unsafe { (self.device_name)(name, 255, device) })?;
        let name = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }

    /// A number that the driver knows about a GPU.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub(crate) fn attribute(&self, device: c_int, attribute: i32) -> Result<u32, CudaError> {
        let mut value: c_int = 0;
        // SAFETY: an integer to write to.
        let code = unsafe { (self.device_attribute)(&raw mut value, attribute, device) };
        self.check("cuDeviceGetAttribute", code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// Notes what is launched.
    pub(crate) fn note_launch(&self, name: &'static str) {
        if let Ok(mut last) = self.last_launch.lock() {
            *last = name;
        }
    }

    /// As [`Driver::check`] for a call that starts the driver or the GPU: nothing is lost that was not there.
    ///
    /// # Errors
    /// [`CudaError::Call`], [`CudaError::OutOfMemory`].
    pub(crate) fn check_start(&self, call: &'static str, code: c_int) -> Result<(), CudaError> {
        match self.check(call, code) {
            Err(CudaError::Lost { error } | CudaError::Fault { error, .. }) => {
                Err(CudaError::Call { call, error })
            }
            other => other,
        }
    }

    /// The error of a call that returned `code`.
    ///
    /// # Errors
    /// [`CudaError`] if the code is not 0.
    pub(crate) fn check(&self, call: &'static str, code: c_int) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        let error = self.describe(code);
        let is_memory = code == cuda::OUT_OF_MEMORY;
        Err(match kind_of(code) {
            _ if is_memory => CudaError::OutOfMemory { asked: 0, free: self.free_bytes() },
            Kind::Fault => {
                let last = self.last_launch.lock().map_or("unknown", |last| *last).into();
                CudaError::Fault { error, last }
            }
            Kind::Lost => CudaError::Lost { error },
            Kind::Refused => CudaError::Call { call, error },
        })
    }

    /// `CUDA_ERROR_INVALID_VALUE (invalid argument)`
    pub(crate) fn describe(&self, code: c_int) -> String {
        let text = |function: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text: *const c_char = ptr::null();
            // SAFETY: a pointer to write to.
            let result = unsafe { function(code, &raw mut text) };
            if result != 0 || text.is_null() {
                return None;
            }
            // SAFETY: the driver returns a text that ends in 0 and lives as long as the library.
            Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (text(self.error_name), text(self.error_string)) {
            (Some(name), Some(meaning)) => format!("{name} ({meaning})"),
            (Some(name), None) => name,
            _ => format!("CUDA error {code}"),
        }
    }

    /// Free bytes of the current context's GPU; 0 if the driver cannot say.
    pub(crate) fn free_bytes(&self) -> usize {
        let (mut free, mut total) = (0, 0);
        // SAFETY: two integers to write to.
        let code = unsafe { (self.memory_info)(&raw mut free, &raw mut total) };
        if code == 0 { free } else { 0 }
    }
}
