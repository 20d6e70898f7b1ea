//! `sample`: finds the checkpoint, opens its model and tokenizer, and lets it write, or writes it for
//! other programs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use candle_core::Device;
use tinygpt_data::Tokenizer;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{Model, ModelConfig, ModelError};
use tinygpt_train::{checkpoint, physical_cores};

use super::export;
use super::find::{find, name_run};
use super::interactive::interact;
use super::prompt::{self, Seen};
use super::quantize;
use super::rendering::Form;
use super::serve;
use super::story::Storyteller;
use crate::exit::Ended;
use crate::layer::Layered;
use crate::options::{Options as _, Quantization, SampleOptions, SampleSettings};
use crate::pool;
use crate::terminal::{Output, grouped, say, spoken, wants_colour};
use crate::usage::UsageError;

/// Does what `sample` was asked to do.
///
/// # Errors
/// Wrong options, no or a damaged checkpoint, an unreadable prompt, a device that is not there.
pub fn sample(layered: &Layered<SampleOptions>) -> Result<Ended> {
    let mut settings = layered.resolve()?;
    name_run(&mut settings);
    if let Some(wanted) = &settings.export {
        export::check_path(wanted)?;
    }
    let device = settings.device.open(SampleOptions::BINARY)?;
    let wanted = settings.threads.unwrap_or_else(pool::default_threads);
    let n_threads = pool::start(wanted)?;
    if n_threads < wanted {
        settings.threads = Some(settings.threads.unwrap_or_else(physical_cores).min(n_threads));
    }
    let settings = settings;
    // Before anything that takes time.
    let server = settings.serve.as_ref().map(serve::listen).transpose()?;
    if let Some(wanted) = &settings.export {
        let opened = open(&settings, &|dir| hf::read_dir(dir, &device))?;
        return export::write(wanted, &opened);
    }
    let prompt = prompt::read(&settings.start)?;
    let opened = writing(&settings, &device)?;
    let start = prompt.text(&opened.tokenizer);
    if let Some(server) = server {
        return serve::serve(server, layered, (&settings, start), opened);
    }
    let seen = Seen::of(&opened);
    let Opened { tokenizer, model, special, .. } = opened;
    note_probabilities(&settings);
    if settings.interactive {
        let asked = (layered.clone(), settings);
        return interact((&*model, &tokenizer, special), asked, (start, seen), Output::lock());
    }
    let teller = Storyteller::new(&*model, &tokenizer, special.bos, start)?;
    if let Some((text, ids)) = teller.prompt() {
        seen.say_notes((&tokenizer, model.config().block_size), text, ids)?;
    }
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
    let n_tokens = grouped(n_tokens as u64);
    let on = if device.is_cpu() { threads_in_words(model.decode_threads()) } else { String::new() };
    say(&format!("{n_tokens} tokens in {}, {speed} tokens/s{on}", spoken(seconds)));
    Ok(Ended::Done)
}

fn threads_in_words(n_threads: usize) -> String {
    let plural = if n_threads == 1 { "" } else { "s" };
    format!(" on {n_threads} thread{plural}")
}

/// Says which probabilities `--show-probs` shows: not those that the tokens are drawn with.
pub(super) fn note_probabilities(settings: &SampleSettings) {
    if settings.show_probs.is_some() {
        say(&format!(
            "note: the probabilities are the model's own, at temperature 1 and before any filter; \
             tokens are drawn at temperature {}",
            settings.sampling.temperature
        ));
    }
}

/// The model, ready to write.
fn writing(settings: &SampleSettings, device: &Device) -> Result<Opened<Box<dyn Model>>> {
    let threads = settings.threads.unwrap_or_else(physical_cores);
    match settings.quantize {
        Some(Quantization::Q8_0) => {
            let mut opened = open(settings, &hf::read_quantized)?;
            opened.model.set_threads(threads);
            // A number that was asked for is used as it is.
            settings.threads.iter().for_each(|n| opened.model.set_decode_threads(*n));
            note_untrained(&opened.dir);
            quantize::tell_cost(&opened, threads)?;
            Ok(opened.boxed())
        }
        None => {
            let mut opened = open(settings, &|dir| hf::read_dir(dir, device))?;
            opened.model.set_threads(threads);
            settings.threads.iter().for_each(|n| opened.model.set_decode_threads(*n));
            note_untrained(&opened.dir);
            Ok(opened.boxed())
        }
    }
}

/// Says that a model has learned nothing yet.
fn note_untrained(dir: &Path) {
    // A state that cannot be read is no reason not to write.
    let state = checkpoint::state_of(dir).ok().flatten();
    if state.is_some_and(|state| state.step == 0) {
        say("note: this model has made 0 updates: its weights are random, and so is its text");
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
        SampleSettings { json: true, sampling, .. } => Form::Json { seed: sampling.seed },
        SampleSettings { show_probs: Some(n), .. } => {
            Form::Table { colour: wants_colour(out), n_others: *n }
        }
        _ => Form::Text,
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
