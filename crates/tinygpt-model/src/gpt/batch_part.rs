//! A batch whose sequences are divided among several models with the same weights.

use tinygpt_kernels::Store;

use super::{Engine, Gpt};
use crate::backend::Grads;
use crate::batch::{Part, TokenBatch};
use crate::cpu::data_parallel::BatchTask;
use crate::error::{ModelError, Result};
use crate::gradient_sink::GradientSink;
use crate::layers::dropout::DropoutKey;

impl Gpt {
    /// [`Gpt::accumulate`] for a `part` of a larger batch, on the CPU: the gradients of all its parts, added
    /// up, are those of the larger batch, with the same dropout masks. Returns the summed loss of this part
    /// in nats, which [`Gpt::summary`] does not know.
    ///
    /// With a `sink`, which gets each gradient as soon as it is complete, the arrays of `grads` are empty afterwards.
    ///
    /// # Errors
    /// Those of [`Gpt::backward`]; [`ModelError::Request`] if the part is not inside its batch, or if the
    /// model is not computed by [`Backend::Cpu`](crate::Backend::Cpu).
    pub fn accumulate_part(
        &mut self,
        (batch, part): (&TokenBatch<'_>, Part),
        dropout: Option<DropoutKey>,
        scale: f32,
        store: Store,
        grads: &mut Grads,
        sink: Option<&mut dyn GradientSink>,
    ) -> Result<f64> {
        self.check_dropout(dropout)?;
        if part.first.checked_add(batch.batch_size).is_none_or(|end| end > part.of) {
            return Err(ModelError::request(format!(
                "{} sequences from number {} on are not inside a batch of {}",
                batch.batch_size, part.first, part.of
            )));
        }
        let (Engine::Cpu(workers), Grads::Host(grads)) = (&mut self.engine, grads) else {
            return Err(ModelError::request("only the CPU computes a part of a batch"));
        };
        let (params, threads) = (&self.params, self.n_threads);
        let task = BatchTask { params, threads, batch, part, dropout, scale, store };
        match sink {
            Some(sink) => workers.backward_into(task, grads, sink),
            None => workers.backward(task, grads),
        }
    }
}
