//! The options of `sample`: which checkpoint to use, the prompt, how to sample, and what to do with the
//! text.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tinygpt_data::Tokenizer;
use tinygpt_model::{DeviceSpec, SamplingParams};

use super::export::{Export, GgufType};
use super::serve::{self, ServeSettings};
use super::start::{Start, unescape};
use super::{Options, finite};
use crate::layer::{Faults, Layered};

/// The most alternatives of a token that are told.
const MAX_ALTERNATIVES: usize = 20;

/// Flags of `sample`, which are also the keys of its config file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleOptions {
    /// The out_dir of a training run; it holds all that is needed
    #[arg(long, help_heading = "Model", value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Which checkpoint: `best`, `last`, any Hugging Face GPT-2 directory with a tokenizer, or
    /// `hub:owner/name[@revision]`
    #[arg(long, help_heading = "Model", value_name = "WHICH")]
    pub checkpoint: Option<String>,
    /// Round the weights to 8-bit numbers when they are loaded: text comes faster, and a little worse,
    /// which is measured where the validation data is at hand; on a CPU [default: none]
    #[arg(long, help_heading = "Model")]
    pub quantize: Option<Quantization>,

    /// Prompt, taken as it is typed (`\n` is a backslash and an n); FILE:path reads a file, `-` standard
    /// input, both without their last line break [default: the start of a document]
    #[arg(long, help_heading = "Text", value_name = "TEXT", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// Samples to write
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub num_samples: Option<u64>,
    /// Longest sample, in tokens; it ends earlier where the model ends the document
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// Below 1 more careful, above 1 wilder, 0 always the likeliest token
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub temperature: Option<f64>,
    /// Choose among this many likeliest tokens only; 0 means all
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub top_k: Option<usize>,
    /// Choose among the likeliest tokens that together hold this share of all probability; 1 is off
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub top_p: Option<f64>,
    /// Choose among tokens at least this times as likely as the likeliest; 0 is off
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub min_p: Option<f64>,
    /// Above 1, what stands in the text already becomes less likely; 1 is off
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub repetition_penalty: Option<f64>,
    /// Subtracted from the logit of each token that was generated already, as in OpenAI's API; 0 is off
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub presence_penalty: Option<f64>,
    /// Subtracted from a token's logit for each time it was generated, as in OpenAI's API; 0 is off
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub frequency_penalty: Option<f64>,
    /// Never repeat a sequence of N tokens, prompt included, as in transformers; 0 is off
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub no_repeat_ngram_size: Option<usize>,
    /// End a sample before this text, in which `\n`, `\r`, `\t` and `\\` are newline, carriage return, tab
    /// and backslash; may be given several times [default: none]
    #[arg(long, help_heading = "Text", value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Option<Vec<String>>,
    /// Seed of the choices; the same seed gives the same text
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub seed: Option<u64>,

    /// Print a line for each token: its probability at temperature 1, and those of the N most likely
    /// others [default: off; 5 if no N follows]
    #[arg(long, help_heading = "Output", value_name = "N", num_args = 0..=1,
          default_missing_value = "5")]
    pub show_probs: Option<usize>,
    /// Write a JSON object for each sample, one a line
    #[arg(long, help_heading = "Output")]
    pub json: Option<bool>,
    /// Take turns with the model: type beginnings, go on, try again, change settings
    #[arg(long, help_heading = "Output")]
    pub interactive: Option<bool>,

    /// Serve a page and OpenAI's API at ADDR instead of writing [default: off; 127.0.0.1:8080
    /// where no ADDR follows]
    #[arg(long, help_heading = "Server", value_name = "ADDR", num_args = 0..=1,
          default_missing_value = super::serve::DEFAULT_ADDRESS)]
    pub serve: Option<String>,
    /// Key that clients of the server have to send; needed where other machines can reach it
    /// [default: the variable TINYGPT_API_KEY]
    #[arg(long, help_heading = "Server", value_name = "KEY")]
    pub api_key: Option<String>,

    /// `cpu`, `cuda`, `cuda:1`, `metal` or `mps` (the same as metal)
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// CPU threads [default: one per physical core, fewer for a small model]
    #[arg(long, help_heading = "Machine", value_name = "N")]
    pub threads: Option<usize>,

    /// Write the model for other programs instead of a text: `gguf FILE` for llama.cpp, `hf DIR` for
    /// transformers [default: none]
    #[arg(long, help_heading = "Export", num_args = 2, value_names = ["FORMAT", "PATH"],
          action = ArgAction::Set)]
    pub export: Option<Vec<String>>,
    /// How a GGUF file stores matrices: as they are, rounded, or as 8-bit numbers with a scale
    /// [default: f32]
    #[arg(long, help_heading = "Export")]
    pub r#type: Option<GgufType>,
    /// Let `export` replace what it made at PATH before
    #[arg(long, help_heading = "Export")]
    pub overwrite: Option<bool>,
}

impl Options for SampleOptions {
    const BINARY: &'static str = "sample";
    const ABOUT: &'static str = "Let a trained model write.";
    const SECRETS: &'static [&'static str] = &["api_key"];

    fn defaults() -> Self {
        Self {
            out_dir: Some("out-tiny-stories".into()),
            checkpoint: Some("best".to_owned()),
            quantize: None,
            start: None,
            num_samples: Some(10),
            max_new_tokens: Some(500),
            temperature: Some(0.8),
            top_k: Some(200),
            top_p: Some(1.0),
            min_p: Some(0.0),
            repetition_penalty: Some(1.0),
            presence_penalty: Some(0.0),
            frequency_penalty: Some(0.0),
            no_repeat_ngram_size: Some(0),
            stop: None,
            seed: Some(1337),
            show_probs: None,
            json: Some(false),
            interactive: Some(false),
            serve: None,
            api_key: None,
            device: Some("cpu".to_owned()),
            threads: None,
            export: None,
            r#type: None,
            overwrite: Some(false),
        }
    }
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Quantization {
    /// 8-bit whole numbers, a scale for each 32 inputs of an output.
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
    /// What the samples go on from.
    pub start: Start,
    /// How many samples.
    pub num_samples: u64,
    /// The longest sample, in tokens.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// `None` is all tokens.
    pub top_k: Option<usize>,
    /// 1 is all tokens.
    pub top_p: f32,
    /// 0 is all tokens.
    pub min_p: f32,
    /// 1 is none.
    pub repetition_penalty: f32,
    /// 0 is none.
    pub presence_penalty: f32,
    /// 0 is none.
    pub frequency_penalty: f32,
    /// 0 allows repetition.
    pub no_repeat_ngram_size: usize,
    /// Texts that end a sample; none is empty.
    pub stop: Vec<String>,
    /// Seed of the choices.
    pub seed: u64,
    /// Whether to tell each token's probability, and that of how many alternatives.
    pub show_probs: Option<usize>,
    /// Whether to write objects.
    pub json: bool,
    /// Whether to take turns with a person.
    pub interactive: bool,
    /// Where to serve, if not to write.
    pub serve: Option<ServeSettings>,
    /// Where to compute.
    pub device: DeviceSpec,
    /// CPU threads; `None` is one per physical core, or as many as help.
    pub threads: Option<usize>,
    /// What to write in place of samples.
    pub export: Option<Export>,
}

impl SampleSettings {
    /// What the model crate needs to know, for the model of `tokenizer`; `eos` ends a document.
    pub fn params(&self, tokenizer: &Tokenizer, eos: Option<u32>) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            // The table shows so many besides the token itself, which is one of the most likely ones.
            logprobs: self.show_probs.map(|n| n + usize::from(!self.json)),
            seed: self.seed,
            eos,
            ..SamplingParams::new(self.max_new_tokens, tokenizer.vocab_size())
        }
    }
}

impl Layered<SampleOptions> {
    /// Says what the options mean.
    ///
    /// # Errors
    /// All faults at once, as a [`crate::usage::UsageError`].
    pub fn resolve(&self) -> anyhow::Result<SampleSettings> {
        let mut faults = Faults::of(self);
        let options = self.options.clone();
        let device = faults.device(options.device.as_deref());
        check_ranges(&options, &mut faults);
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
        let api_key = options.api_key;
        let serve = address.flatten().map(|address| ServeSettings { address, api_key });
        let stop = options.stop.unwrap_or_default();
        Ok(SampleSettings {
            serve,
            out_dir: options.out_dir.unwrap_or_default(),
            checkpoint: options.checkpoint.unwrap_or_default(),
            quantize: options.quantize,
            start,
            num_samples: options.num_samples.unwrap_or_default(),
            max_new_tokens: options.max_new_tokens.unwrap_or_default(),
            temperature: options.temperature.unwrap_or_default() as f32,
            top_k: options.top_k.filter(|&k| k > 0),
            top_p: options.top_p.unwrap_or(1.0) as f32,
            min_p: options.min_p.unwrap_or_default() as f32,
            repetition_penalty: options.repetition_penalty.unwrap_or(1.0) as f32,
            presence_penalty: options.presence_penalty.unwrap_or_default() as f32,
            frequency_penalty: options.frequency_penalty.unwrap_or_default() as f32,
            no_repeat_ngram_size: options.no_repeat_ngram_size.unwrap_or_default(),
            stop: stop.iter().map(|text| unescape(text)).collect(),
            seed: options.seed.unwrap_or_default(),
            show_probs: options.show_probs,
            json: options.json.unwrap_or_default(),
            interactive: options.interactive.unwrap_or_default(),
            device,
            threads: options.threads,
            export,
        })
    }
}

/// Checks each option by itself.
fn check_ranges(options: &SampleOptions, faults: &mut Faults<'_, SampleOptions>) {
    faults.at_least_one("num_samples", options.num_samples);
    faults.at_least_one("max_new_tokens", options.max_new_tokens.map(|n| n as u64));
    faults.threads(options.threads);
    faults.unless(
        options.temperature.is_none_or(|t| (0.0..=100.0).contains(&t)),
        "temperature",
        "0 (greedy) to 100; 0.8 is a good start",
    );
    for (key, share) in [("top_p", options.top_p), ("min_p", options.min_p)] {
        faults.unless(share.is_none_or(|p| (0.0..=1.0).contains(&p)), key, "0 to 1");
    }
    faults.unless(
        options.repetition_penalty.is_none_or(|x| x > 0.0 && x <= 100.0),
        "repetition_penalty",
        "more than 0, at most 100; 1 is off, 1.1 is a good start",
    );
    for (key, penalty) in [
        ("presence_penalty", options.presence_penalty),
        ("frequency_penalty", options.frequency_penalty),
    ] {
        faults.unless(
            penalty.is_none_or(|x| (-2.0..=2.0).contains(&x)),
            key,
            "-2 to 2; 0 is off, 0.5 is a good start",
        );
    }
    let has_empty = options.stop.iter().flatten().any(String::is_empty);
    faults.unless(!has_empty, "stop", "no empty text");
    faults.unless(
        options.show_probs.is_none_or(|n| (1..=MAX_ALTERNATIVES).contains(&n)),
        "show_probs",
        "1 to 20",
    );
}

/// Checks which options can stand together.
fn check_together(
    options: &SampleOptions,
    (device, start, exports): (DeviceSpec, &Start, bool),
    faults: &mut Faults<'_, SampleOptions>,
) {
    let is_on = |flag: Option<bool>| flag.unwrap_or_default();
    let interactive = is_on(options.interactive);
    faults.unless(
        !(interactive && is_on(options.json)),
        "interactive",
        "false where `json` is true",
    );
    faults.unless(
        !(interactive && *start == Start::Stdin),
        "start",
        "a text or FILE:path with --interactive, which reads lines from standard input",
    );
    faults.unless(
        options.quantize.is_none() || device == DeviceSpec::Cpu,
        "quantize",
        "nothing but with --device cpu",
    );
    faults.unless(
        options.quantize.is_none() || !exports,
        "quantize",
        "nothing with --export: `--type q8_0` rounds the weights of a GGUF file",
    );
    faults.unless(
        options.serve.is_none() || !exports,
        "serve",
        "nothing with --export: the one writes a file and ends, the other stays",
    );
    faults.unless(
        !interactive || (options.serve.is_none() && !exports),
        "interactive",
        "false where `serve` or `export` is said",
    );
}
