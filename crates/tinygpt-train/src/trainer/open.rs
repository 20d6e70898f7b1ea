//! What happens before a run: checks, the lock of `out_dir`, the first weights.

use std::time::Duration;

use serde_json::{Map, Value};
use tinygpt_data::Prepared;
use tinygpt_model::{Backend, ComputeDevice, ComputeType, Gpt, Grads};

use super::Trainer;
use super::announce::recomputing;
use super::budget::Speed;
use super::clock::Clock;
use super::ownership::claim_out_dir;
use crate::checkpoint::{self, OutDirLock};
use crate::config::TrainConfig;
use crate::document::{SampleStart, special_tokens};
use crate::error::{Fault, TrainError};
use crate::ranks::{Ranks, RanksError};
use crate::rows::{eval_sets, training_loader};
use crate::start::{Start, instruction_set, receive_start, send_start, start};

impl Trainer {
    /// [`Trainer::on`] as one of several `ranks`, all of which make one run together, on the CPU. Only rank
    /// 0 opens `out_dir`; the others get the first weights from it.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`TrainError::Ranks`] if another rank fails, or would train another run.
    pub fn on_ranks(
        device: &ComputeDevice,
        config: TrainConfig,
        prepared: Prepared,
        mut ranks: Ranks,
    ) -> Result<Self, TrainError> {
        ranks.agree(check(&config, &prepared), TrainError::failure)?;
        if !ranks.is_alone() {
            ranks.check_same(&facts(&config, &prepared, device))?;
            check_ranks(&config, &ranks)?;
        }
        let clock = Clock::start(&config);
        let (lock, peak_flops, start) = Self::open(device, &config, &prepared, &mut ranks)?;
        let Start { mut gpt, optimizer, progress, from, origin, changed, mut notices } = start;
        if !ranks.is_alone() && gpt.backend() != Backend::Cpu {
            let what = format!("`device` {}", device.name());
            return Err(RanksError::Alone { what, n_ranks: ranks.n_ranks() }.into());
        }
        let block_size = gpt.config().block_size;
        let loader = training_loader(&config, &prepared, block_size)?;
        let eval_sets = eval_sets(&config, &prepared, block_size)?;
        let grads = set_up(&mut gpt, &config, device, &mut notices)?;
        let special = special_tokens(&prepared)?;
        let replaces = lock.is_some()
            && progress.last_saved.is_none()
            && !checkpoint::list(&config.out_dir)?.is_empty();
        if replaces {
            notices.push(checkpoint::announcement(&config.out_dir)?);
        }
        ranks.expect_answers_within(timeout(&config));
        Ok(Self {
            config,
            sample_start: SampleStart::of(&prepared, special, block_size)?,
            prepared,
            special,
            loader,
            eval_sets,
            device: device.clone(),
            gpt,
            optimizer,
            grads,
            progress,
            replaces,
            last_grad_norm: f64::NAN,
            last_eval: None,
            has_unsaved_eval: false,
            n_failed_saves: 0,
            unsaved_best: None,
            clock,
            speed: Speed::default(),
            started_from: from,
            origin,
            changed,
            notices,
            peak_flops,
            program: Map::new(),
            lock: lock.map(OutDirLock::keep),
            ranks,
        })
    }

    /// Locks `out_dir` and gets the first weights, at rank 0; the others get them from it. Also measures the
    /// machine.
    fn open(
        device: &ComputeDevice,
        config: &TrainConfig,
        prepared: &Prepared,
        ranks: &mut Ranks,
    ) -> Result<(Option<OutDirLock>, Option<f64>, Start), TrainError> {
        let opened = if ranks.is_first() {
            lock_and_start(device, config, prepared, ranks.n_ranks()).map(Some)
        } else {
            Ok(None)
        };
        let opened = ranks.agree(opened, TrainError::failure)?;
        let (lock, start) = match opened {
            Some((lock, mut start)) => {
                send_start(ranks, &mut start)?;
                (lock, start)
            }
            None => (None, receive_start(ranks, config, device)?),
        };
        // On all ranks at the same time, so that each measures its share of the machine.
        let peak = device.peak_flops(config.resolved_threads(), config.dtype)?;
        Ok((lock, peak.map(|peak| peak * ranks.n_ranks() as f64), start))
    }
}

fn lock_and_start(
    device: &ComputeDevice,
    config: &TrainConfig,
    prepared: &Prepared,
    n_ranks: usize,
) -> Result<(Option<OutDirLock>, Start), TrainError> {
    let lock = if config.eval_only { None } else { Some(OutDirLock::take(&config.out_dir)?) };
    if lock.is_some() {
        claim_out_dir(config)?;
    }
    Ok((lock, start(config, prepared, device, n_ranks)?))
}

/// Fits the model to the configuration and allocates what training needs.
fn set_up(
    gpt: &mut Gpt,
    config: &TrainConfig,
    device: &ComputeDevice,
    notices: &mut Vec<String>,
) -> Result<Grads, TrainError> {
    gpt.set_threads(config.resolved_threads());
    gpt.set_cuda_graphs(config.cuda_graph);
    gpt.set_recompute(config.recompute);
    if device.is_cpu() && config.dtype != ComputeType::Float32 {
        notices.push(format!("dtype is {}: a CPU computes in float32", config.dtype.name()));
    }
    let grads = gpt.new_grads()?;
    gpt.reserve(config.batch_size, gpt.config().block_size)?;
    notices.extend(recomputing(config, gpt));
    Ok(grads)
}

fn check(config: &TrainConfig, prepared: &Prepared) -> Result<(), TrainError> {
    config.validate()?;
    check_block_size(config.block_size, prepared)
}

/// Refuses what only one process can do.
fn check_ranks(config: &TrainConfig, ranks: &Ranks) -> Result<(), RanksError> {
    let n_ranks = ranks.n_ranks();
    if config.budget.is_some() {
        return Err(RanksError::Alone { what: "`budget`".to_owned(), n_ranks });
    }
    let n_windows = config.batch_size * config.gradient_accumulation_steps;
    if n_windows < n_ranks { Err(RanksError::TooMany { n_windows, n_ranks }) } else { Ok(()) }
}

/// What has to be the same on all ranks: the run, its data, and what the last bits of a sum depend on.
fn facts(config: &TrainConfig, prepared: &Prepared, device: &ComputeDevice) -> Map<String, Value> {
    let mut facts = match serde_json::to_value(config) {
        Ok(Value::Object(facts)) => facts,
        _ => Map::new(),
    };
    // Directories may have other names on another machine.
    for key in ["out_dir", "data_dir", "init_from"] {
        facts.remove(key);
    }
    facts.insert("threads".to_owned(), config.resolved_threads().into());
    facts.insert("device".to_owned(), device.name().into());
    facts.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    facts.insert("instruction set".to_owned(), instruction_set().into());
    facts.insert("dataset".to_owned(), prepared.meta.fingerprint().into());
    facts
}

fn timeout(config: &TrainConfig) -> Duration {
    Duration::try_from_secs_f64(config.rank_timeout).unwrap_or(Duration::MAX)
}

/// Checks that both splits hold at least one window, as [`Trainer::new`] does.
///
/// # Errors
/// [`TrainError::Config`] with the largest `block_size` that works.
pub fn check_block_size(block_size: usize, prepared: &Prepared) -> Result<(), TrainError> {
    let (train, val) = (prepared.train.len(), prepared.val.len());
    let largest = train.min(val).saturating_sub(1);
    if block_size <= largest {
        return Ok(());
    }
    let tokens = format!("the training split holds {train} tokens and the validation split {val}");
    let expected = match largest {
        0 => format!("more text: {tokens}, and a window needs 2 at least"),
        _ => format!("at most {largest}: {tokens}, and a window needs one more than `block_size`"),
    };
    Err(TrainError::Config(vec![Fault::new("block_size", block_size, expected)]))
}
