//! Loss and logits of a model on a GPU: passes without gradients.

use tinygpt_cuda::{Dtype, Gpu, View};

use super::model::CudaModel;
use super::step::Step;
use super::workspace::{Dims, Pass, Workspace};
use crate::batch::{TokenBatch, check_ids, mean};
use crate::error::Result;

impl CudaModel {
    /// The mean loss, without dropout.
    pub(crate) fn loss(&mut self, batch: &TokenBatch<'_>) -> Result<f32> {
        batch.validate(&self.config)?;
        let total = self.gpu.alloc(size_of::<f64>())?;
        self.evaluate(batch, |step| step.loss(total.view()))?;
        let mut loss = [0.0_f64];
        self.gpu.download(total.view(), &mut loss)?;
        Ok(mean(loss[0], batch.n_learned()))
    }

    /// All logits, `[B, T, V]`.
    pub(crate) fn logits(&mut self, ids: &[u32], (b, t): (usize, usize)) -> Result<Vec<f32>> {
        check_ids(&self.config, ids, b, t)?;
        let (gpu, variant) = (self.gpu.clone(), self.variant);
        let mut logits = Vec::with_capacity(ids.len() * variant.vocab_size);
        let batch = TokenBatch {
            inputs: ids,
            targets: ids,
            document_starts: None,
            batch_size: b,
            seq_len: t,
        };
        self.evaluate(&batch, |step| {
            step.logits(|chunk, _| {
                let values = read_act(&gpu, chunk, variant.act)?;
                let rows = values.chunks(variant.padded_vocab_size());
                logits.extend(rows.flat_map(|row| &row[..variant.vocab_size]));
                Ok(())
            })
        })?;
        Ok(logits)
    }

    /// Uploads tokens and runs `work` on a workspace of their shape, without dropout.
    fn evaluate(
        &mut self,
        batch: &TokenBatch<'_>,
        work: impl FnOnce(&mut Step<'_>) -> Result<()>,
    ) -> Result<()> {
        let dims = Dims::new(&self.config, self.variant, batch.batch_size, batch.seq_len);
        let fits = |workspace: &Option<Workspace>| {
            workspace.as_ref().is_some_and(|workspace| workspace.dims == dims)
        };
        if !fits(&self.training) && !fits(&self.evaluation) {
            self.evaluation = None;
            self.evaluation = Some(Workspace::new(&self.gpu, dims, Pass::Forward)?);
        }
        self.attention.compile_for(&self.gpu, batch)?;
        let (weights, operands) = (self.weights.parts()?, self.operands()?);
        let found = [&self.training, &self.evaluation].into_iter().flatten();
        let Some(workspace) = found.into_iter().find(|workspace| workspace.dims == dims) else {
            return Ok(());
        };
        workspace.inputs.upload(&self.gpu, batch)?;
        work(&mut Step {
            kernels: &self.kernels,
            attention: self.attention.of(batch.document_starts.is_some()),
            products: &mut self.products,
            weights: &weights,
            operands: &operands,
            workspace,
            dropout: false,
            documents: batch.document_starts.is_some(),
        })
    }
}

/// Values of activations in f32.
fn read_act(gpu: &Gpu, view: View, act: Dtype) -> Result<Vec<f32>> {
    match act {
        Dtype::F32 => {
            let mut values = vec![0.0; view.len_of::<f32>()];
            gpu.download(view, &mut values)?;
            Ok(values)
        }
        Dtype::Bf16 => {
            let mut values = vec![0_u16; view.len_of::<u16>()];
            gpu.download(view, &mut values)?;
            Ok(values.iter().map(|bits| f32::from_bits(u32::from(*bits) << 16)).collect())
        }
    }
}
