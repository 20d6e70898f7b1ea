//! The CPU backend: a training step by hand over `tinygpt-kernels`.

pub(crate) mod data_parallel;
mod handed_over;
pub mod memory;
pub(crate) mod step;
#[cfg(test)]
mod tests;
pub(crate) mod workspace;
