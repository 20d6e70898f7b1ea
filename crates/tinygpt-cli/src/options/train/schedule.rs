//! The options about the length of a run and its learning rate that can be given in several ways.
//!
//! The trainer knows `max_iters`, `lr_schedule` and `min_lr`. The other ways to say the same become
//! these before the run starts, and only these are recorded, so that a resumed run is the same run.
//! Of two ways, a flag counts more than the file, and the file more than a checkpoint.

use serde_json::Value;
use tinygpt_train::as_typed;

use super::super::layer::{Faults, Layered, Origin};
use super::TrainOptions;

/// The keys of which exactly one gives the length of a run.
const HORIZONS: [&str; 4] = ["max_iters", "max_tokens", "max_epochs", "budget"];

/// `decay_lr false` is `lr_schedule constant`, unless that is given with more weight.
pub(super) fn fit_shape(layered: &mut Layered<TrainOptions>) {
    let is_given = layered.given_by("decay_lr") > layered.given_by("lr_schedule");
    if is_given && layered.options.get("decay_lr") == Some(false) {
        layered.fit("lr_schedule", "constant".into());
    }
    let is_open = layered.origin("lr_schedule") == Origin::Default;
    if is_open && layered.given_by("budget") > Origin::Checkpoint {
        layered.fit("lr_schedule", "wsd".into());
    }
}

/// Keeps the length that is given with the most weight, and the decay of `wsd` at its end.
pub(super) fn fit_horizon(layered: &mut Layered<TrainOptions>) {
    let strongest = HORIZONS.map(|key| layered.given_by(key)).into_iter().max();
    for key in &HORIZONS[1..] {
        if Some(layered.given_by(key)) < strongest {
            layered.clear(key);
        }
    }
    let is_wsd = layered.options.get::<String>("lr_schedule").as_deref() == Some("wsd");
    let count = |key| layered.options.get::<u64>(key);
    let (max_iters, end) = (count("max_iters"), count("lr_decay_iters"));
    let is_resumed = layered.given_by("lr_decay_iters") == Origin::Checkpoint;
    let is_longer = layered.given_by("max_iters") > Origin::Checkpoint && max_iters != end;
    if let Some(max_iters) = max_iters.filter(|_| is_wsd && is_resumed && is_longer) {
        layered.note(format!(
            "lr_decay_iters is {max_iters} instead of {} ({}): the decay of wsd is at the end of the \
             run",
            end.unwrap_or_default(),
            layered.place("lr_decay_iters")
        ));
        layered.fit("lr_decay_iters", max_iters.into());
    }
}

/// `final_lr_frac` gives `min_lr`, unless that is given with more weight.
pub(super) fn fit_final_lr(layered: &mut Layered<TrainOptions>) {
    let number = |key| layered.options.get::<f64>(key);
    let (Some(fraction), Some(rate)) = (number("final_lr_frac"), number("learning_rate")) else {
        return;
    };
    if layered.given_by("final_lr_frac") > layered.given_by("min_lr") {
        let product = fraction * rate;
        // Rounded, so that a tenth of 0.003 is 0.0003.
        layered.fit("min_lr", format!("{product:.11e}").parse().unwrap_or(product).into());
    }
}

/// Adds a fault for each pair of options that contradict each other.
pub(super) fn check(layered: &Layered<TrainOptions>, faults: &mut Faults<'_, TrainOptions>) {
    let mut conflict = |key: &str, other: &str, reason: &str| {
        let origin = layered.given_by(key);
        if origin > Origin::Checkpoint && origin == layered.given_by(other) {
            faults.conflict(key, &format!("--{}", other.replace('_', "-")), reason);
        }
    };
    for (index, key) in HORIZONS.iter().enumerate() {
        for other in &HORIZONS[..index] {
            conflict(key, other, "each gives the length of the run");
        }
        if index > 0 {
            conflict(key, "lr_decay_iters", "the decay ends with the run");
        }
    }
    conflict("final_lr_frac", "min_lr", "each gives the learning rate at the end");
    let shape = layered.options.get::<String>("lr_schedule").unwrap_or_default();
    if layered.options.get("decay_lr") == Some(false) && shape != "constant" {
        conflict("decay_lr", "lr_schedule", "false is the same as `constant`");
    }
    if layered.given_by("warmdown_ratio") == Origin::Flag && shape != "wsd" {
        faults.needs("warmdown_ratio", "--lr-schedule wsd");
    }
}

impl Layered<TrainOptions> {
    /// Sets the length of the run, which was given as `key`, and ends decay and warm-up in it.
    pub fn set_horizon(&mut self, key: &str, max_iters: u64) {
        for target in ["max_iters", "lr_decay_iters"] {
            let given = self.given_by(target);
            if given == self.given_by(key) {
                continue;
            }
            if given != Origin::Default && self.value(target) != max_iters {
                self.note(format!(
                    "{target} is {max_iters} (--{} {}) instead of {} ({})",
                    key.replace('_', "-"),
                    typed(&self.value(key)),
                    self.value(target),
                    self.place(target)
                ));
            }
            self.fit(target, max_iters.into());
        }
        if self.value("warmup_iters").as_u64() > Some(max_iters) {
            self.note(format!(
                "warmup_iters is {max_iters} instead of {} ({}), as the run has only {max_iters} \
                 steps",
                self.value("warmup_iters"),
                self.place("warmup_iters")
            ));
            self.fit("warmup_iters", max_iters.into());
        }
    }
}

/// A value as it is typed after its flag.
fn typed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => as_typed(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}
