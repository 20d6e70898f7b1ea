//! `sample`: finds the checkpoint, opens its model and tokenizer, and lets it write, or writes it for
//! other programs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::Device;
use tinygpt_data::Tokenizer;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{Model, ModelConfig, ModelError};
use tinygpt_train::TrainError;
use tinygpt_train::checkpoint::{self, BEST, LAST, Which};

use super::export;
use super::interactive::interact;
use super::pretrained;
use super::quantize;
use super::rendering::Form;
use super::serve;
use super::story::Storyteller;
use crate::exit::Ended;
use crate::layer::Layered;
use crate::options::{Options as _, Quantization, SampleOptions, SampleSettings, Start};
use crate::terminal::{Output, grouped, say, spoken, wants_colour};
use crate::usage::UsageError;

/// Does what `sample` was asked to do.
///
/// # Errors
/// Wrong options, no or a damaged checkpoint, an unreadable prompt, a device that is not there.
pub fn sample(layered: &Layered<SampleOptions>) -> Result<Ended> {
    let settings = layered.resolve()?;
    if let Some(wanted) = &settings.export {
        export::check_path(wanted)?;
    }
    let device = settings.device.open(SampleOptions::BINARY)?;
    // Before anything that takes time.
    let server = settings.serve.as_ref().map(serve::listen).transpose()?;
    if let Some(wanted) = &settings.export {
        let opened = open(&settings, &|dir| hf::read_dir(dir, &device))?;
        return export::write(wanted, &opened);
    }
    let opened = writing(&settings, &device)?;
    if let Some(server) = server {
        return serve::serve(server, layered, &settings, opened);
    }
    let Opened { tokenizer, model, special, .. } = opened;
    let start = opening(&settings.start)?;
    if settings.interactive {
        let asked = (layered.clone(), settings);
        return interact((&*model, &tokenizer, special), asked, start, Output::lock());
    }
    let teller = storyteller(start, &*model, &tokenizer, special.bos)?;
    let params = settings.params(&tokenizer, special.eos);
    let mut out = Output::lock();
    let since = Instant::now();
    let form = form(&settings, &out);
    let n_tokens = teller.tell(&params, settings.num_samples, (form, &settings.stop), &mut out)?;
    if out.is_closed() {
        return Ok(Ended::Done);
    }
    let seconds = since.elapsed().as_secs_f64();
    let speed = grouped((n_tokens as f64 / seconds).round() as u64);
    say(&format!("{} tokens in {}, {speed} tokens/s", grouped(n_tokens as u64), spoken(seconds)));
    Ok(Ended::Done)
}

/// The model, ready to write.
fn writing(settings: &SampleSettings, device: &Device) -> Result<Opened<Box<dyn Model>>> {
    let threads = settings.threads.unwrap_or(1);
    match settings.quantize {
        Some(Quantization::Q8_0) => {
            let mut opened = open(settings, &hf::read_quantized)?;
            opened.model.set_threads(threads);
            quantize::tell_cost(&opened, threads)?;
            Ok(opened.boxed())
        }
        None => {
            let mut opened = open(settings, &|dir| hf::read_dir(dir, device))?;
            opened.model.set_threads(threads);
            Ok(opened.boxed())
        }
    }
}

/// What a checkpoint holds for us.
pub(super) struct Opened<M> {
    /// Where it was read from.
    pub(super) dir: PathBuf,
    pub(super) tokenizer: Tokenizer,
    pub(super) model: M,
    pub(super) special: SpecialTokens,
}

impl<M: Model + 'static> Opened<M> {
    /// For whoever takes a model of either kind.
    fn boxed(self) -> Opened<Box<dyn Model>> {
        let Self { dir, tokenizer, model, special } = self;
        Opened { dir, tokenizer, model: Box::new(model), special }
    }
}

/// Reads the checkpoint; the one in its place if a trainer has removed it meanwhile.
fn open<M: Model>(
    settings: &SampleSettings,
    read_model: &dyn Fn(&Path) -> Result<M, ModelError>,
) -> Result<Opened<M>> {
    let mut dir = find(settings)?;
    loop {
        match read(&dir, read_model) {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                let now = find(settings)?;
                if now == dir {
                    return Err(error);
                }
                dir = now;
            }
        }
    }
}

fn read<M: Model>(
    dir: &Path,
    read_model: &dyn Fn(&Path) -> Result<M, ModelError>,
) -> Result<Opened<M>> {
    let tokenizer = Tokenizer::from_path(dir)?;
    let model = read_model(dir)?;
    check_vocabulary(model.config(), &tokenizer, dir)?;
    let special = special_tokens(dir, &tokenizer)?;
    Ok(Opened { dir: dir.to_owned(), tokenizer, model, special })
}

/// How the samples are written.
pub(super) fn form(settings: &SampleSettings, out: &Output) -> Form {
    match settings {
        SampleSettings { json: true, seed, .. } => Form::Json { seed: *seed },
        SampleSettings { show_probs: Some(_), .. } => Form::Table { colour: wants_colour(out) },
        _ => Form::Text,
    }
}

/// The checkpoint's directory; without one, says how to make it.
fn find(settings: &SampleSettings) -> Result<PathBuf> {
    if pretrained::is_on_hub(&settings.checkpoint) {
        return pretrained::fetch(&settings.checkpoint);
    }
    let which = match settings.checkpoint.parse::<Which>() {
        Ok(Which::Dir(dir)) if !dir.join("config.json").is_file() => {
            return Err(no_model(&dir).into());
        }
        Ok(which) => which,
        Err(expected) => {
            return Err(UsageError::new(format!("`checkpoint` is empty, {expected}")).into());
        }
    };
    let out_dir = &settings.out_dir;
    if !matches!(which, Which::Dir(_)) && !out_dir.is_dir() {
        let message = format!("`out_dir` {} does not exist", out_dir.display());
        return Err(UsageError::new(message).hint(how_to_train(out_dir)).into());
    }
    checkpoint::locate(out_dir, &which).map_err(|error| match error {
        TrainError::NothingToResume(_) => {
            let message = format!("`out_dir` {} holds no checkpoint yet", out_dir.display());
            UsageError::new(message).hint(how_to_train(out_dir)).into()
        }
        other => other.into(),
    })
}

/// `checkpoint` names something else than a model; perhaps the directory of a run.
fn no_model(dir: &Path) -> UsageError {
    let shown = dir.display();
    let expected = "expected best, last, hub:owner/name, or a directory with config.json, \
                    model.safetensors and tokenizer.json";
    let error = UsageError::new(format!("`checkpoint` is {shown}, {expected}"));
    if [BEST, LAST].iter().any(|name| dir.join(name).exists()) {
        return error.hint(format!("{shown} is the directory of a run: use --out-dir {shown}"));
    }
    error
}

/// The training command whose run ends in `out_dir`, as far as the configs here tell.
fn how_to_train(out_dir: &Path) -> String {
    let wanted = out_dir.to_string_lossy();
    let configs = std::fs::read_dir("config").into_iter().flatten().flatten();
    let made_by = configs.map(|entry| entry.path()).find(|path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        value.get("out_dir").and_then(serde_json::Value::as_str) == Some(wanted.as_ref())
    });
    match made_by {
        Some(config) => {
            format!("train it first: cargo run --bin train -- --config-file {}", config.display())
        }
        None => format!(
            "train it first: cargo run --bin train -- --out-dir {wanted} (or name another run \
             with --out-dir)"
        ),
    }
}

/// A tokenizer with more tokens than the model has rows belongs to another model.
fn check_vocabulary(config: &ModelConfig, tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    let (rows, tokens) = (config.vocab_size, tokenizer.vocab_size());
    if tokens > rows {
        let message = format!(
            "{}: tokenizer.json has {tokens} tokens, but the model only {rows} rows: they do not \
             belong together",
            dir.display()
        );
        return Err(UsageError::new(message).into());
    }
    Ok(())
}

/// What begins and ends a text of this model: as its config says, else `<|endoftext|>`.
fn special_tokens(dir: &Path, tokenizer: &Tokenizer) -> Result<SpecialTokens> {
    let eot = tokenizer.eot_id();
    let said = hf::read_special_tokens(dir)?;
    let is_known = |special: &SpecialTokens| (special.bos as usize) < tokenizer.vocab_size();
    Ok(said.filter(is_known).unwrap_or(SpecialTokens { bos: eot, eos: Some(eot) }))
}

/// The text that samples go on from, if not from nothing.
pub(super) fn opening(start: &Start) -> Result<Option<String>> {
    let text = match start {
        Start::Document => return Ok(None),
        Start::Text(text) => text.clone(),
        Start::File(path) => {
            let name = format!("the prompt FILE:{}", path.display());
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
            String::from_utf8(bytes)
                .map_err(|error| UsageError::not_utf8(name, &error.utf8_error()))?
        }
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn storyteller<'a>(
    start: Option<String>,
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    bos: u32,
) -> Result<Storyteller<'a>> {
    let Some(text) = start else { return Ok(Storyteller::from_scratch(model, tokenizer, bos)) };
    let teller = Storyteller::from_text(model, tokenizer, &text)?;
    let block_size = model.config().block_size;
    if teller.prompt_len() > block_size {
        say(&format!(
            "note: the prompt has {} tokens, the model sees the last {block_size}",
            grouped(teller.prompt_len() as u64)
        ));
    }
    Ok(teller)
}
