//! The two encodings a dataset can be prepared with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// How text becomes tokens.
///
/// ```
/// use tinygpt_data::Encoding;
/// assert_eq!("bpe".parse::<Encoding>().unwrap(), Encoding::Bpe);
/// assert_eq!(Encoding::Simple.to_string(), "simple");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// One token for each character seen in training, and one for each byte of any other.
    Simple,
    /// Byte-level byte-pair encoding, as in GPT-2.
    Bpe,
}

impl Encoding {
    /// Every encoding, in the order in which messages list them.
    pub const ALL: [Self; 2] = [Self::Simple, Self::Bpe];

    /// The name in settings, JSON and directories.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Bpe => "bpe",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Encoding {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|encoding| encoding.as_str() == name).ok_or_else(|| {
            DataError::usage(
                format!("encoding_type is `{name}`, expected `simple` or `bpe`"),
                "`simple` is character level, `bpe` byte-pair encoding",
            )
        })
    }
}
