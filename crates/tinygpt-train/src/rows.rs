//! The batches of a run, by its key `rows`.

use tinygpt_data::{DataError, Loader, Prepared};

use crate::config::{Rows, TrainConfig};
use crate::error::TrainError;
use crate::evaluate::EvalSet;

/// The loader of the training split, for sequences of `block_size` tokens.
pub(crate) fn training_loader(
    config: &TrainConfig,
    prepared: &Prepared,
    block_size: usize,
) -> Result<Loader, DataError> {
    let (stream, batch_size, seed) = (&prepared.train, config.batch_size, config.seed);
    match config.rows {
        Rows::Stream => Loader::training(stream, batch_size, block_size, seed),
        Rows::Documents => {
            let eot_id = prepared.tokenizer.eot_id();
            Loader::training_documents(stream, eot_id, (batch_size, block_size), seed)
        }
    }
}

/// The fixed windows of the training and the validation split that evaluations use.
pub(crate) fn eval_sets(
    config: &TrainConfig,
    prepared: &Prepared,
    block_size: usize,
) -> Result<[EvalSet; 2], TrainError> {
    let rows = (config.rows, prepared.tokenizer.eot_id());
    let shape = (config.batch_size, block_size);
    let set = |stream| EvalSet::new(rows, stream, config.eval_iters, shape);
    Ok([set(&prepared.train)?, set(&prepared.val)?])
}
