//! `sample`: loads a checkpoint and generates text, or serves or exports the model.

mod answers;
mod chat;
mod export;
mod find;
mod grade;
mod interactive;
mod load;
mod model_card;
mod novelty;
mod output;
mod prompt;
mod quantize;
mod score;
mod serve;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use tinygpt_model::{ComputeDevice, Model, SamplingParams, hf};
use tinygpt_train::{checkpoint, physical_cores};

use self::find::name_run;
use self::interactive::interact;
use self::load::{LoadedModel, load};
pub(super) use self::model_card::{page_defaults, token_kind};
use self::output::{note_probabilities, output_format};
use self::prompt::Seen;
use super::story::SampleWriter;
use crate::device;
use crate::exit::Ended;
use crate::options::{Grade, Layered, Quantization, SampleOptions, SampleSettings};
use crate::pool;
use crate::terminal::{Output, grouped, say, spoken};

/// Runs `sample`.
///
/// # Errors
/// Wrong options, no or a damaged checkpoint, an unreadable prompt, a device that is not there.
pub fn sample(layered: &Layered<SampleOptions>) -> Result<Ended> {
    let mut settings = layered.resolve()?;
    name_run(&mut settings);
    if let Some(wanted) = &settings.export {
        export::check_path(wanted)?;
    }
    let device = device::open(settings.device, "sample")?;
    let wanted = settings.threads.unwrap_or_else(pool::default_threads);
    let n_threads = pool::start(wanted)?;
    if n_threads < wanted {
        settings.threads = Some(settings.threads.unwrap_or_else(physical_cores).min(n_threads));
    }
    // First, because a used address should be reported before the model is loaded.
    let server = settings.serve.as_ref().map(serve::listen_for).transpose()?;
    if let Some(wanted) = &settings.export {
        let loaded = load(&settings, &|dir| hf::read_dir(dir, &device.tensors()))?;
        return export::write(wanted, &settings, &loaded);
    }
    let scored = settings.score.as_ref().map(|it| Ok::<_, anyhow::Error>((it, score::read(it)?)));
    let scored = scored.transpose()?;
    let prompt = prompt::read(&settings.start)?;
    let loaded = load_for_sampling(&settings, &device)?;
    if let Some(scored) = scored {
        return score::score_input(scored, &settings, &loaded);
    }
    let start = prompt.text(&loaded.tokenizer);
    if let Some(server) = server {
        return serve::serve(server, layered, (&settings, start), loaded);
    }
    note_probabilities(&settings);
    if settings.chat {
        return chat::chat(&loaded, &settings, Output::lock());
    }
    if settings.grade == Some(Grade::TinyTalks) {
        return answers::grade(&loaded, &settings, &mut Output::lock());
    }
    let seen = Seen::of(&loaded);
    let LoadedModel { dir, tokenizer, model, special } = loaded;
    if settings.interactive {
        let options = (layered.clone(), settings);
        return interact((&*model, &tokenizer, special), options, (start, seen), Output::lock());
    }
    let writer = SampleWriter::new(&*model, &tokenizer, special.bos, start)?;
    if let Some((text, ids)) = writer.prompt() {
        seen.say_notes((&tokenizer, model.config().block_size), text, ids)?;
    }
    let params = settings.params(&tokenizer, special.eos);
    let mut out = Output::lock();
    if settings.grade == Some(Grade::TinyTales) {
        return grade::grade((&writer, &params), &settings, &mut out);
    }
    if let Some(n) = settings.novelty {
        let run = (dir.as_path(), &tokenizer);
        return novelty::novelty(n, (&writer, &params), run, (&settings, &mut out));
    }
    if let Some((n_tokens, seconds)) = print_samples(&writer, &params, &settings, &mut out)? {
        say_speed(n_tokens, seconds, device.is_cpu().then(|| model.decode_threads()));
    }
    Ok(Ended::Done)
}

/// Says how fast the samples were made, on a CPU with the number of its threads.
fn say_speed(n_tokens: usize, seconds: f64, n_threads: Option<usize>) {
    let speed = grouped((n_tokens as f64 / seconds).round() as u64);
    let n_tokens = grouped(n_tokens as u64);
    let threads = n_threads.map(on_threads).unwrap_or_default();
    say(&format!("{n_tokens} tokens in {}, {speed} tokens/s{threads}", spoken(seconds)));
}

/// Prints the samples; the number of tokens and the seconds they took, unless the reader has left.
fn print_samples(
    writer: &SampleWriter<'_>,
    params: &SamplingParams,
    settings: &SampleSettings,
    out: &mut Output,
) -> Result<Option<(usize, f64)>> {
    let since = Instant::now();
    let format = (output_format(settings, out), settings.stop.as_slice());
    let n_tokens = writer.write_samples(params, settings.num_samples, format, out)?;
    let seconds = since.elapsed().as_secs_f64();
    Ok(Some((n_tokens, seconds)).filter(|_| !out.is_closed()))
}

fn on_threads(n_threads: usize) -> String {
    let plural = if n_threads == 1 { "" } else { "s" };
    format!(" on {n_threads} thread{plural}")
}

/// Loads the model and sets its threads.
fn load_for_sampling(
    settings: &SampleSettings,
    device: &ComputeDevice,
) -> Result<LoadedModel<Box<dyn Model>>> {
    let threads = settings.threads.unwrap_or_else(physical_cores);
    match settings.quantize {
        Some(Quantization::Q8_0) => {
            let mut loaded = load(settings, &hf::read_quantized)?;
            loaded.model.set_threads(threads);
            // A number of threads that the user specified is used unchanged.
            settings.threads.iter().for_each(|n| loaded.model.set_decode_threads(*n));
            note_untrained(&loaded.dir);
            quantize::report_loss(&loaded, threads)?;
            Ok(loaded.boxed())
        }
        None => {
            let mut loaded = load(settings, &|dir| {
                let mut gpt = hf::read_dir(dir, &device.tensors())?;
                if device.is_cuda() {
                    device.place(&mut gpt, settings.dtype)?;
                }
                Ok(gpt)
            })?;
            loaded.model.set_threads(threads);
            settings.threads.iter().for_each(|n| loaded.model.set_decode_threads(*n));
            note_untrained(&loaded.dir);
            Ok(loaded.boxed())
        }
    }
}

/// Warns about a model that was not trained.
fn note_untrained(dir: &Path) {
    // Sampling needs no state, so one that cannot be read is not an error here.
    let state = checkpoint::state_of(dir).ok().flatten();
    if state.is_some_and(|state| state.step == 0) {
        say("note: this model was trained for 0 steps: its weights and its text are random");
    }
}
