//! [`CudaModel`]: the parameters of a model on a GPU and everything that trains them.
//!
//! The parameters of [`crate::Gpt`] stay on the host and are copied back when someone asks for them.
//! In `bfloat16` the master weights, gradients and moments are f32; products, activations and the residual
//! stream are bf16, as llm.c has them.

use std::collections::HashMap;
use std::sync::Arc;

use tinygpt_cuda::kernels::attention::Attention;
use tinygpt_cuda::kernels::optimizer::{self, AdamWArenas, AdamWNumbers, ArenaTables, StepResult};
use tinygpt_cuda::kernels::sums::SumTable;
use tinygpt_cuda::kernels::{Kernels, Variant};
use tinygpt_cuda::{Buffer, Compute, Dtype, Gpu, Graph, View};

use super::arena::{Arena, ArenaLayout};
use super::attention::AttentionKernels;
use super::bias_sums::sums;
use super::products::Products;
use super::step::{Into, Step};
use super::workspace::Workspace;
use crate::batch::{TokenBatch, mean, scale_of_sum};
use crate::config::ModelConfig;
use crate::device::ComputeType;
use crate::error::{ModelError, Result};
use crate::host;
use crate::layers::dropout::Dropout;
use crate::params::Params;
use crate::parts::ModelParts;
use crate::recompute::Recompute;
use crate::summary::Summary;

/// A model on a GPU.
#[derive(Debug)]
pub(crate) struct CudaModel {
    pub(crate) config: ModelConfig,
    pub(super) gpu: Gpu,
    pub(super) variant: Variant,
    pub(super) kernels: Kernels,
    pub(super) attention: AttentionKernels,
    pub(super) products: Products,
    layout: Arc<ArenaLayout>,
    pub(super) weights: Arena,
    /// The weights in bf16, where products read that.
    copy: Option<Buffer>,
    optimizer: OptimizerState,
    pub(crate) training: Option<Workspace>,
    /// What training does not keep; none: the least that its memory forces.
    pub(crate) recompute: Option<Recompute>,
    /// For batches of another shape than the training's.
    pub(super) evaluation: Option<Workspace>,
    pub(super) sums: Option<SumsOf>,
    /// `[1]` f64.
    total_loss: Buffer,
    /// Rows whose losses are in the total.
    n_losses: usize,
    pub(super) graphs: Option<HashMap<GraphKey, Option<Graph>>>,
}

/// What the optimizer's kernels read and write.
#[derive(Debug)]
struct OptimizerState {
    weight_decay: f32,
    tables: ArenaTables,
    /// [`StepResult`].
    result: Buffer,
    /// [`AdamWNumbers`].
    numbers: Buffer,
}

/// The sums that end in the gradients of one arena.
#[derive(Debug)]
pub(super) struct SumsOf {
    grads: View,
    table: SumTable,
}

/// What is fixed in the launches of a captured step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GraphKey {
    grads: u64,
    accumulate: bool,
    dropout: bool,
    documents: bool,
}

/// The numbers of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStepNumbers {
    /// As `tinygpt_kernels::adamw::AdamWStep` has them.
    pub numbers: AdamWNumbers,
    /// Decay of parameters with two dimensions.
    pub weight_decay: f32,
}

/// Types of activations and residual stream, and the precision of products.
pub(crate) fn types(compute: ComputeType) -> (Dtype, Dtype, Compute) {
    match compute {
        ComputeType::Float32 => (Dtype::F32, Dtype::F32, Compute::F32),
        ComputeType::Tf32 => (Dtype::F32, Dtype::F32, Compute::Tf32),
        ComputeType::Bfloat16 => (Dtype::Bf16, Dtype::Bf16, Compute::F32),
    }
}

impl CudaModel {
    /// Copies `params` to `gpu` and compiles the kernels for their shape.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the kernels cannot run the shape, [`ModelError::Cuda`].
    pub(crate) fn new(params: &Params, gpu: &Gpu, compute: ComputeType) -> Result<Self> {
        let config = params.config().clone();
        let (act, stream, product) = types(compute);
        let (n_embd, vocab_size) = (config.n_embd, config.vocab_size);
        let variant = Variant { act, stream, n_embd, vocab_size };
        check_shape(&config, variant)?;
        let kernels = Kernels::load(gpu, variant)?;
        let head_dim = config.n_embd / config.n_head;
        let attention = AttentionKernels::load(gpu, variant, head_dim, product == Compute::Tf32)?;
        let layout = Arc::new(ArenaLayout::new(&config));
        let weights = Arena::zeros(gpu, &layout)?;
        let copy = (act == Dtype::Bf16).then(|| gpu.alloc(act.bytes() * layout.len)).transpose()?;
        let optimizer = OptimizerState {
            weight_decay: 0.0,
            tables: ArenaTables::new(gpu, &tensors(params, &layout, 0.0), layout.len)?,
            result: gpu.alloc(size_of::<StepResult>())?,
            numbers: gpu.alloc(size_of::<AdamWNumbers>())?,
        };
        let model = Self {
            config,
            gpu: gpu.clone(),
            variant,
            kernels,
            attention,
            products: Products::new(gpu, act, product),
            layout,
            weights,
            copy,
            optimizer,
            training: None,
            recompute: None,
            evaluation: None,
            sums: None,
            total_loss: gpu.alloc(size_of::<f64>())?,
            n_losses: 0,
            graphs: Some(HashMap::new()),
        };
        gpu.zero(model.total_loss.view())?;
        model.upload(params)?;
        Ok(model)
    }

    /// Whether launches are recorded as graphs.
    pub(super) fn uses_graphs(&self) -> bool {
        self.graphs.is_some()
    }

    /// The bytes of the weights in bf16.
    pub(super) fn copy_bytes(&self) -> usize {
        self.copy.as_ref().map_or(0, |copy| copy.view().bytes())
    }

    /// Launches a captured step as one CUDA graph, or each kernel by itself: the bits are the same.
    pub(crate) fn set_graphs(&mut self, on: bool) {
        self.graphs = on.then(HashMap::new);
    }

    /// Copies the parameters to the GPU.
    pub(crate) fn upload(&self, params: &Params) -> Result<()> {
        for (i, (_, tensor)) in params.iter().enumerate() {
            self.weights.upload(i, &host::read(tensor)?)?;
        }
        match &self.copy {
            Some(copy) => {
                Ok(self.kernels.optimizer.cast_to_bf16(self.weights.view(), copy.view())?)
            }
            None => Ok(()),
        }
    }

    /// Copies the parameters back into `params`.
    pub(crate) fn download(&self, params: &Params) -> Result<()> {
        for (i, (_, tensor)) in params.iter().enumerate() {
            host::write(tensor, |values| self.weights.download(i, values))??;
        }
        Ok(())
    }

    /// Zeros in the shape of the parameters.
    pub(crate) fn zeros(&self) -> Result<Arena> {
        Arena::zeros(&self.gpu, &self.layout)
    }

    /// `values`, one array for each parameter.
    pub(crate) fn arena(&self, values: &[Vec<f32>]) -> Result<Arena> {
        let arena = self.zeros()?;
        for (i, values) in values.iter().enumerate() {
            arena.upload(i, values)?;
        }
        Ok(arena)
    }

    /// Launches forward and backward of `batch`: writes `scale` times the gradient of its mean loss to
    /// `grads`, or adds it, and counts the loss. Does not wait for the GPU.
    pub(crate) fn accumulate(
        &mut self,
        batch: &TokenBatch<'_>,
        dropout: Option<Dropout>,
        scale: f32,
        accumulate: bool,
        grads: &Arena,
    ) -> Result<()> {
        batch.validate(&self.config)?;
        let n_learned = batch.n_learned();
        self.make_room(batch.batch_size, batch.seq_len)?;
        self.attention.compile_for(&self.gpu, batch)?;
        self.sum_into(grads)?;
        let scale = scale_of_sum(scale, n_learned);
        if let Some(Workspace { inputs, .. }) = &self.training {
            inputs.upload_training(&self.gpu, (batch, &self.config), dropout, scale)?;
        }
        let key = GraphKey {
            grads: grads.view().ptr(),
            accumulate,
            dropout: dropout.is_some(),
            documents: batch.document_starts.is_some(),
        };
        self.launch(key, grads)?;
        self.n_losses = n_learned + if accumulate { self.n_losses } else { 0 };
        Ok(())
    }

    /// Launches the step of `key`: kernel by kernel the first time, which chooses the algorithms of its
    /// products, and as a graph from then on.
    fn launch(&mut self, key: GraphKey, grads: &Arena) -> Result<()> {
        if self.gpu.is_profiled() {
            return self.launch_kernels(key, grads);
        }
        let Some(mut graphs) = self.graphs.take() else { return self.launch_kernels(key, grads) };
        let launched = match graphs.get(&key) {
            Some(Some(graph)) => graph.launch().map_err(ModelError::from),
            None => self.launch_kernels(key, grads).map(|()| _ = graphs.insert(key, None)),
            Some(None) => {
                let gpu = self.gpu.clone();
                gpu.capture(|| self.launch_kernels(key, grads)).and_then(|graph| {
                    graph.launch()?;
                    graphs.insert(key, Some(graph));
                    Ok(())
                })
            }
        };
        self.graphs = Some(graphs);
        launched
    }

    fn launch_kernels(&mut self, key: GraphKey, grads: &Arena) -> Result<()> {
        let (weights, operands) = (self.weights.parts()?, self.operands()?);
        let (Some(workspace), Some(sums)) = (&self.training, &self.sums) else { return Ok(()) };
        let into = Into {
            grads: &grads.parts()?,
            sums: &sums.table,
            accumulate: key.accumulate,
            total_loss: self.total_loss.view(),
        };
        Step {
            kernels: &self.kernels,
            attention: self.attention.of(key.documents),
            products: &mut self.products,
            weights: &weights,
            operands: &operands,
            workspace,
            dropout: key.dropout,
            documents: key.documents,
        }
        .train(into)
    }

    /// The mean loss of the batches since the last overwriting [`CudaModel::accumulate`], and the norm of
    /// `grads`. Waits for the GPU once, for both.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] with the first parameter whose gradient is not finite.
    pub(crate) fn summary(&self, grads: &Arena, params: &Params) -> Result<Summary> {
        let OptimizerState { tables, result, .. } = &self.optimizer;
        let (loss, result) = (self.total_loss.view(), result.view());
        self.kernels.optimizer.global_norm(tables, grads.view(), Some(loss), result)?;
        let mut read = [StepResult::default()];
        self.gpu.download(result, &mut read)?;
        let [read] = read;
        let loss = read.loss / self.n_losses.max(1) as f64;
        let bad = read.bad_tensor().filter(|_| loss.is_finite());
        match bad.and_then(|param_idx| params.specs().get(param_idx)) {
            Some(spec) => {
                Err(ModelError::NonFinite { what: format!("the gradient of `{}`", spec.name) })
            }
            None => Ok(Summary { loss, norm: read.norm }),
        }
    }

    /// The mean loss of the batches since the last overwriting [`CudaModel::accumulate`]. Waits for the GPU.
    pub(crate) fn last_loss(&self) -> Result<f32> {
        let mut total = [0.0_f64];
        self.gpu.download(self.total_loss.view(), &mut total)?;
        Ok(mean(total[0], self.n_losses))
    }

    /// Launches one AdamW step.
    pub(crate) fn adamw(
        &mut self,
        params: &Params,
        grads: &Arena,
        [m, v]: [&Arena; 2],
        step: AdamWStepNumbers,
    ) -> Result<()> {
        if step.weight_decay.to_bits() != self.optimizer.weight_decay.to_bits() {
            let tensors = tensors(params, &self.layout, step.weight_decay);
            self.optimizer.tables = ArenaTables::new(&self.gpu, &tensors, self.layout.len)?;
            self.optimizer.weight_decay = step.weight_decay;
        }
        let numbers = self.optimizer.numbers.view();
        self.gpu.upload(numbers, &[step.numbers])?;
        let given = AdamWArenas {
            weights: self.weights.view(),
            grads: grads.view(),
            m: m.view(),
            v: v.view(),
            copy: self.copy.as_ref().map(Buffer::view),
            numbers,
        };
        Ok(self.kernels.optimizer.adamw(&self.optimizer.tables, given)?)
    }

    /// The weights as products read them.
    pub(super) fn operands(&self) -> Result<ModelParts<View>> {
        match &self.copy {
            Some(copy) => self.layout.parts(copy.view(), self.variant.act.bytes()),
            None => self.weights.parts(),
        }
    }

    /// Makes the table of sums end in `grads`.
    fn sum_into(&mut self, grads: &Arena) -> Result<()> {
        let Some(workspace) = &self.training else { return Ok(()) };
        if self.sums.as_ref().is_none_or(|sums| sums.grads != grads.view()) {
            let sums = sums(&self.kernels, workspace, &grads.parts()?)?;
            let table = SumTable::new(&self.gpu, &sums)?;
            self.sums = Some(SumsOf { grads: grads.view(), table });
            self.graphs.iter_mut().for_each(HashMap::clear);
        }
        Ok(())
    }
}

/// Refuses what the kernels cannot run.
fn check_shape(config: &ModelConfig, variant: Variant) -> Result<()> {
    let head_dim = config.n_embd / config.n_head;
    if variant.is_supported() && Attention::is_supported(head_dim) {
        return Ok(());
    }
    Err(ModelError::request(format!(
        "CUDA kernels cannot run n_embd {} with n_head {}: they need heads of 16, 32, 48, 64, 80, 96, \
         112 or 128 channels (n_embd / n_head is {head_dim}) and n_embd up to {}",
        config.n_embd,
        config.n_head,
        Variant::MAX_N_EMBD
    )))
}

/// The tensors of an arena with their weight decay.
fn tensors(params: &Params, layout: &ArenaLayout, weight_decay: f32) -> Vec<optimizer::Tensor> {
    let starts = layout.places.iter().map(|place| place.start);
    let ends = starts.clone().skip(1).chain([layout.len]);
    let tensor = |((spec, start), end): ((&crate::ParamSpec, usize), usize)| optimizer::Tensor {
        start,
        len: end - start,
        weight_decay: if spec.kind.is_decayed() { weight_decay } else { 0.0 },
    };
    params.specs().iter().zip(starts).zip(ends).map(tensor).collect()
}
