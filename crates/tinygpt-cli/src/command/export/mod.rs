//! `sample --export`: the model for other programs, whole at its path or not there at all.
//!
//! What is written goes to a temporary name beside PATH, is synced, and only then gets its name; what
//! stood there before stays until then. How each format tells of the tokenizer and of the training is
//! said beside this file.

mod card;
mod example;
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

use super::inside::check_outside;
use super::sample::Opened;
use crate::exit::Ended;
use crate::options::{Export, ExportFormat};
use crate::terminal::say;
use crate::usage::UsageError;

/// Every file of a directory for transformers.
const HF_FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    FILE_NAME,
    CONFIG_FILE_NAME,
    card::FILE_NAME,
];

/// How a GGUF file begins.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";

/// Refuses a path that must not be written, before any work.
///
/// # Errors
/// [`UsageError`] if there is something already, or a directory where a file is meant.
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
        ExportFormat::Hf if !metadata.is_dir() => {
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
        return refuse(format!("{shown} exists already"), "--overwrite replaces it");
    }
    let stranger =
        names.iter().find(|name| metadata.is_dir() && !HF_FILES.contains(&name.as_str()));
    match stranger {
        None => Ok(()),
        Some(name) => refuse(
            format!("{shown} holds {name}, which no export made: it is not replaced"),
            "name another directory",
        ),
    }
}

/// Whether it is a file itself, not a link or a device, and begins as a GGUF file does.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; GGUF_MAGIC.len()];
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        && fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == GGUF_MAGIC
}

/// Refuses something under a temporary name that no export has left there.
fn check_leftover(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let is_ours = if metadata.is_dir() {
        names_in(path)?.iter().all(|name| HF_FILES.contains(&name.as_str()))
    } else {
        metadata.is_file() && (metadata.len() == 0 || is_gguf(path))
    };
    if is_ours {
        return Ok(());
    }
    let what = format!("{} is in the way, and no export made it", path.display());
    Err(UsageError::new(what).hint("move it somewhere else, or name another path").into())
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().with_context(|| format!("cannot list {}", dir.display()))
}

/// Writes the model and says how to use it.
///
/// # Errors
/// A tokenizer that the format cannot express, a disk that refuses.
pub(super) fn write(export: &Export, opened: &Opened<Gpt>) -> Result<Ended> {
    let path = &export.path;
    let part = part_of(path);
    remove(&part)?;
    create_dir_all(parent_of(path))?;
    let written = match export.format {
        ExportFormat::Gguf(weights) => write_gguf(opened, weights, &part),
        ExportFormat::Hf => write_hf(opened, &part),
    };
    if let Err(error) = written.and_then(|()| publish(&part, path)) {
        // The export has failed already; that its leftovers stay is not worth a second error.
        let _ = remove(&part);
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    say(&format!("written: {}", path.display()));
    say(&next(export, opened));
    Ok(Ended::Done)
}

/// Gives what is at `part` the name `path`.
fn publish(part: &Path, path: &Path) -> Result<()> {
    if !part.is_dir() {
        return Ok(replace_file(part, path)?);
    }
    sync_contents(part)?;
    let old = old_of(path);
    restore_dir(path, &old)?;
    Ok(replace_dir(part, path, &old)?)
}

fn write_gguf(opened: &Opened<Gpt>, weights: WeightType, part: &Path) -> Result<()> {
    let Opened { model: gpt, tokenizer, special, .. } = opened;
    let name = card::Card::of(opened)?.name;
    let mut metadata: Metadata = vec![("general.name".to_owned(), Value::String(name))];
    metadata.extend(vocabulary::metadata(&tokenizer.vocabulary()?, *special)?);
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

fn write_hf(opened: &Opened<Gpt>, part: &Path) -> Result<()> {
    fs::create_dir(part).with_context(|| format!("cannot create {}", part.display()))?;
    hf::write_dir(&opened.model, part, &opened.special)?;
    opened.tokenizer.save_with_model(part, opened.model.config().block_size)?;
    let text = card::Card::of(opened)?.text();
    fs::write(part.join(card::FILE_NAME), text).context("cannot write the model card")
}

/// How the other program takes it.
fn next(export: &Export, opened: &Opened<Gpt>) -> String {
    let path = export.path.to_string_lossy();
    match export.format {
        ExportFormat::Gguf(_) => {
            let context = opened.model.config().block_size;
            let model = shell_word(&path);
            let run = format!("run it: llama-completion -m {model} -c {context} -no-cnv");
            match example::Example::of(opened) {
                // Shells do not agree on how to write a newline.
                Some(example) if !example.prompt.contains('\n') => {
                    format!("{run} -p {} -n {}", shell_word(&example.prompt), example.n_new)
                }
                Some(example) => format!("{run} -p \"…\" -n {}", example.n_new),
                None => run,
            }
        }
        ExportFormat::Hf => {
            format!("load it: GPT2LMHeadModel.from_pretrained(\"{path}\"); README.md is its card")
        }
    }
}
