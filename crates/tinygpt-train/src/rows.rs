//! The batches of a run, by its key `rows`.

use tinygpt_data::{DataError, Loader, Prepared};

use crate::config::{Rows, TrainConfig};

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
