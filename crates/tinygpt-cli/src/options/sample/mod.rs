//! The options of `sample`: which checkpoint to use, the prompt, how to sample, and what to do with the
//! text.

mod checks;
mod export;
mod sampling_flags;
mod score;
pub(super) mod serve;
mod start;

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tinygpt_data::Tokenizer;
use tinygpt_model::gguf::WeightType;
use tinygpt_model::{ComputeType, DeviceSpec, SamplingParams};

use self::checks::{check_ranges, check_together};
pub use self::export::{Export, ExportFormat};
pub use self::sampling_flags::SamplingFlags;
pub use self::score::ScoreSource;
pub use self::serve::ServeSettings;
pub use self::start::Start;
use self::start::unescape;
use super::layer::{Faults, Layered, Origin};
use super::{Options, word_of};

/// The most alternatives of a token that are shown.
const MAX_ALTERNATIVES: usize = 20;

/// Samples of `grade` unless asked otherwise: a standard error of at most 3.5 percentage points.
const GRADED_SAMPLES: u64 = 200;

/// Flags of `sample`, which are also the keys of its config file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleOptions {
    /// The out_dir of a training run
    #[arg(long, help_heading = "Model", value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Which checkpoint: `best`, `last`, any Hugging Face GPT-2 directory with a tokenizer, or
    /// `hub:owner/name[@revision]`
    #[arg(long, help_heading = "Model", value_name = "WHICH")]
    pub checkpoint: Option<String>,
    /// Round the weights to 8-bit integers when they are loaded: faster, slightly worse; the loss
    /// it costs is printed if the validation data is available; CPU only [default: none]
    #[arg(long, help_heading = "Model")]
    pub quantize: Option<Quantization>,

    /// Prompt, used as typed (`\n` is a backslash and an n); FILE:path reads a file, `-` standard
    /// input, both without their last line break [default: the start of a document]
    #[arg(long, help_heading = "Text", value_name = "TEXT", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// Number of samples
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub num_samples: Option<u64>,
    /// Longest sample, in tokens; it ends earlier if the model ends the document
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// How tokens are chosen.
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: SamplingFlags,
    /// End a sample before this text, in which `\n`, `\r`, `\t` and `\\` are newline, carriage return, tab
    /// and backslash; may be given several times [default: none]
    #[arg(long, help_heading = "Text", value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Option<Vec<String>>,
    /// Seed; the same seed gives the same text
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub seed: Option<u64>,

    /// Print a line for each token: its probability at temperature 1, and those of the N most likely
    /// others [default: off; 5 if no N follows]
    #[arg(long, help_heading = "Output", value_name = "N", num_args = 0..=1,
          default_missing_value = "5")]
    pub show_probs: Option<usize>,
    /// Write one JSON object per sample and line
    #[arg(long, help_heading = "Output")]
    pub json: Option<bool>,
    /// Prompt the model interactively: continue, try again, change settings
    #[arg(long, help_heading = "Output")]
    pub interactive: Option<bool>,

    /// Chat with a model that was trained on conversations; /help lists the commands
    #[arg(long, help_heading = "Output")]
    pub chat: Option<bool>,
    /// System message of `chat`, or of the model that is exported to Ollama [default: none]
    #[arg(long, help_heading = "Output", value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,

    /// Print which share of the samples are coherent stories of a built-in dataset, or of its questions
    /// are answered rightly, and what is wrong with the others; 200 unless num_samples is given
    /// [default: none]
    #[arg(long, help_heading = "Evaluation", value_name = "DATASET")]
    pub grade: Option<Grade>,
    /// Print how well the model predicts the text of FILE, or of standard input (`-`): plain text with
    /// `<|endoftext|>` between documents, JSON lines with `text`, or with `sentence_good` and
    /// `sentence_bad`, of which the first should be more likely [default: none]
    #[arg(long, help_heading = "Evaluation", value_name = "FILE", allow_hyphen_values = true)]
    pub score: Option<String>,
    /// Tokens from one window of a document that `score` reads to the next, if it is longer than the
    /// context: fewer give each token more context and take longer [default: half the context]
    #[arg(long, help_heading = "Evaluation", value_name = "N")]
    pub stride: Option<usize>,
    /// Print how varied N samples are, and the longest part of each that the training data has, with its
    /// place [default: none]
    #[arg(long, help_heading = "Evaluation", value_name = "N")]
    pub novelty: Option<u64>,

    /// Serve a web page and OpenAI's API at ADDR instead of printing samples [default: off;
    /// 127.0.0.1:8080 if no ADDR follows]
    #[arg(long, help_heading = "Server", value_name = "ADDR", num_args = 0..=1,
          default_missing_value = serve::DEFAULT_ADDRESS)]
    pub serve: Option<String>,
    /// Key that clients of the server must send; required if other machines can reach it [default:
    /// the environment variable TINYGPT_API_KEY]
    #[arg(long, help_heading = "Server", value_name = "KEY")]
    pub api_key: Option<String>,

    /// `cpu`, `cuda`, `cuda:1`, `metal` or `mps` (the same as metal), or `auto`: a GPU if there is
    /// one
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// Number type of the weights, `bfloat16` or `float32` (CUDA only)
    #[arg(long, help_heading = "Machine")]
    pub dtype: Option<String>,
    /// CPU threads [default: one per physical core, fewer for a small model]
    #[arg(long, help_heading = "Machine", value_name = "N")]
    pub threads: Option<usize>,

    /// Export the model instead of printing samples: `gguf FILE` for llama.cpp, `hf DIR` for
    /// transformers, `ollama DIR` for Ollama [default: none]
    #[arg(long, help_heading = "Export", num_args = 2, value_names = ["FORMAT", "PATH"],
          action = ArgAction::Set)]
    pub export: Option<Vec<String>>,
    /// How a GGUF file stores matrices: f32, f16, or 8-bit integers with scales [default: f32]
    #[arg(long, help_heading = "Export",
          value_parser = word_of::<WeightType>(WeightType::ALL.map(WeightType::as_str)))]
    pub r#type: Option<WeightType>,
    /// Let `export` replace an earlier export at PATH
    #[arg(long, help_heading = "Export")]
    pub overwrite: Option<bool>,
}

impl Options for SampleOptions {
    const BINARY: &'static str = "sample";
    const ABOUT: &'static str = "Generate text with a trained model.";
    const SECRETS: &'static [&'static str] = &["api_key"];

    fn defaults() -> Self {
        let sampling = SamplingParams::default();
        Self {
            out_dir: Some("out-tiny-stories".into()),
            checkpoint: Some("best".to_owned()),
            quantize: None,
            start: None,
            num_samples: Some(10),
            max_new_tokens: Some(sampling.max_new_tokens),
            sampling: SamplingFlags::defaults(),
            stop: None,
            seed: Some(sampling.seed),
            show_probs: None,
            json: Some(false),
            interactive: Some(false),
            chat: Some(false),
            system: None,
            grade: None,
            score: None,
            stride: None,
            novelty: None,
            serve: None,
            api_key: None,
            device: Some("cpu".to_owned()),
            dtype: Some(ComputeType::Bfloat16.name().to_owned()),
            threads: None,
            export: None,
            r#type: None,
            overwrite: Some(false),
        }
    }
}

/// The datasets whose stories can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Grade {
    /// The stories of the embedded grammar.
    TinyTales,
    /// The held-out questions of the built-in conversations, each answered with the most likely tokens.
    TinyTalks,
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Quantization {
    /// 8-bit integers, one scale per 32 weights.
    Q8_0,
}

/// The options of `sample`, checked and without `Option`s.
#[derive(Clone, Debug)]
pub struct SampleSettings {
    /// The out_dir of a training run.
    pub out_dir: PathBuf,
    /// `best`, `last` or a directory.
    pub checkpoint: String,
    /// How the weights are rounded, if they are.
    pub quantize: Option<Quantization>,
    /// The prompt.
    pub start: Start,
    /// How many samples.
    pub num_samples: u64,
    /// How tokens are chosen, and how many; [`SampleSettings::params`] adds what depends on the
    /// model.
    pub sampling: SamplingParams,
    /// Texts that end a sample; none is empty.
    pub stop: Vec<String>,
    /// Whether to show each token's probability, and with how many alternatives.
    pub show_probs: Option<usize>,
    /// Whether to write JSON objects.
    pub json: bool,
    /// Whether to prompt interactively.
    pub interactive: bool,
    /// Whether to chat.
    pub chat: bool,
    /// The system message of a chat or of an export.
    pub system: Option<String>,
    /// The dataset whose stories the samples are compared with, instead of printing them.
    pub grade: Option<Grade>,
    /// The text to score, instead of generating one.
    pub score: Option<ScoreSource>,
    /// Tokens between the starts of two windows that are scored.
    pub stride: Option<usize>,
    /// How many samples to compare with each other and with the training data.
    pub novelty: Option<u64>,
    /// The server to start instead of printing samples.
    pub serve: Option<ServeSettings>,
    /// The device to compute on.
    pub device: DeviceSpec,
    /// The number type of the weights on CUDA.
    pub dtype: ComputeType,
    /// CPU threads; `None` is one per physical core, or fewer for a small model.
    pub threads: Option<usize>,
    /// The export to write instead of samples.
    pub export: Option<Export>,
}

impl SampleSettings {
    /// The parameters for the model crate, for the model of `tokenizer`; `eos` ends a document.
    pub fn params(&self, tokenizer: &Tokenizer, eos: Option<u32>) -> SamplingParams {
        SamplingParams {
            // The table shows this many in addition to the token itself, which is one of the most
            // likely ones.
            logprobs: self.show_probs.map(|n| n + usize::from(!self.json)),
            eos,
            vocab_size: Some(tokenizer.vocab_size()),
            ..self.sampling.clone()
        }
    }
}

impl Layered<SampleOptions> {
    /// Checks and interprets the options.
    ///
    /// # Errors
    /// All faults at once, as a [`crate::usage::UsageError`].
    pub fn resolve(&self) -> anyhow::Result<SampleSettings> {
        let mut faults = Faults::of(self);
        let options = self.options.clone();
        let device = faults.device(options.device.as_deref());
        let dtype = match options.dtype.as_deref().unwrap_or_default() {
            "float32" => ComputeType::Float32,
            other => {
                faults.unless(other == "bfloat16", "dtype", "bfloat16 or float32");
                ComputeType::Bfloat16
            }
        };
        check_ranges(self, &mut faults);
        let export = Export::of(self, &mut faults);
        let start = Start::of(options.start.as_deref().unwrap_or_default());
        check_together(&options, (device, &start, export.is_some()), &mut faults);
        let address = options.serve.as_deref().map(|text| {
            serve::address(text).or_else(|| {
                faults.add("serve", serve::EXPECTED);
                None
            })
        });
        faults.into_result()?;
        let sampling = SamplingParams::default().with(self.values())?;
        let api_key = options.api_key;
        let serve = address.flatten().map(|address| ServeSettings { address, api_key });
        let stop = options.stop.unwrap_or_default();
        let num_samples = match options.grade {
            Some(_) if self.origin("num_samples") == Origin::Default => GRADED_SAMPLES,
            _ => options.num_samples.unwrap_or_default(),
        };
        Ok(SampleSettings {
            serve,
            out_dir: options.out_dir.unwrap_or_default(),
            checkpoint: options.checkpoint.unwrap_or_default(),
            quantize: options.quantize,
            start,
            num_samples,
            sampling,
            stop: stop.iter().map(|text| unescape(text)).collect(),
            show_probs: options.show_probs,
            json: options.json.unwrap_or_default(),
            interactive: options.interactive.unwrap_or_default(),
            chat: options.chat.unwrap_or_default(),
            system: options.system,
            grade: options.grade,
            score: options.score.as_deref().map(ScoreSource::of),
            stride: options.stride,
            novelty: options.novelty,
            device,
            dtype,
            threads: options.threads,
            export,
        })
    }
}
