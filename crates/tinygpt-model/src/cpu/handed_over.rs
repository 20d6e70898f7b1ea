//! A backward pass that hands over each gradient as soon as it is complete, so that it can be sent while the
//! pass continues.

use std::mem;

use tinygpt_kernels::Store;

use crate::cpu::data_parallel::{BatchTask, Step, Workers, clear_added, count, on_pool};
use crate::error::Result;
use crate::gradient_sink::GradientSink;
use crate::parts::{BlockParts, ModelParts};

impl Workers {
    /// [`Workers::backward`], after which `sink` has all `grads` and the arrays here are empty. It gets those of the last
    /// layer norm first, then those of the blocks from the last to the first, and the tables at the end.
    pub(crate) fn backward_into(
        &mut self,
        task: BatchTask<'_>,
        grads: &mut [Vec<f32>],
        sink: &mut dyn GradientSink,
    ) -> Result<f64> {
        let BatchTask { params, threads, batch, store, .. } = task;
        let config = params.config();
        if count(config.num_params(), batch.batch_size, threads) > 1 {
            // The gradients of several workers are complete when they are added up.
            let loss = self.backward(task, grads)?;
            let all = grads.iter_mut().enumerate();
            all.for_each(|(index, grad)| sink.ready(index, mem::take(grad)));
            return Ok(loss);
        }
        batch.validate(config)?;
        if store == Store::Overwrite {
            clear_added(params, grads.iter_mut().map(Vec::as_mut_slice));
        }
        let guards = params.read()?;
        let weights = &guards.slices();
        let step = &Step::new(&task, weights, threads);
        let index = ModelParts::indices(config)?;
        let mut own = ModelParts::from_ordered(config, grads.iter_mut().map(mem::take))?;
        let workspace = self.first_workspace();
        Ok(on_pool(threads, move || {
            let (pass, targets) = step.pass(&(0..batch.batch_size), store);
            let ln_f = &mut own.ln_f.slices();
            let given = (targets, step.scale);
            let loss = pass.train_head(weights, given, workspace, (&mut own.wte, ln_f));
            for (index, grad) in index.ln_f.iter().zip(own.ln_f.iter_mut()) {
                sink.ready(*index, mem::take(grad));
            }
            for (layer, grads) in own.blocks.iter_mut().enumerate().rev() {
                pass.block_backward(weights, layer, workspace, &mut grads.slices());
                hand_over(&index.blocks[layer], grads, sink);
            }
            pass.embedding_backward(workspace, (&mut own.wte, &mut own.wpe));
            sink.ready(index.wte, own.wte);
            sink.ready(index.wpe, own.wpe);
            loss
        }))
    }
}

fn hand_over(
    index: &BlockParts<usize>,
    grads: &mut BlockParts<Vec<f32>>,
    sink: &mut dyn GradientSink,
) {
    for (index, grad) in index.iter().zip(grads.iter_mut()) {
        sink.ready(*index, mem::take(grad));
    }
}
