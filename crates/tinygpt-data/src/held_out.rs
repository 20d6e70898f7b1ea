//! The validation split of a source without one: which part of the text it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Which part of a text becomes the validation split if the source has none.
///
/// ```
/// use tinygpt_data::ValSplit;
/// assert_eq!("random".parse::<ValSplit>().unwrap(), ValSplit::Random);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValSplit {
    /// Its end.
    #[default]
    End,
    /// Documents drawn at random, from a seed.
    Random,
}

impl ValSplit {
    /// The name in settings and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Random => "random",
        }
    }

    /// For `meta.json`, which omits the default.
    pub(crate) fn is_end(&self) -> bool {
        *self == Self::End
    }
}

impl fmt::Display for ValSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ValSplit {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        [Self::End, Self::Random].into_iter().find(|it| it.as_str() == name).ok_or_else(|| {
            DataError::usage(
                format!("val_split is `{name}`, expected `end` or `random`"),
                "choose one of them",
            )
        })
    }
}

/// How the validation split was taken from a source without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Which part it is; always the end if the text is one document.
    pub split: ValSplit,
    /// The document, counted from 1, that was cut because whole ones do not come close to
    /// `val_fraction`.
    pub cut_document: Option<u64>,
}
