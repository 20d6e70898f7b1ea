//! The shape of a run under `--budget` for which none was given.

use anyhow::Result;
use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_train::TrainConfig;

use super::super::starting_point::{STEP_EFFICIENCY, StartingPoint, TextSize};
use crate::options::{Layered, Origin, TrainOptions};
use crate::terminal::spoken;

/// The keys that give a shape: one of them is enough.
const SHAPE: [&str; 3] = ["n_layer", "n_head", "n_embd"];
/// The keys that give a learning rate, of which the same holds.
const RATE: [&str; 3] = ["learning_rate", "min_lr", "final_lr_frac"];

/// Chooses the shape of a new model by budget and text, and with it the other keys of the same row of the
/// table in `starting_point.rs`. What was given stays as it is.
///
/// # Errors
/// A device that cannot be measured, a value that does not go with the chosen ones.
pub(super) fn choose_shape(
    device: &ComputeDevice,
    layered: &mut Layered<TrainOptions>,
    config: &mut TrainConfig,
    prepared: &Prepared,
) -> Result<()> {
    let Some(budget) = config.budget else { return Ok(()) };
    let is_open = |key: &str| layered.given_by(key) == Origin::Default;
    if !SHAPE.into_iter().all(is_open) || config.init_from.is_model() {
        return Ok(());
    }
    let Some(peak) = device.peak_flops(config.resolved_threads(), config.dtype)? else {
        return Ok(());
    };
    let flops = STEP_EFFICIENCY * peak * budget.seconds();
    let text = TextSize::of(&prepared.meta);
    let Some(start) = StartingPoint::within(flops, text, prepared.tokenizer.vocab_size()) else {
        return Ok(());
    };
    let has_rate = !RATE.into_iter().all(is_open);
    let mut chosen = start.keys_of_any_length();
    chosen.retain(|key, value| {
        let is_chosen = is_open(key) && !(has_rate && RATE.contains(&key.as_str()));
        is_chosen && layered.value(key).as_f64() != value.as_f64()
    });
    let mut words = Vec::new();
    for (key, value) in chosen {
        words.push(format!("{key} {value}"));
        layered.fit(&key, value);
    }
    layered.note(format!(
        "no shape was given, so the run has {}, chosen for {} and this text",
        words.join(", "),
        spoken(budget.seconds())
    ));
    let init_from = config.init_from.clone();
    *config = layered.resolve()?.0;
    config.init_from = init_from;
    Ok(())
}
