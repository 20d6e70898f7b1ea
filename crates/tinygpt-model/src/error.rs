//! The one error type of this crate.
//!
//! Every message names the file, key or parameter, what was found, what was expected and a hint.
//! The command line turns [`ModelError::kind`] into an exit code.

use std::path::{Path, PathBuf};

use tinygpt_cuda::{CudaError, show_bytes};
pub use tinygpt_fs::ErrorKind;

/// Everything that can go wrong in the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// One or more keys of a [`crate::ModelConfig`] are out of range; all of them are listed.
    #[error("invalid model configuration: {}", faults.join("; "))]
    Config {
        /// One sentence for each fault.
        faults: Vec<String>,
    },
    /// A call does not fit the model: token ids, lengths or parameters out of range.
    #[error("{message}")]
    Request {
        /// What was asked, what is possible.
        message: String,
    },
    /// A parameter that the model has was not given.
    #[error("parameter `{name}` of shape {shape:?} is missing")]
    MissingParameter {
        /// Name as in GPT-2.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A parameter has another size than the configuration says.
    #[error("parameter `{name}` has {got} values, expected {expected} (shape {shape:?})")]
    ParameterSize {
        /// Name as in GPT-2.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values the shape needs.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A parameter took no part in the loss.
    #[error(
        "parameter `{name}` received no gradient: the graph from the loss to it is cut, which is \
         a bug in the model"
    )]
    MissingGradient {
        /// Name as in GPT-2.
        name: String,
    },
    /// Numbers stopped being numbers.
    #[error("{what} is not finite: lower the learning rate, or resume from an earlier checkpoint")]
    NonFinite {
        /// Which quantity, with the parameter's name where there is one.
        what: String,
    },
    /// A file exists and can be read, but does not hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected and what to do.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The operating system refused threads.
    #[error("the system refuses {n} threads")]
    Threads {
        /// How many were asked for.
        n: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A training step does not fit into the memory of the GPU.
    #[error(
        "a step on {batch_size} sequences of {seq_len} tokens needs {} of GPU memory for activations, and {} are free",
        show_bytes(*.needed),
        show_bytes(*.free)
    )]
    GpuMemory {
        /// Sequences of a micro-batch.
        batch_size: usize,
        /// Tokens of a sequence.
        seq_len: usize,
        /// Bytes that it needs when as much as allowed is computed again.
        needed: usize,
        /// Bytes that are free.
        free: usize,
        /// The most sequences that fit; none: not even one does.
        most: Option<usize>,
    },
    /// A GPU or one of its libraries failed.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The tensor library failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

impl ModelError {
    /// Sorts the error into one of few kinds.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } | Self::Request { .. } | Self::GpuMemory { .. } => ErrorKind::Usage,
            Self::MissingParameter { .. } | Self::ParameterSize { .. } | Self::File { .. } => {
                ErrorKind::Corrupt
            }
            Self::NonFinite { .. } => ErrorKind::NonFinite,
            Self::Io { .. } | Self::Threads { .. } => ErrorKind::Io,
            Self::Cuda(CudaError::OutOfMemory { .. }) => ErrorKind::Usage,
            Self::MissingGradient { .. } | Self::Cuda(_) | Self::Tensor(_) => ErrorKind::Unexpected,
        }
    }

    /// What to do about it, if that is known: a sentence for a line of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cuda(CudaError::OutOfMemory { .. }) => Some(
                "lower `batch_size` and raise `gradient_accumulation_steps` by the same factor, or end other \
                 programs that use the GPU"
                    .to_owned(),
            ),
            Self::GpuMemory { most: Some(most), .. } => Some(format!(
                "lower `batch_size` to {most} and raise `gradient_accumulation_steps`, or end other programs that use \
                 the GPU"
            )),
            Self::GpuMemory { most: None, .. } => Some(
                "lower `block_size`, `n_layer` or `n_embd`, or end other programs that use the GPU".to_owned(),
            ),
            Self::Cuda(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::Request { message: message.into() }
    }

    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// Results of this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
