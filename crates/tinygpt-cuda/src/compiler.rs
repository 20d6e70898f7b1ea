//! NVRTC: kernel files to machine code of one architecture. Needs no GPU and no driver.
#![expect(unsafe_code, reason = "calls of NVRTC")]

use std::ffi::{CStr, CString, c_char, c_int};

use crate::CudaError;
use crate::load::{self, Version};
use crate::search::Search;
use crate::source::KernelSource;
use crate::sys::{Handle, NvrtcTable};

/// `NVRTC_ERROR_COMPILATION`: the log says what is wrong with the source.
const ERROR_COMPILATION: c_int = 6;
/// `NVRTC_ERROR_INVALID_OPTION`: our options are always the same, so it is the architecture.
const ERROR_INVALID_OPTION: c_int = 5;

/// The run-time compiler.
#[derive(Debug)]
pub struct Compiler {
    table: NvrtcTable,
    version: Version,
}

/// What the compiler returns.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The machine code, an ELF file.
    pub cubin: Vec<u8>,
    /// Warnings, and the table of registers if it was asked for.
    pub log: String,
}

impl Compiler {
    /// Loads NVRTC without a driver: its version only has to be known.
    ///
    /// # Errors
    /// [`CudaError::LibraryMissing`].
    pub fn open(search: &Search) -> Result<Self, CudaError> {
        Self::load(search, (NEWEST, 0))
    }

    /// Loads NVRTC of at most the driver's major version.
    pub(crate) fn load(search: &Search, driver: Version) -> Result<Self, CudaError> {
        let (table, version) = load::nvrtc(search, driver)?;
        Ok(Self { table, version })
    }

    /// Its version: major and minor.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Compiles a file for `arch`, such as `sm_90`, with options from [`options`].
    ///
    /// # Errors
    /// [`CudaError::Compile`], [`CudaError::CompilerTooOld`].
    pub fn compile(
        &self,
        source: &KernelSource,
        options: &[String],
    ) -> Result<Compiled, CudaError> {
        let program = Program::create(self, source)?;
        let options: Vec<CString> = options.iter().map(|option| c_string(option)).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(0);
        // SAFETY: `count` texts that end in 0 and live until the call returns.
        let code = unsafe { (self.table.compile)(program.handle, count, pointers.as_ptr()) };
        let log = program.log();
        match code {
            0 => Ok(Compiled { cubin: program.cubin()?, log }),
            ERROR_COMPILATION => Err(CudaError::Compile { file: source.name.into(), log }),
            ERROR_INVALID_OPTION if log.contains("gpu-architecture") => {
                let arch = options.iter().filter_map(|option| option.to_str().ok());
                let arch = arch.filter_map(|option| option.strip_prefix(ARCH)).next();
                Err(CudaError::CompilerTooOld {
                    nvrtc: load::show(self.version),
                    arch: arch.unwrap_or("this GPU").into(),
                })
            }
            _ => {
                let log = format!("{}\n{log}", self.describe(code));
                Err(CudaError::Compile { file: source.name.into(), log })
            }
        }
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        Err(CudaError::Call { call, error: self.describe(code) })
    }

    fn describe(&self, code: c_int) -> String {
        // SAFETY: NVRTC returns a text for every code.
        let text = unsafe { (self.table.error_string)(code) };
        if text.is_null() {
            return format!("NVRTC error {code}");
        }
        // SAFETY: it ends in 0 and lives as long as the library.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// More than any version: without a driver every NVRTC is new enough.
const NEWEST: u32 = 19;

const ARCH: &str = "--gpu-architecture=";

/// The architecture of a compute capability: `sm_90`.
pub(crate) fn arch(capability: (u32, u32)) -> String {
    format!("sm_{}{}", capability.0, capability.1)
}

/// The options that a file is compiled with for `arch`, such as `sm_90`.
///
/// Never `--use_fast_math`: it flushes denormals, and AdamW's second moments are small.
#[must_use]
pub fn options(arch: &str, defines: &[(&'static str, u32)]) -> Vec<String> {
    let fixed = [format!("{ARCH}{arch}"), "--std=c++17".into()];
    fixed
        .into_iter()
        .chain(defines.iter().map(|(name, value)| format!("-D{name}={value}")))
        .collect()
}

/// A program of NVRTC, destroyed on drop.
struct Program<'a> {
    compiler: &'a Compiler,
    handle: Handle,
}

impl<'a> Program<'a> {
    fn create(compiler: &'a Compiler, source: &KernelSource) -> Result<Self, CudaError> {
        let text = c_string(source.text);
        let name = c_string(source.name);
        let headers: Vec<(CString, CString)> =
            source.headers.iter().map(|(name, text)| (c_string(name), c_string(text))).collect();
        let names: Vec<*const c_char> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
        let texts: Vec<*const c_char> = headers.iter().map(|(_, text)| text.as_ptr()).collect();
        let count = c_int::try_from(headers.len()).unwrap_or(0);
        let mut handle = Handle::NULL;
        // SAFETY: texts that end in 0; NVRTC copies them.
        let code = unsafe {
            (compiler.table.create)(
                &raw mut handle,
                text.as_ptr(),
                name.as_ptr(),
                count,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        compiler.check("nvrtcCreateProgram", code)?;
        Ok(Self { compiler, handle })
    }

    /// The compiler's output; empty if it cannot be had.
    fn log(&self) -> String {
        let mut length = 0;
        // SAFETY: an integer to write to.
        if unsafe { (self.compiler.table.log_size)(self.handle, &raw mut length) } != 0 {
            return String::new();
        }
        let mut bytes = vec![0u8; length];
        // SAFETY: room for the length that was asked for.
        if unsafe { (self.compiler.table.log)(self.handle, bytes.as_mut_ptr().cast()) } != 0 {
            return String::new();
        }
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim_end().to_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, CudaError> {
        let mut length = 0;
        // SAFETY: an integer to write to.
        let code = unsafe { (self.compiler.table.cubin_size)(self.handle, &raw mut length) };
        self.compiler.check("nvrtcGetCUBINSize", code)?;
        let mut bytes = vec![0u8; length];
        // SAFETY: room for the length that was asked for.
        let code = unsafe { (self.compiler.table.cubin)(self.handle, bytes.as_mut_ptr().cast()) };
        self.compiler.check("nvrtcGetCUBIN", code)?;
        Ok(bytes)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: created in `create` and destroyed once.
        let _ = unsafe { (self.compiler.table.destroy)(&raw mut self.handle) };
    }
}

/// A text for C, up to its first 0, which no source file or option has.
fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}
