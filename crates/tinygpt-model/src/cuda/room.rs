//! The memory of a training step: which workspace fits, and how large a batch may be if none does.

use std::collections::HashMap;
use std::slice;

use super::model::CudaModel;
use super::workspace::{Dims, Pass, Workspace};
use crate::cpu::memory::{MemoryEstimate, largest_batch_size};
use crate::error::{ModelError, Result};
use crate::recompute::Recompute;

impl CudaModel {
    /// Makes the training workspace fit B sequences of T tokens.
    pub(crate) fn make_room(&mut self, b: usize, t: usize) -> Result<()> {
        let dims = Dims::new(&self.config, self.variant, b, t);
        let asked = self.recompute;
        let fits = |workspace: &Workspace| {
            workspace.dims == dims && asked.is_none_or(|asked| asked == workspace.recompute())
        };
        if !self.training.as_ref().is_some_and(fits) {
            // Sums and graphs hold addresses of the old one.
            (self.training, self.sums) = (None, None);
            self.graphs.iter_mut().for_each(HashMap::clear);
            let pass = Pass::Training(self.least_recompute(dims)?);
            self.training = Some(Workspace::new(&self.gpu, dims, pass)?);
        }
        Ok(())
    }

    /// What was asked for, or the first that fits into the free memory.
    fn least_recompute(&self, dims: Dims) -> Result<Recompute> {
        let (free, _) = self.gpu.memory()?;
        // Modules and graphs take some more, and an allocation its granularity.
        let usable = free - free / 20;
        let needed = |b, recompute| Workspace::bytes(Dims { b, ..dims }, Pass::Training(recompute));
        let choices = self.recompute.as_ref().map_or(&Recompute::ALL[..], slice::from_ref);
        let fitting = choices.iter().find(|choice| needed(dims.b, **choice) <= usable);
        let least = choices.last().copied().unwrap_or(Recompute::Block);
        fitting.copied().ok_or_else(|| ModelError::GpuMemory {
            batch_size: dims.b,
            seq_len: dims.t,
            needed: needed(dims.b, least),
            free,
            most: largest_batch_size(dims.b, |b| needed(b, least) <= usable),
        })
    }

    /// What training on B sequences of T tokens takes, with AdamW.
    pub(crate) fn memory(&self, b: usize, t: usize) -> MemoryEstimate {
        let dims = Dims::new(&self.config, self.variant, b, t);
        let recompute = self.training.as_ref().map(Workspace::recompute).or(self.recompute);
        let pass = Pass::Training(recompute.unwrap_or(Recompute::None));
        let arena = self.weights.view().bytes() as u64;
        MemoryEstimate {
            weights: arena + self.copy_bytes() as u64,
            gradients: arena,
            optimizer: 2 * arena,
            activations: Workspace::bytes(dims, pass) as u64,
            program: 0,
        }
    }
}
