//! The shape of a run that starts from a model: the model's.
//!
//! A flag was typed for this run, so the training crate accepts it (a smaller `block_size`) or
//! refuses it by name; the same holds for a file that names the model itself. Any other config file
//! describes a model to train from scratch: its shape is replaced by that of the model in
//! `--init-from`, with a note. Only its `block_size` is kept if the model has at least that many
//! positions.

use std::path::Path;

use tinygpt_data::excerpt;
use tinygpt_model::ModelConfig;

use super::super::layer::{Layered, Origin};
use super::TrainOptions;

impl Layered<TrainOptions> {
    /// Uses the shape of `model`, named `name` by the user, for every key that was not given for
    /// this run.
    pub fn prefer_model_shape(&mut self, model: &ModelConfig, name: &str) {
        let names_the_model = self.origin("init_from") == Origin::File;
        let (mut used, mut given) = (Vec::new(), Vec::new());
        for (key, theirs) in model.shape() {
            let (ours, origin) = (self.value(key), self.origin(key));
            let is_smaller = key == "block_size" && ours.as_u64() < theirs.as_u64();
            match origin {
                Origin::Flag => continue,
                Origin::File if names_the_model || is_smaller => continue,
                Origin::File if ours != theirs => {
                    used.push(format!("{key} {theirs}"));
                    given.push(ours.to_string());
                }
                _ => {}
            }
            self.fit(key, theirs);
        }
        if !used.is_empty() {
            let file = self.config_path().unwrap_or(Path::new("")).display().to_string();
            self.note(format!(
                "the shape of {name} is used ({}), not that of {} ({})",
                used.join(", "),
                excerpt(&file),
                given.join(", ")
            ));
        }
    }

    /// Adds a note if a model is to be fine-tuned at a learning rate for training from scratch.
    pub fn note_rate_of_fine_tuning(&mut self) {
        let names_the_model = self.origin("init_from") == Origin::File;
        let is_meant = match self.origin("learning_rate") {
            Origin::Flag => true,
            Origin::File => names_the_model,
            Origin::Checkpoint | Origin::Default => false,
        };
        if !is_meant {
            self.note(format!(
                "learning_rate is {} ({}), a rate for training from scratch, which is too high for \
                 fine-tuning: a tenth or less is usual, and 3e-5 for GPT-2 \
                 (config/finetune_gpt2.json)",
                self.value("learning_rate"),
                self.place("learning_rate")
            ));
        }
    }
}
