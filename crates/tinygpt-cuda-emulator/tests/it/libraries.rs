//! The functions of the driver, of NVRTC and of cublasLt.
