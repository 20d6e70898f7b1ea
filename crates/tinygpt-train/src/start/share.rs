//! The start of a run on several ranks: rank 0 has it, the others get it.

use serde::{Deserialize, Serialize};
use tinygpt_model::{ComputeDevice, Gpt, ParamArrays, Params, host, param_specs};

use super::{Changed, Progress, Start};
use crate::adamw::{AdamW, Moments};
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::ranks::{Ranks, RanksError};

/// Where the run starts, as rank 0 has found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Started {
    vocab_size: usize,
    optimizer_steps: u64,
    progress: Progress,
}

/// Gives the other ranks the weights, moments and progress of `start`.
///
/// # Errors
/// [`TrainError::Ranks`].
pub(crate) fn send_start(ranks: &mut Ranks, start: &mut Start) -> Result<(), TrainError> {
    if ranks.is_alone() {
        return Ok(());
    }
    ranks.gather(&Some(Started {
        vocab_size: start.gpt.config().vocab_size,
        optimizer_steps: start.optimizer.n_steps(),
        progress: start.progress,
    }))?;
    share(ranks, &start.gpt, start.optimizer.n_steps(), start.optimizer.moments_mut())
}

/// Gets them from rank 0.
///
/// # Errors
/// [`TrainError::Ranks`]; [`TrainError::Model`] if there is no memory for them.
pub(crate) fn receive_start(
    ranks: &mut Ranks,
    config: &TrainConfig,
    device: &ComputeDevice,
) -> Result<Start, TrainError> {
    let all = ranks.gather(&None::<Started>)?;
    let unreadable = || RanksError::Unreadable { rank: 0 };
    let started = all.into_iter().next().flatten().ok_or_else(unreadable)?;
    let shape = config.model_config(started.vocab_size);
    let zeros = || param_specs(&shape).iter().map(|spec| vec![0.0; spec.len()]).collect();
    let gpt = Gpt::from_params(Params::from_values(&shape, zeros(), &device.tensors())?)?;
    let mut moments = Moments { m: gpt.zeros()?, v: gpt.zeros()? };
    share(ranks, &gpt, started.optimizer_steps, &mut moments)?;
    Ok(Start {
        optimizer: AdamW::restore(config.adamw(), started.optimizer_steps, moments),
        gpt,
        progress: started.progress,
        from: String::new(),
        origin: config.init_from.clone(),
        changed: Changed::new(),
        notices: Vec::new(),
    })
}

fn share(
    ranks: &mut Ranks,
    gpt: &Gpt,
    optimizer_steps: u64,
    moments: &mut Moments,
) -> Result<(), TrainError> {
    for (_, tensor) in gpt.params().iter() {
        host::write(tensor, |weights| ranks.broadcast(weights))??;
    }
    if optimizer_steps > 0
        && let (ParamArrays::Host(m), ParamArrays::Host(v)) = (&mut moments.m, &mut moments.v)
    {
        m.iter_mut().chain(v).try_for_each(|array| ranks.broadcast(array))?;
    }
    Ok(())
}
