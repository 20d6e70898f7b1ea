//! `sample --export`: writes the model for other programs.
//!
//! The export is written to a temporary name next to PATH, synced and renamed, so that PATH is
//! complete or not there. What was at PATH stays until then.

mod card;
mod chat;
mod example;
mod ollama;
mod vocabulary;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tinygpt_data::{CONFIG_FILE_NAME, FILE_NAME, shell_word};
use tinygpt_fs::{
    create_dir_all, old_of, parent_of, part_of, remove, replace_dir, replace_file, restore_dir,
    sync_contents,
};
use tinygpt_model::Gpt;
use tinygpt_model::gguf::{self, Metadata, Value, WeightType};
use tinygpt_model::hf;

use super::super::inside::check_outside;
use super::load::LoadedModel;
use crate::exit::Ended;
use crate::options::{Export, ExportFormat, SampleSettings};
use crate::terminal::say;
use crate::usage::UsageError;

/// Every file of a directory for transformers.
const HF_FILES: [&str; 6] =
    [hf::CONFIG, hf::GENERATION_CONFIG, hf::WEIGHTS, FILE_NAME, CONFIG_FILE_NAME, card::FILE_NAME];

/// Every file of a directory for Ollama.
const OLLAMA_FILES: [&str; 2] = [ollama::WEIGHTS, ollama::FILE_NAME];

/// The first bytes of a GGUF file.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";

/// Refuses a path that must not be written, before any work.
///
/// # Errors
/// [`UsageError`] if PATH exists, or is a directory and the format is a file.
pub(super) fn check_path(export: &Export) -> Result<()> {
    let (path, shown) = (&export.path, export.path.display());
    check_outside("--export", path)?;
    for leftover in [part_of(path), old_of(path)] {
        check_leftover(&leftover)?;
    }
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    let refuse = |what: String, hint: &str| Err(UsageError::new(what).hint(hint).into());
    match export.format {
        ExportFormat::Gguf(_) if metadata.is_dir() => {
            return refuse(format!("{shown} is a directory"), "name a file, such as model.gguf");
        }
        format if format.is_dir() && !metadata.is_dir() => {
            return refuse(format!("{shown} is a file"), "name a directory");
        }
        ExportFormat::Gguf(_) if !is_gguf(path) => {
            return refuse(
                format!("{shown} is not a GGUF file, so it is not replaced"),
                "name another file, such as model.gguf",
            );
        }
        _ => {}
    }
    let names = if metadata.is_dir() { names_in(path)? } else { vec![String::new()] };
    if names.is_empty() {
        return Ok(());
    }
    if !export.overwrite {
        return refuse(format!("{shown} already exists"), "--overwrite replaces it");
    }
    let ours = files_of(export.format);
    let foreign = names.iter().find(|name| metadata.is_dir() && !ours.contains(&name.as_str()));
    match foreign {
        None => Ok(()),
        Some(name) => refuse(
            format!(
                "{shown} holds {name}, which is not from such an export, so it is not replaced"
            ),
            "name another directory",
        ),
    }
}

/// The files that a directory of this format has.
fn files_of(format: ExportFormat) -> &'static [&'static str] {
    match format {
        ExportFormat::Gguf(_) => &[],
        ExportFormat::Hf => &HF_FILES,
        ExportFormat::Ollama(_) => &OLLAMA_FILES,
    }
}

/// Whether it is a regular file, not a link or a device, that starts like a GGUF file.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; GGUF_MAGIC.len()];
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        && fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == GGUF_MAGIC
}

/// Refuses a file with our temporary name that is not from an interrupted export.
fn check_leftover(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let is_ours = if metadata.is_dir() {
        let all = [HF_FILES.as_slice(), OLLAMA_FILES.as_slice()].concat();
        names_in(path)?.iter().all(|name| all.contains(&name.as_str()))
    } else {
        metadata.is_file() && (metadata.len() == 0 || is_gguf(path))
    };
    if is_ours {
        return Ok(());
    }
    let what = format!("{} is in the way and is not from an export", path.display());
    Err(UsageError::new(what).hint("move it somewhere else, or name another path").into())
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().with_context(|| format!("cannot list {}", dir.display()))
}

/// Writes the model and prints how to use it.
///
/// # Errors
/// A tokenizer that the format cannot express, a disk that refuses.
pub(super) fn write(
    export: &Export,
    settings: &SampleSettings,
    loaded: &LoadedModel<Gpt>,
) -> Result<Ended> {
    let path = &export.path;
    let part = part_of(path);
    remove(&part)?;
    create_dir_all(parent_of(path))?;
    let written = match export.format {
        ExportFormat::Gguf(weights) => write_gguf(loaded, weights, &part),
        ExportFormat::Hf => write_hf(loaded, &part),
        ExportFormat::Ollama(weights) => write_ollama(loaded, weights, settings, &part),
    };
    if let Err(error) = written.and_then(|()| publish(&part, path)) {
        // The export has already failed; leftovers are not worth a second error.
        let _ = remove(&part);
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    say(&format!("written: {}", path.display()));
    say(&next(export, loaded)?);
    Ok(Ended::Done)
}

/// Renames `part` to `path`.
fn publish(part: &Path, path: &Path) -> Result<()> {
    if !part.is_dir() {
        return Ok(replace_file(part, path)?);
    }
    sync_contents(part)?;
    let old = old_of(path);
    restore_dir(path, &old)?;
    Ok(replace_dir(part, path, &old)?)
}

fn write_gguf(loaded: &LoadedModel<Gpt>, weights: WeightType, part: &Path) -> Result<()> {
    let LoadedModel { model: gpt, tokenizer, special, .. } = loaded;
    let name = card::Card::of(loaded)?.name;
    let mut metadata: Metadata = vec![("general.name".to_owned(), Value::String(name))];
    metadata.extend(vocabulary::metadata(&tokenizer.vocabulary()?, *special)?);
    metadata.extend(chat::metadata(tokenizer));
    let n_tokens = tokenizer.vocab_size();
    let stored = gguf::write_file(gpt, n_tokens, weights, metadata, part)?;
    if stored.n_f16_instead > 0 {
        say(&format!(
            "note: {} of {} matrices are stored as f16, since q8_0 needs rows of a multiple of 32 \
             and n_embd is {}",
            stored.n_f16_instead,
            stored.n_matrices,
            gpt.config().n_embd
        ));
    }
    Ok(())
}

fn write_hf(loaded: &LoadedModel<Gpt>, part: &Path) -> Result<()> {
    fs::create_dir(part).with_context(|| format!("cannot create {}", part.display()))?;
    let n_tokens = loaded.tokenizer.vocab_size();
    hf::write_dir_without_padding(&loaded.model, n_tokens, part, &loaded.special)?;
    chat::add_end_of_turn(part, &loaded.tokenizer, loaded.special)?;
    loaded.tokenizer.save_with_model(part, loaded.model.config().block_size)?;
    let text = card::Card::of(loaded)?.text();
    fs::write(part.join(card::FILE_NAME), text).context("cannot write the model card")
}

fn write_ollama(
    loaded: &LoadedModel<Gpt>,
    weights: WeightType,
    settings: &SampleSettings,
    part: &Path,
) -> Result<()> {
    let text = ollama::modelfile(&loaded.tokenizer, loaded.model.config().block_size, settings)?;
    fs::create_dir(part).with_context(|| format!("cannot create {}", part.display()))?;
    write_gguf(loaded, weights, &part.join(ollama::WEIGHTS))?;
    fs::write(part.join(ollama::FILE_NAME), text).context("cannot write the Modelfile")
}

/// The command or call that loads the export.
fn next(export: &Export, loaded: &LoadedModel<Gpt>) -> Result<String> {
    let path = export.path.to_string_lossy();
    Ok(match export.format {
        ExportFormat::Gguf(_) => llama_cpp(&path, loaded),
        ExportFormat::Hf => {
            format!(
                "load it: GPT2LMHeadModel.from_pretrained(\"{path}\"); README.md is the model card"
            )
        }
        ExportFormat::Ollama(_) => {
            let name = ollama::model_name(&card::Card::of(loaded)?.name);
            let modelfile = export.path.join(ollama::FILE_NAME);
            let modelfile = shell_word(&modelfile.to_string_lossy()).into_owned();
            format!("run it: ollama create {name} -f {modelfile}, then ollama run {name}")
        }
    })
}

/// The commands that run a GGUF file in llama.cpp.
fn llama_cpp(path: &str, loaded: &LoadedModel<Gpt>) -> String {
    let options = format!("-m {} -c {}", shell_word(path), loaded.model.config().block_size);
    if chat::end_of_turn(&loaded.tokenizer).is_some() {
        return format!(
            "chat with it: llama-cli {options} --jinja, or serve it: llama-server {options} --jinja"
        );
    }
    let run = format!("run it: llama-completion {options} -no-cnv");
    match example::Example::of(loaded) {
        // Shells differ in how to write a newline.
        Some(example) if !example.prompt.contains('\n') => {
            format!("{run} -p {} -n {}", shell_word(&example.prompt), example.n_new)
        }
        Some(example) => format!("{run} -p \"…\" -n {}", example.n_new),
        None => run,
    }
}
