//! What ends a run because of its ranks.

use serde::{Deserialize, Serialize};
use tinygpt_fs::ErrorKind;

use super::collective::Lost;
use crate::error::{TrainError, chain};

/// The error of one rank, as the others get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its message, on one line.
    pub message: String,
    /// Its hint.
    pub hint: Option<String>,
    /// Its place in [`KINDS`].
    kind: usize,
}

const KINDS: [ErrorKind; 8] = [
    ErrorKind::Unexpected,
    ErrorKind::Usage,
    ErrorKind::Corrupt,
    ErrorKind::Io,
    ErrorKind::Network,
    ErrorKind::NonFinite,
    ErrorKind::Locked,
    ErrorKind::Ranks,
];

impl Failure {
    /// The failure of an error.
    pub fn new(message: String, hint: Option<String>, kind: ErrorKind) -> Self {
        let kind = KINDS.iter().position(|one| *one == kind).unwrap_or_default();
        Self { message, hint, kind }
    }

    fn kind(&self) -> ErrorKind {
        KINDS.get(self.kind).copied().unwrap_or(ErrorKind::Unexpected)
    }
}

impl TrainError {
    /// The error as other ranks get it.
    pub fn failure(&self) -> Failure {
        Failure::new(chain(self), self.hint(), self.kind())
    }
}

/// Why a run on several ranks cannot start or continue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RanksError {
    /// Ranks do not answer.
    #[error("{} at step {step}: {}", who(.lost), .lost.reason)]
    Lost {
        /// Which, and why.
        lost: Lost,
        /// Steps made.
        step: u64,
    },

    /// A rank has ended with an error of its own.
    #[error("rank {rank}: {}", .failure.message)]
    Failed {
        /// The rank.
        rank: usize,
        /// Its error.
        failure: Failure,
    },

    /// The ranks would not train the same run.
    #[error("rank {rank} differs from rank 0: `{key}` is {theirs} there and {ours} here")]
    Differs {
        /// The first rank that differs.
        rank: usize,
        /// What differs: a key of the configuration, or a property of program, machine or data.
        key: String,
        /// The value on that rank.
        theirs: String,
        /// The value on rank 0.
        ours: String,
    },

    /// The ranks do not have the same weights any more.
    #[error("the weights of rank {rank} differ from those of rank 0 after {step} steps")]
    WeightsDiffer {
        /// The first rank that differs.
        rank: usize,
        /// Steps made.
        step: u64,
    },

    /// There is not a window for each rank.
    #[error(
        "a step has {n_windows} windows (batch_size x gradient_accumulation_steps), and there are {n_ranks} ranks"
    )]
    TooMany {
        /// Windows in a step.
        n_windows: usize,
        /// Ranks.
        n_ranks: usize,
    },

    /// Something that one process does alone.
    #[error("{what} works in one process only, and there are {n_ranks} ranks")]
    Alone {
        /// What was asked for.
        what: String,
        /// Ranks.
        n_ranks: usize,
    },

    /// A message that this build does not understand.
    #[error("rank {rank} has sent a message that this build cannot read")]
    Unreadable {
        /// Who has sent it.
        rank: usize,
    },
}

impl RanksError {
    /// The coarse class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lost { .. } | Self::WeightsDiffer { .. } | Self::Unreadable { .. } => {
                ErrorKind::Ranks
            }
            Self::Failed { failure, .. } => failure.kind(),
            Self::Differs { .. } | Self::TooMany { .. } | Self::Alone { .. } => ErrorKind::Usage,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Lost { .. } => {
                "start the run again with `init_from` resume: it continues from the \
                                  last checkpoint, on any number of ranks"
                    .to_owned()
            }
            Self::Failed { failure, .. } => return failure.hint.clone(),
            Self::Differs { .. } | Self::Unreadable { .. } => {
                "start the same program with the same options and data on every rank".to_owned()
            }
            Self::WeightsDiffer { .. } => {
                "memory or the network may be faulty: continue from the last \
                                           checkpoint with `init_from` resume, without that machine"
                    .to_owned()
            }
            Self::TooMany { n_windows, .. } => {
                format!("start at most {n_windows} ranks, or raise `batch_size`")
            }
            Self::Alone { .. } => "start it without the launcher".to_owned(),
        })
    }
}

/// The lost ranks as the subject of a sentence.
fn who(lost: &Lost) -> String {
    let names: Vec<String> = lost.ranks.iter().map(ToString::to_string).collect();
    match names.as_slice() {
        [] => "a rank was lost".to_owned(),
        [one] => format!("rank {one} was lost"),
        several => format!("ranks {} were lost", several.join(", ")),
    }
}
