//! tinygpt-kernels
