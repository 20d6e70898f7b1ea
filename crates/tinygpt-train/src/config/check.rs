//! All checks of a configuration that need nothing but itself.
//!
//! What needs the data or the machine (a vocabulary smaller than the tokenizer's, a block larger
//! than the text, a device that is not there) is checked where those are opened.

use std::fmt;
use std::path::Path;

use super::{InitFrom, TrainConfig};
use crate::error::{Fault, TrainError};
use crate::report::as_typed;

impl TrainConfig {
    /// Checks every key by itself and against the others.
    ///
    /// # Errors
    /// [`TrainError::Config`] with every fault found, not only the first.
    pub fn validate(&self) -> Result<(), TrainError> {
        let mut faults = Faults::default();
        self.check_shape(&mut faults);
        self.check_counts(&mut faults);
        self.check_saving(&mut faults);
        self.check_optimizer(&mut faults);
        self.check_places(&mut faults);
        self.check_refused(&mut faults);
        if faults.0.is_empty() { Ok(()) } else { Err(TrainError::Config(faults.0)) }
    }

    fn check_shape(&self, faults: &mut Faults) {
        faults.at_least_one("batch_size", self.batch_size);
        faults.at_least_one("block_size", self.block_size);
        faults.at_least_one("n_layer", self.n_layer);
        faults.at_least_one("n_embd", self.n_embd);
        faults.at_least_one("n_head", self.n_head);
        faults.at_least_one("gradient_accumulation_steps", self.gradient_accumulation_steps);
        // A model that is fine-tuned has a shape of its own, to which these have to be equal.
        let is_own_shape = self.init_from.model_dir().is_none();
        if is_own_shape && self.n_head > 0 && !self.n_embd.is_multiple_of(self.n_head) {
            let expected = format!("a multiple of `n_head` ({})", self.n_head);
            faults.add("n_embd", self.n_embd, expected);
        }
        if self.vocab_size == Some(0) {
            faults.add("vocab_size", 0, "null (the tokenizer's) or a number of at least 1");
        }
        // In the precision that the model computes in, where 0.999999999 is 1.
        if !(0.0..1.0).contains(&(self.dropout as f32)) {
            faults.add(
                "dropout",
                as_typed(self.dropout),
                "a probability from 0 up to but not including 1",
            );
        }
        let product = self
            .gradient_accumulation_steps
            .checked_mul(self.batch_size)
            .and_then(|windows| windows.checked_mul(self.block_size));
        if product.is_none() {
            let expected = "with `block_size` and `gradient_accumulation_steps` a smaller product";
            faults.add("batch_size", self.batch_size, expected);
        }
    }

    fn check_counts(&self, faults: &mut Faults) {
        faults.at_least_one("eval_interval", self.eval_interval);
        faults.at_least_one("log_interval", self.log_interval);
        faults.at_least_one("eval_iters", self.eval_iters);
        if !self.eval_only {
            faults.at_least_one("max_iters", self.max_iters);
        }
        if self.decay_lr && self.lr_decay_iters < self.warmup_iters {
            let expected = format!("at least `warmup_iters` ({})", self.warmup_iters);
            faults.add("lr_decay_iters", self.lr_decay_iters, expected);
        }
        if self.verify_resume == Some(0) {
            faults.add("verify_resume", 0, "null (train as usual) or a number of at least 1");
        }
        if self.threads == Some(0) {
            faults.add("threads", 0, "null (all cores) or a number of at least 1");
        }
    }

    fn check_saving(&self, faults: &mut Faults) {
        if self.checkpoint_interval == Some(0) {
            faults.add("checkpoint_interval", 0, "null (off) or a number of at least 1");
        }
        if !(self.checkpoint_minutes.is_finite() && self.checkpoint_minutes >= 0.0) {
            let expected = "a finite number of at least 0 (0 switches it off)";
            faults.add("checkpoint_minutes", as_typed(self.checkpoint_minutes), expected);
        }
        faults.at_least_one("keep_checkpoints", self.keep_checkpoints);
        if let Some(seconds) = self.max_seconds.filter(|s| !(s.is_finite() && *s > 0.0)) {
            faults.add("max_seconds", as_typed(seconds), "null (no limit) or a number above 0");
        }
    }

    fn check_optimizer(&self, faults: &mut Faults) {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            faults.add("learning_rate", as_typed(self.learning_rate), "a finite number above 0");
        }
        if !(self.min_lr >= 0.0 && (!self.decay_lr || self.min_lr <= self.learning_rate)) {
            let expected = format!("from 0 to `learning_rate` ({})", as_typed(self.learning_rate));
            faults.add("min_lr", as_typed(self.min_lr), expected);
        }
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                faults.add(key, as_typed(beta), "from 0 up to but not including 1");
            }
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("grad_clip", self.grad_clip)] {
            if !(value.is_finite() && value >= 0.0) {
                faults.add(
                    key,
                    as_typed(value),
                    "a finite number of at least 0 (0 switches it off)",
                );
            }
        }
    }

    fn check_places(&self, faults: &mut Faults) {
        faults.path("out_dir", &self.out_dir);
        faults.path("data_dir", &self.data_dir);
        if let InitFrom::Dir(dir) = &self.init_from {
            faults.path("init_from", dir);
        }
        let name = Path::new(&self.dataset_name);
        if name.components().count() != 1 || name.file_name() != Some(name.as_os_str()) {
            let expected = "the name of a dataset, without a path (see `data_dir`)";
            faults.add("dataset_name", format!("{:?}", self.dataset_name), expected);
        }
        if self.overwrite && self.init_from == InitFrom::Resume {
            let expected = "false with `init_from` resume: one of the two goes on, the other not";
            faults.add("overwrite", true, expected);
        }
    }

    fn check_refused(&self, faults: &mut Faults) {
        if self.compile {
            let expected = "false: there is no graph to compile, the kernels are compiled already";
            faults.add("compile", true, expected);
        }
        if self.wandb_log {
            let expected = "false: the curves are in `out_dir`, as metrics.jsonl and loss.svg";
            faults.add("wandb_log", true, expected);
        }
        if self.profile && self.device != "cpu" {
            let expected = "false, or device cpu: a GPU works while the program goes on";
            faults.add("profile", true, expected);
        }
        if !["float32", "bfloat16"].contains(&self.dtype.as_str()) {
            let expected = "float32 or bfloat16 (float16 needs loss scaling, which is left out)";
            faults.add("dtype", format!("{:?}", self.dtype), expected);
        }
    }
}

/// Collects faults, so that a user mends a file once.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: &'static str, got: impl fmt::Display, expected: impl Into<String>) {
        self.0.push(Fault::new(key, got, expected));
    }

    fn at_least_one<N: fmt::Display + PartialEq + Default>(&mut self, key: &'static str, n: N) {
        if n == N::default() {
            self.add(key, n, "at least 1");
        }
    }

    /// Paths end up in JSON (the saved configuration), which has no way to say raw bytes.
    fn path(&mut self, key: &'static str, path: &Path) {
        if path.as_os_str().is_empty() {
            self.add(key, "empty", "a directory");
        } else if path.to_str().is_none() {
            self.add(key, format!("{path:?}"), "a path that is valid UTF-8");
        }
    }
}
