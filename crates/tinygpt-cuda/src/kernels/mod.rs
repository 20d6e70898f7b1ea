//! The kernels: an argument struct and a safe launch for each.
