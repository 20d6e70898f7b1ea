//! Where the first weights come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tinygpt_data::Source;

use super::key::{KeyValue, Kind};

/// Where the first weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InitFrom {
    /// New random weights.
    #[default]
    Scratch,
    /// The newest good checkpoint of `out_dir`; an error if there is none.
    Resume,
    /// `Resume` if `out_dir` holds a checkpoint, else `Scratch`.
    Auto,
    /// The run in this directory, from the end of its plateau: its decay is not taken over.
    Plateau(PathBuf),
    /// A Hugging Face GPT-2 directory to fine-tune. One named like a keyword is written `./auto`.
    Dir(PathBuf),
    /// A GPT-2 on the Hugging Face hub to fine-tune.
    Hub {
        /// `hub:owner/name`, optionally followed by `@revision`.
        name: String,
        /// Where it was downloaded to, once it is: this crate downloads nothing.
        dir: Option<PathBuf>,
    },
}

impl InitFrom {
    /// Whether a model is named, which is fine-tuned.
    pub fn is_model(&self) -> bool {
        matches!(self, Self::Dir(_) | Self::Hub { .. })
    }
}

impl FromStr for InitFrom {
    /// The accepted values.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "scratch" => Ok(Self::Scratch),
            "resume" => Ok(Self::Resume),
            "auto" => Ok(Self::Auto),
            "" | "plateau:" => {
                Err("scratch, resume, auto, plateau:DIR, a directory or hub:owner/name".to_string())
            }
            name if matches!(Source::from(name), Source::Hub { .. }) => {
                Ok(Self::Hub { name: name.to_string(), dir: None })
            }
            other => Ok(match other.strip_prefix("plateau:") {
                Some(dir) => Self::Plateau(PathBuf::from(dir)),
                None => Self::Dir(PathBuf::from(other)),
            }),
        }
    }
}

impl fmt::Display for InitFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch => f.write_str("scratch"),
            Self::Resume => f.write_str("resume"),
            Self::Auto => f.write_str("auto"),
            Self::Plateau(dir) => write!(f, "plateau:{}", dir.display()),
            Self::Dir(dir) => write!(f, "{}", dir.display()),
            Self::Hub { name, .. } => f.write_str(name),
        }
    }
}

impl Serialize for InitFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InitFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl KeyValue for InitFrom {
    const KIND: Kind = Kind::Text;
}
