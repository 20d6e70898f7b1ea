//! Checks of a configuration on its own.
//!
//! What depends on the data or the machine (a vocabulary smaller than the tokenizer's, a block
//! larger than the text, a missing device) is checked where those are opened.

use std::fmt;
use std::path::Path;

use tinygpt_model::DeviceSpec;

use super::{InitFrom, TrainConfig};
use crate::error::{Fault, TrainError};
use crate::report::as_typed;
use crate::schedule::LrSchedule;

impl TrainConfig {
    /// Checks every key by itself and together with the others.
    ///
    /// # Errors
    /// [`TrainError::Config`] with every fault, not only the first.
    pub fn validate(&self) -> Result<(), TrainError> {
        let mut faults = Faults(self.out_of_range());
        self.check_shape(&mut faults);
        self.check_schedule(&mut faults);
        self.check_budget(&mut faults);
        self.check_paths(&mut faults);
        if faults.0.is_empty() { Ok(()) } else { Err(TrainError::Config(faults.0)) }
    }

    fn check_shape(&self, faults: &mut Faults) {
        // A model that is fine-tuned has its own shape, which these must equal.
        let is_own_shape = !self.init_from.is_model();
        if is_own_shape && self.n_head > 0 && !self.n_embd.is_multiple_of(self.n_head) {
            let expected = format!("a multiple of `n_head` ({})", self.n_head);
            faults.add("n_embd", self.n_embd, expected);
        }
        // In the precision that the model computes in, where 0.999999999 is 1.
        if self.dropout < 1.0 && self.dropout as f32 >= 1.0 {
            faults.add("dropout", as_typed(self.dropout), "below 1 in single precision");
        }
        for (key, std) in [("init_std", self.init_std), ("embedding_std", self.embedding_std)] {
            if let Some(std) = std.filter(|std| *std > 0.0 && std.is_finite())
                && !((std as f32) > 0.0 && (std as f32).is_finite())
            {
                faults.add(key, as_typed(std), "above 0 and finite in single precision");
            }
        }
        let product = self
            .gradient_accumulation_steps
            .checked_mul(self.batch_size)
            .and_then(|windows| windows.checked_mul(self.block_size));
        if product.is_none() {
            let expected = "less: batch_size x block_size x gradient_accumulation_steps overflows";
            faults.add("batch_size", self.batch_size, expected);
        }
    }

    fn check_schedule(&self, faults: &mut Faults) {
        if !self.eval_only && self.max_iters == 0 {
            faults.add("max_iters", 0, "at least 1");
        }
        let decays = self.lr_schedule != LrSchedule::Constant;
        if decays && self.lr_decay_iters < self.warmup_iters {
            let expected = format!("at least `warmup_iters` ({})", self.warmup_iters);
            faults.add("lr_decay_iters", self.lr_decay_iters, expected);
        }
        if !(self.min_lr >= 0.0 && (!decays || self.min_lr <= self.learning_rate)) {
            let expected = format!("from 0 to `learning_rate` ({})", as_typed(self.learning_rate));
            faults.add("min_lr", as_typed(self.min_lr), expected);
        }
    }

    /// The length of a run can only be corrected while no decay depends on it.
    fn check_budget(&self, faults: &mut Faults) {
        if self.budget.is_some() && self.lr_schedule != LrSchedule::Wsd {
            let got = format!("{:?}", self.lr_schedule).to_lowercase();
            faults.add("lr_schedule", got, "wsd with `budget`");
        }
    }

    fn check_paths(&self, faults: &mut Faults) {
        faults.path("out_dir", &self.out_dir);
        faults.path("data_dir", &self.data_dir);
        if let InitFrom::Dir(dir) | InitFrom::Plateau(dir) = &self.init_from {
            faults.path("init_from", dir);
        }
        let name = Path::new(&self.dataset_name);
        if name.components().count() != 1 || name.file_name() != Some(name.as_os_str()) {
            let expected = "the name of a dataset, without a path (see `data_dir`)";
            faults.add("dataset_name", format!("{:?}", self.dataset_name), expected);
        }
        if self.overwrite && self.init_from == InitFrom::Resume {
            let expected =
                "false with `init_from` resume: one continues a run, the other replaces it";
            faults.add("overwrite", true, expected);
        }
        if self.overwrite && matches!(self.init_from, InitFrom::Plateau(_)) {
            let expected = "false with `init_from` plateau: choose an `out_dir` without a run";
            faults.add("overwrite", true, expected);
        }
        if self.profile && matches!(self.device, DeviceSpec::Metal(_)) {
            let expected =
                "false, or `device` cpu or cuda: candle does not time what runs on Metal";
            faults.add("profile", true, expected);
        }
    }
}

/// Collects faults, so that a user sees all of them at once.
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: &'static str, got: impl fmt::Display, expected: impl Into<String>) {
        self.0.push(Fault::new(key, got, expected));
    }

    /// Paths end up in JSON (the saved configuration), which cannot hold raw bytes.
    fn path(&mut self, key: &'static str, path: &Path) {
        if path.as_os_str().is_empty() {
            self.add(key, "empty", "a directory");
        } else if path.to_str().is_none() {
            self.add(key, format!("{path:?}"), "a path that is valid UTF-8");
        }
    }
}
