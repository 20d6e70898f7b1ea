//! Kernel files as part of the binary.

/// A kernel file that is part of the binary, and the headers it includes.
#[derive(Clone, Copy, Debug)]
pub struct KernelSource {
    /// The name of the file, such as `adamw.cu`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The headers by the name in `#include`, with their text.
    pub headers: &'static [(&'static str, &'static str)],
}

/// The `-D` options of a module: names and values.
pub type Defines<'a> = &'a [(&'static str, u32)];
