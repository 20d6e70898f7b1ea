//! The end of a run: how it ended, how to resume it, and a story by its model.

use std::path::Path;

use anyhow::Result;
use tinygpt_data::shell_word;
use tinygpt_train::checkpoint::BEST;
use tinygpt_train::schedule::LrSchedule;
use tinygpt_train::{Outcome, TrainConfig, Trainer, as_typed};

use super::super::rendering::OutputFormat;
use super::super::story::SampleWriter;
use crate::exit::Ended;
use crate::options::{Layered, SampleOptions};
use crate::ranks::{Launched, launched};
use crate::terminal::{Output, grouped, say};

/// Reports how the run ended and what to do next. Prints a story by the model if the run is finished
/// and `prints_story`.
pub(super) fn conclude(
    config: &TrainConfig,
    trainer: &Trainer,
    outcome: Outcome,
    prints_story: bool,
) -> Result<Ended> {
    let out_dir = config.out_dir.display();
    match outcome {
        Outcome::Stopped(signal) if config.eval_only => return Ok(Ended::Stopped(signal)),
        Outcome::Stopped(signal) => {
            let (made, all) = (grouped(trainer.n_steps()), grouped(config.max_iters));
            say(&format!(
                "stopped after {made} of {all} steps; all of them are saved in {out_dir}"
            ));
            say(&format!("to resume: {}", resume_command(config)));
            return Ok(Ended::Stopped(signal));
        }
        Outcome::TimeUp(_) if config.eval_only => {
            say("--max-seconds reached before the evaluation was finished: raise it");
            return Ok(Ended::Done);
        }
        Outcome::TimeUp(step) => {
            let (made, all) = (grouped(step), grouped(config.max_iters));
            say(&format!(
                "--max-seconds reached after {made} of {all} steps, which are saved in {out_dir}"
            ));
            say(&format!("to resume: {}", resume_command(config)));
            return Ok(Ended::Done);
        }
        Outcome::Evaluated => return Ok(Ended::Done),
        Outcome::StoppedEarly(step) => say(&stopped_early(config, step)),
        Outcome::AlreadyFinished => say(&already_finished(config)),
        _ => say(&format!("done: {} steps", grouped(config.max_iters))),
    }
    if let Some(best) = trainer.best() {
        let dir = config.out_dir.join(BEST);
        say(&format!("best: val loss {:.4} at {}, in {}", best.val_loss, best.step, dir.display()));
    }
    if prints_story {
        print_story(config, trainer)?;
    }
    for line in next_commands(&config.out_dir, trainer.prepared().is_chat()) {
        say(&line);
    }
    Ok(Ended::Done)
}

fn stopped_early(config: &TrainConfig, step: u64) -> String {
    let times = match config.early_stopping_patience {
        Some(patience) if patience > 1 => format!("{patience} evaluations in a row"),
        _ => "1 evaluation".to_owned(),
    };
    format!(
        "stopped early after {} of {} steps: the validation loss did not improve in {times}; to \
         train further, raise --early-stopping-patience",
        grouped(step),
        grouped(config.max_iters)
    )
}

fn already_finished(config: &TrainConfig) -> String {
    let mut text = format!(
        "{} has already finished its {} steps; raise --max-iters to train further",
        config.out_dir.display(),
        grouped(config.max_iters)
    );
    if config.lr_schedule != LrSchedule::Constant && config.max_iters >= config.lr_decay_iters {
        text += &format!(
            " (at min_lr, {}, unless you also raise --lr-decay-iters)",
            as_typed(config.min_lr)
        );
    }
    text + ", or start over with --init-from scratch --overwrite"
}

/// Prints a document that the model generates.
fn print_story(config: &TrainConfig, trainer: &Trainer) -> Result<()> {
    let tokenizer = &trainer.prepared().tokenizer;
    let start = trainer.sample_start();
    let writer = if start.is_chat {
        say("an answer of the model:\n");
        SampleWriter::of_prompt(trainer.gpt(), tokenizer, start.prompt.clone())?
    } else {
        let is_story = start.eos.is_some();
        say(if is_story { "a story by the model:\n" } else { "a text by the model:\n" });
        SampleWriter::from_scratch(trainer.gpt(), tokenizer, trainer.special_tokens().bos)
    };
    let flags = SampleOptions { seed: Some(config.seed), ..SampleOptions::default() };
    let settings = Layered::new(&flags, None)?.resolve()?;
    let params = settings.params(tokenizer, start.eos);
    let written = writer.write_samples(&params, 1, (OutputFormat::Text, &[]), &mut Output::lock());
    say("");
    written.map(drop)
}

/// Commands that use the finished model.
fn next_commands(out_dir: &Path, is_chat: bool) -> Vec<String> {
    let sample = format!("cargo run --bin sample -- --out-dir {}", word(out_dir));
    if is_chat {
        return vec![
            format!("talk to it:       {sample} --chat"),
            format!("in your browser:  {sample} --serve"),
        ];
    }
    vec![
        format!("generate more:    {sample}"),
        format!("in your browser:  {sample} --serve"),
        format!("interactively:    {sample} --interactive"),
    ]
}

/// The command that resumes the run. The checkpoint has the settings; `--max-seconds` is not one of
/// them, so it is repeated.
pub(super) fn resume_command(config: &TrainConfig) -> String {
    let train = match launched() {
        Some(Launched { by, n_ranks, .. }) => {
            let program = std::env::args().next().unwrap_or_default();
            format!("{} -n {n_ranks} {}", by.name(), shell_word(&program))
        }
        None => "cargo run --bin train --".to_owned(),
    };
    let mut command = format!("{train} --init-from resume --out-dir {}", word(&config.out_dir));
    if let Some(seconds) = config.max_seconds {
        command.push_str(&format!(" --max-seconds {}", as_typed(seconds)));
    }
    command
}

fn word(path: &Path) -> String {
    shell_word(&path.display().to_string()).into_owned()
}
