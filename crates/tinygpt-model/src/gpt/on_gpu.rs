//! What a [`Gpt`] does on a GPU only: it goes there, comes back, and makes steps there.

use tinygpt_cuda::Gpu;

use super::{Engine, Gpt, elsewhere};
use crate::cpu::memory::{MemoryEstimate, training_bytes};
use crate::cuda::arena::Arena;
use crate::cuda::model::{AdamWStepNumbers, CudaModel};
use crate::cuda::workspace::Workspace;
use crate::device::ComputeType;
use crate::error::Result;
use crate::recompute::Recompute;

impl Gpt {
    /// Trains and decodes with [`Backend::Cuda`](crate::Backend::Cuda) on `gpu` from now on; gradients and
    /// moments have to be made anew.
    ///
    /// # Errors
    /// [`ModelError::Request`](crate::ModelError::Request) if the kernels cannot run its shape, [`ModelError::Cuda`](crate::ModelError::Cuda).
    pub fn move_to_gpu(&mut self, gpu: &Gpu, compute: ComputeType) -> Result<()> {
        self.engine = Engine::Cuda(Box::new(CudaModel::new(&self.params, gpu, compute)?));
        Ok(())
    }

    /// Allocates what training on B sequences of T tokens needs on a GPU, so that a run which does not fit
    /// ends before it starts. Nothing on other backends, which allocate at the first batch.
    ///
    /// # Errors
    /// [`ModelError::GpuMemory`](crate::ModelError::GpuMemory) with the batch size that fits.
    pub fn reserve(&mut self, batch_size: usize, seq_len: usize) -> Result<()> {
        match &mut self.engine {
            Engine::Cuda(model) => model.make_room(batch_size, seq_len),
            Engine::Cpu(_) | Engine::Autograd => Ok(()),
        }
    }

    /// Launches a step on a GPU as one CUDA graph, which is the default, or each kernel by itself; the bits
    /// are the same. Nothing on other backends.
    pub fn set_cuda_graphs(&mut self, on: bool) {
        if let Engine::Cuda(model) = &mut self.engine {
            model.set_graphs(on);
        }
    }

    /// What a step on a GPU computes again instead of keeping it; `None`, the default: the least that fits
    /// into the memory. The bits are the same. Nothing on other backends.
    pub fn set_recompute(&mut self, recompute: Option<Recompute>) {
        if let Engine::Cuda(model) = &mut self.engine {
            model.recompute = recompute;
        }
    }

    /// What a step on a GPU computes again, once its memory [is reserved](Self::reserve).
    pub fn recompute(&self) -> Option<Recompute> {
        match &self.engine {
            Engine::Cuda(model) => model.training.as_ref().map(Workspace::recompute),
            Engine::Cpu(_) | Engine::Autograd => None,
        }
    }

    /// The memory that training with AdamW on B sequences of T tokens takes: on a GPU what is allocated, else
    /// an [estimate](training_bytes).
    pub fn training_memory(&self, batch_size: usize, seq_len: usize) -> MemoryEstimate {
        match &self.engine {
            Engine::Cuda(model) => model.memory(batch_size, seq_len),
            Engine::Cpu(_) | Engine::Autograd => {
                training_bytes(self.config(), batch_size, seq_len, self.n_threads)
            }
        }
    }

    /// Brings the parameters of a model that trains on a GPU to the host, where saving reads
    /// them. Nothing on other backends.
    ///
    /// # Errors
    /// [`ModelError::Cuda`](crate::ModelError::Cuda).
    pub fn download(&self) -> Result<()> {
        match &self.engine {
            Engine::Cuda(model) => model.download(&self.params),
            Engine::Cpu(_) | Engine::Autograd => Ok(()),
        }
    }

    /// Makes one AdamW step on a GPU; `moments` are the first and the second.
    ///
    /// # Errors
    /// [`ModelError::Request`](crate::ModelError::Request) on another backend, [`ModelError::Cuda`](crate::ModelError::Cuda).
    pub fn adamw_on_gpu(
        &mut self,
        grads: &Arena,
        moments: [&Arena; 2],
        step: AdamWStepNumbers,
    ) -> Result<()> {
        match &mut self.engine {
            Engine::Cuda(model) => model.adamw(&self.params, grads, moments, step),
            Engine::Cpu(_) | Engine::Autograd => Err(elsewhere()),
        }
    }
}
