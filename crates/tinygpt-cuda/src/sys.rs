//! The functions of the CUDA driver, NVRTC and cublasLt that this crate calls.
//!
//! Each library is a table of function pointers, filled from one file that the search has chosen. A
//! binding crate would look libraries up by name a second time, panic if one or a function is missing,
//! and read unknown error codes into a Rust `enum`, which is undefined behaviour with a newer driver.
//!
//! Names, signatures and constants are those of `cuda.h`, `nvrtc.h` and `cublasLt.h`, CUDA 12.0 to
//! 13.x; the suffix `_v2` belongs to the name of the exported symbol.
#![expect(unsafe_code, reason = "symbols of shared libraries")]

use std::ffi::{c_char, c_int, c_uint, c_void};

use libloading::Library;

/// A handle that belongs to a library: a context, a stream, a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Handle(pub(crate) *mut c_void);

// SAFETY: never dereferenced here; the libraries allow the use of handles from any thread, one at a time.
unsafe impl Send for Handle {}
// SAFETY: as above; where a library forbids use at the same time, the owner of the handle locks.
unsafe impl Sync for Handle {}

impl Handle {
    pub(crate) const NULL: Self = Self(std::ptr::null_mut());
}

/// Declares a table of functions and how it is filled.
macro_rules! library {
    ($(#[$doc:meta])* $table:ident {
        $($field:ident = $symbol:literal ($($argument:ty),*) -> $result:ty;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $table {
            $(pub(crate) $field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            /// Looks up every function; the name of the first that is missing is the error.
            pub(crate) fn from_library(library: &Library) -> Result<Self, &'static str> {
                Ok(Self {$(
                    $field: {
                        // SAFETY: the type is the function's signature in NVIDIA's header.
                        let symbol = unsafe { library.get(concat!($symbol, "\0").as_bytes()) };
                        *symbol.map_err(|_| $symbol)?
                    },
                )*})
            }
        }
    };
}

library! {
    /// The driver: `libcuda.so.1`, `nvcuda.dll`. Results are `CUresult`.
    DriverTable {
        init = "cuInit" (c_uint) -> c_int;
        driver_version = "cuDriverGetVersion" (*mut c_int) -> c_int;
        error_name = "cuGetErrorName" (c_int, *mut *const c_char) -> c_int;
        error_string = "cuGetErrorString" (c_int, *mut *const c_char) -> c_int;
        device_count = "cuDeviceGetCount" (*mut c_int) -> c_int;
        device_get = "cuDeviceGet" (*mut c_int, c_int) -> c_int;
        device_name = "cuDeviceGetName" (*mut c_char, c_int, c_int) -> c_int;
        device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, c_int) -> c_int;
        device_memory = "cuDeviceTotalMem_v2" (*mut usize, c_int) -> c_int;
        context_retain = "cuDevicePrimaryCtxRetain" (*mut Handle, c_int) -> c_int;
        context_release = "cuDevicePrimaryCtxRelease_v2" (c_int) -> c_int;
        context_set = "cuCtxSetCurrent" (Handle) -> c_int;
        stream_create = "cuStreamCreate" (*mut Handle, c_uint) -> c_int;
        stream_destroy = "cuStreamDestroy_v2" (Handle) -> c_int;
        stream_synchronize = "cuStreamSynchronize" (Handle) -> c_int;
        memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize) -> c_int;
        memory_alloc = "cuMemAlloc_v2" (*mut u64, usize) -> c_int;
        memory_free = "cuMemFree_v2" (u64) -> c_int;
        host_alloc = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint) -> c_int;
        host_free = "cuMemFreeHost" (*mut c_void) -> c_int;
        copy_to_device = "cuMemcpyHtoDAsync_v2" (u64, *const c_void, usize, Handle) -> c_int;
        copy_to_host = "cuMemcpyDtoHAsync_v2" (*mut c_void, u64, usize, Handle) -> c_int;
        copy_on_device = "cuMemcpyDtoDAsync_v2" (u64, u64, usize, Handle) -> c_int;
        set_bytes = "cuMemsetD8Async" (u64, u8, usize, Handle) -> c_int;
        module_load = "cuModuleLoadData" (*mut Handle, *const c_void) -> c_int;
        module_unload = "cuModuleUnload" (Handle) -> c_int;
        module_function = "cuModuleGetFunction" (*mut Handle, Handle, *const c_char) -> c_int;
        function_set = "cuFuncSetAttribute" (Handle, c_int, c_int) -> c_int;
        function_get = "cuFuncGetAttribute" (*mut c_int, c_int, Handle) -> c_int;
        launch = "cuLaunchKernel" (
            Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle,
            *mut *mut c_void, *mut *mut c_void
        ) -> c_int;
        event_create = "cuEventCreate" (*mut Handle, c_uint) -> c_int;
        event_destroy = "cuEventDestroy_v2" (Handle) -> c_int;
        event_record = "cuEventRecord" (Handle, Handle) -> c_int;
        event_synchronize = "cuEventSynchronize" (Handle) -> c_int;
        event_elapsed = "cuEventElapsedTime" (*mut f32, Handle, Handle) -> c_int;
        capture_begin = "cuStreamBeginCapture_v2" (Handle, c_int) -> c_int;
        capture_end = "cuStreamEndCapture" (Handle, *mut Handle) -> c_int;
        graph_instantiate = "cuGraphInstantiateWithFlags" (*mut Handle, Handle, u64) -> c_int;
        graph_launch = "cuGraphLaunch" (Handle, Handle) -> c_int;
        graph_destroy = "cuGraphDestroy" (Handle) -> c_int;
        graph_exec_destroy = "cuGraphExecDestroy" (Handle) -> c_int;
    }
}

library! {
    /// The run-time compiler: `libnvrtc.so.13`, `nvrtc64_130_0.dll`. Results are `nvrtcResult`.
    NvrtcTable {
        version = "nvrtcVersion" (*mut c_int, *mut c_int) -> c_int;
        error_string = "nvrtcGetErrorString" (c_int) -> *const c_char;
        create = "nvrtcCreateProgram" (
            *mut Handle, *const c_char, *const c_char, c_int, *const *const c_char,
            *const *const c_char
        ) -> c_int;
        destroy = "nvrtcDestroyProgram" (*mut Handle) -> c_int;
        compile = "nvrtcCompileProgram" (Handle, c_int, *const *const c_char) -> c_int;
        cubin_size = "nvrtcGetCUBINSize" (Handle, *mut usize) -> c_int;
        cubin = "nvrtcGetCUBIN" (Handle, *mut c_char) -> c_int;
        log_size = "nvrtcGetProgramLogSize" (Handle, *mut usize) -> c_int;
        log = "nvrtcGetProgramLog" (Handle, *mut c_char) -> c_int;
    }
}

library! {
    /// Matrix products: `libcublasLt.so.13`, `cublasLt64_13.dll`. Results are `cublasStatus_t`.
    BlasTable {
        version = "cublasLtGetVersion" () -> usize;
        create = "cublasLtCreate" (*mut Handle) -> c_int;
        destroy = "cublasLtDestroy" (Handle) -> c_int;
        desc_create = "cublasLtMatmulDescCreate" (*mut Handle, c_int, c_int) -> c_int;
        desc_destroy = "cublasLtMatmulDescDestroy" (Handle) -> c_int;
        desc_set = "cublasLtMatmulDescSetAttribute" (Handle, c_int, *const c_void, usize) -> c_int;
        layout_create = "cublasLtMatrixLayoutCreate" (*mut Handle, c_int, u64, u64, i64) -> c_int;
        layout_destroy = "cublasLtMatrixLayoutDestroy" (Handle) -> c_int;
        preference_create = "cublasLtMatmulPreferenceCreate" (*mut Handle) -> c_int;
        preference_destroy = "cublasLtMatmulPreferenceDestroy" (Handle) -> c_int;
        preference_set = "cublasLtMatmulPreferenceSetAttribute" (
            Handle, c_int, *const c_void, usize
        ) -> c_int;
        heuristic = "cublasLtMatmulAlgoGetHeuristic" (
            Handle, Handle, Handle, Handle, Handle, Handle, Handle, c_int, *mut Heuristic, *mut c_int
        ) -> c_int;
        matmul = "cublasLtMatmul" (
            Handle, Handle, *const c_void, u64, Handle, u64, Handle, *const c_void, u64, Handle, u64,
            Handle, *const [u64; 8], u64, usize, Handle
        ) -> c_int;
    }
}

/// `cublasLtMatmulHeuristicResult_t`: one algorithm that can compute a product.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heuristic {
    pub(crate) algorithm: [u64; 8],
    pub(crate) workspace_bytes: usize,
    pub(crate) state: c_int,
    pub(crate) waves: f32,
    pub(crate) reserved: [c_int; 4],
}

/// Constants of `cuda.h`.
pub(crate) mod cuda {
    pub(crate) const OUT_OF_MEMORY: i32 = 2;
    pub(crate) const NO_DEVICE: i32 = 100;

    pub(crate) const MULTIPROCESSORS: i32 = 16;
    pub(crate) const CAPABILITY_MAJOR: i32 = 75;
    pub(crate) const CAPABILITY_MINOR: i32 = 76;
    pub(crate) const MAX_SHARED_OPTIN: i32 = 97;

    pub(crate) const STREAM_NON_BLOCKING: u32 = 1;
    pub(crate) const CAPTURE_THREAD_LOCAL: i32 = 1;
    pub(crate) const EVENT_DISABLE_TIMING: u32 = 2;

    pub(crate) const FUNCTION_STATIC_SHARED: i32 = 1;
    pub(crate) const FUNCTION_LOCAL_BYTES: i32 = 3;
    pub(crate) const FUNCTION_REGISTERS: i32 = 4;
    pub(crate) const FUNCTION_MAX_DYNAMIC_SHARED: i32 = 8;
}

/// Constants of `cublasLt.h` and `library_types.h`.
pub(crate) mod blas {
    pub(crate) const R_32F: i32 = 0;
    pub(crate) const R_16BF: i32 = 14;

    pub(crate) const COMPUTE_32F: i32 = 68;
    pub(crate) const COMPUTE_32F_FAST_TF32: i32 = 77;

    pub(crate) const OP_N: i32 = 0;
    pub(crate) const OP_T: i32 = 1;

    pub(crate) const DESC_TRANSA: i32 = 3;
    pub(crate) const DESC_TRANSB: i32 = 4;
    pub(crate) const DESC_EPILOGUE: i32 = 7;
    pub(crate) const DESC_BIAS_POINTER: i32 = 8;
    pub(crate) const DESC_BIAS_TYPE: i32 = 26;

    pub(crate) const EPILOGUE_BIAS: i32 = 4;

    pub(crate) const PREFERENCE_WORKSPACE: i32 = 1;
    pub(crate) const PREFERENCE_REDUCTIONS: i32 = 3;
    /// The first of four: A, B, C and D.
    pub(crate) const PREFERENCE_ALIGNMENT_A: i32 = 5;

    /// Split sums are added in a second pass over f32 partials, never by atomics.
    pub(crate) const REDUCTION_COMPUTE_TYPE: u32 = 2;
}
