//! The progress reports of `prepare`. This crate prints nothing.

/// A part of the work of `prepare` that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Files are downloaded.
    Download,
    /// Standard input is copied.
    ReadInput,
    /// Files are hashed.
    Identify,
    /// The text is measured, to find where the validation text starts.
    Scan,
    /// The text is read for its characters or words, and the tokenizer made from them.
    TrainTokenizer,
    /// The training text becomes shards.
    EncodeTrain,
    /// The validation text becomes shards.
    EncodeValidation,
}

impl Stage {
    /// The label of a progress bar.
    pub fn label(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::ReadInput => "read input",
            Self::Identify => "check source",
            Self::Scan => "measure text",
            Self::TrainTokenizer => "make tokenizer",
            Self::EncodeTrain => "encode train",
            Self::EncodeValidation => "encode validation",
        }
    }
}

/// Receives the progress of `prepare`.
///
/// Stages follow one another and never overlap; each `begin` is followed by a `finish`, except
/// when `prepare` fails.
pub trait PrepareProgress: Sync {
    /// A stage begins; its bytes are bytes of files, which may be compressed text.
    fn begin(&self, stage: Stage, total_bytes: Option<u64>);
    /// `bytes` more of the stage are done.
    fn advance(&self, bytes: u64);
    /// The stage is done.
    fn finish(&self);
    /// Something worth a line, such as what was left out and why.
    fn notice(&self, message: &str);
    /// Whether to stop: called every few milliseconds; if it returns true, `prepare` fails with
    /// [`DataError::Stopped`](crate::DataError::Stopped).
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Progress reports that are ignored.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl PrepareProgress for NoProgress {
    fn begin(&self, _stage: Stage, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
    fn notice(&self, _message: &str) {}
}
