//! Stand-ins for the CUDA driver, NVRTC and cublasLt that run kernels on the CPU, for tests.
