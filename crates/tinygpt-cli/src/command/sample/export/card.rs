//! The model card of an export: what the files of the run say about the model, and nothing else.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use tinygpt_data::{Meta, Recipe, SourceSpec};
use tinygpt_model::Gpt;
use tinygpt_train::checkpoint::{self, State};
use tinygpt_train::metrics::{self, Line};
use tinygpt_train::schedule::LrSchedule;
use tinygpt_train::{EvalRecord, TrainConfig};

use super::LoadedModel;
use super::example::{Example, MAX_NEW_TOKENS};
use crate::terminal::grouped;

/// Name of the card in a model's directory.
pub(super) const FILE_NAME: &str = "README.md";

/// What is known about the model.
pub(super) struct Card {
    /// Name of the model: that of its dataset, else of its directory.
    pub(super) name: String,
    shape: String,
    usage: String,
    /// Only checkpoints of TinyGPT have the rest.
    state: Option<State>,
    meta: Option<Meta>,
    recipe: Option<Recipe>,
    eval: Option<EvalRecord>,
}

impl Card {
    /// Reads the files next to the model.
    pub(super) fn of(loaded: &LoadedModel<Gpt>) -> Result<Self> {
        let state = checkpoint::state_of(&loaded.dir)?;
        let config = state.as_ref().map(|state| &state.config);
        let meta = state.as_ref().and_then(|state| {
            let config = &state.config;
            Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint)
        });
        let recipe = meta.as_ref().zip(config).and_then(|(meta, config)| recipe_of(meta, config));
        let eval = state.as_ref().and_then(|state| evaluation(&loaded.dir, state));
        let last = || loaded.dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = config.map(|config| config.dataset_name.clone()).or_else(last);
        let name = name.unwrap_or_else(|| "model".to_owned());
        Ok(Self { name, shape: shape(loaded), usage: usage(loaded), state, meta, recipe, eval })
    }

    /// The whole file.
    pub(super) fn text(&self) -> String {
        let mut text = self.front_matter();
        let version = env!("CARGO_PKG_VERSION");
        text += &format!(
            "\n# {}\n\nA GPT-2 exported by TinyGPT {version}.\n\n{}\n{}",
            self.name, self.shape, self.usage
        );
        if let Some(state) = &self.state {
            text += &self.data(state);
            text += &training(state);
            text += &self.loss(state);
        } else {
            text += "\n## Data and training\n\nUnknown: the model was exported from a directory without a \
                     training state.\n";
        }
        text += "\n## Licence\n\nNo licence is stated for the weights: the person who trained them decides.";
        if let Some(license) = self.license() {
            text += &format!(" The text they were trained on is under {license}.");
        }
        text + "\n"
    }

    /// The metadata for the hub.
    fn front_matter(&self) -> String {
        let mut text = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n\
                        tags:\n- gpt2\n- tinygpt\n"
            .to_owned();
        if let Some(SourceSpec::Hub(hub)) = self.recipe.as_ref().map(|recipe| &recipe.source) {
            text += &format!("datasets:\n- {}\n", hub.repository);
        }
        text + "---\n"
    }

    fn license(&self) -> Option<&str> {
        self.recipe.as_ref()?.license.as_deref()
    }

    fn data(&self, state: &State) -> String {
        let mut text = format!("\n## Data\n\nDataset `{}`", state.config.dataset_name);
        match &self.recipe {
            Some(recipe) if !recipe.description.is_empty() => {
                text += &format!(": {}.\n", recipe.description);
            }
            _ => text += ".\n",
        }
        let Some(meta) = &self.meta else {
            return text
                + "The prepared dataset is no longer available, so no details are known.\n";
        };
        text += &format!("\n- source: {}\n", meta.settings.source);
        if let Some(commit) = &meta.source_commit {
            text += &format!("- commit of the source: {commit}\n");
        }
        for (what, split) in [("training", &meta.train), ("validation", &meta.val)] {
            text += &format!(
                "- {what}: {} documents, {} tokens, {:.2} bytes per token\n",
                grouped(split.n_documents),
                grouped(split.n_tokens),
                split.bytes_per_token()
            );
        }
        text
    }

    fn loss(&self, state: &State) -> String {
        let mut text = "\n## Loss\n\n".to_owned();
        match (&self.eval, &state.best) {
            (Some(eval), _) => {
                text += &format!(
                    "After {} steps, over fixed windows of each split:\n\n\
                     | | nats per token | bits per byte |\n|---|---|---|\n\
                     | training | {:.4} | |\n| validation | {:.4} | {:.4} |\n",
                    grouped(eval.iter),
                    eval.train_loss,
                    eval.val_loss,
                    eval.val_bits_per_byte
                );
            }
            (None, Some(best)) if best.step == state.step => {
                text += &format!("Validation: {:.4} nats per token.\n", best.val_loss);
            }
            _ => text += "Not measured at this checkpoint.\n",
        }
        text
    }
}

/// The recipe of the text, unless the text came from another source.
fn recipe_of(meta: &Meta, config: &TrainConfig) -> Option<Recipe> {
    let recipe = Recipe::find(&config.dataset_name, &config.data_dir).ok()?;
    let source = &meta.settings.source;
    let is_its_own = match &recipe.source {
        SourceSpec::Hub(hub) => source.starts_with(&format!("hub:{}@", hub.repository)),
        SourceSpec::BuiltIn(_) => source.starts_with("built in"),
        _ => false,
    };
    is_its_own.then_some(recipe)
}

/// The evaluation of these weights, from the metrics of the run.
fn evaluation(dir: &Path, state: &State) -> Option<EvalRecord> {
    let dir = dir.canonicalize().ok()?;
    let run = dir.parent()?.parent()?;
    let lines = metrics::read(&run.join(metrics::FILE_NAME)).ok()?;
    lines.into_iter().rev().find_map(|line| match line {
        Line::Eval(eval) if eval.iter == state.step => Some(eval),
        _ => None,
    })
}

fn shape(loaded: &LoadedModel<Gpt>) -> String {
    let config = loaded.model.config();
    let tokenizer = &loaded.tokenizer;
    format!(
        "| parameters | layers | heads | width | context | vocabulary | tokenizer |\n\
         |---|---|---|---|---|---|---|\n\
         | {} | {} | {} | {} | {} tokens | {} | {} |\n",
        grouped(config.num_params() as u64),
        config.n_layer,
        config.n_head,
        config.n_embd,
        grouped(config.block_size as u64),
        grouped(tokenizer.vocab_size() as u64),
        match tokenizer.encoding() {
            tinygpt_data::Encoding::Simple => "characters",
            tinygpt_data::Encoding::Bpe => "byte-level BPE",
        }
    )
}

/// Python that loads the model and continues a prompt up to the end of the context, which GPT-2 in
/// `transformers` cannot exceed.
fn usage(loaded: &LoadedModel<Gpt>) -> String {
    let mut text = "
```python
from transformers import AutoTokenizer, GPT2LMHeadModel

model = GPT2LMHeadModel.from_pretrained(\".\")
tokenizer = AutoTokenizer.from_pretrained(\".\")
"
    .to_owned();
    if let Some(example) = Example::of(loaded) {
        text += &format!(
            "inputs = tokenizer({}, return_tensors=\"pt\")
room = model.config.n_positions - inputs[\"input_ids\"].shape[1]
ids = model.generate(**inputs, max_new_tokens=min({MAX_NEW_TOKENS}, room), do_sample=True, temperature=0.8)
print(tokenizer.decode(ids[0]))
",
            serde_json::Value::from(example.prompt)
        );
    }
    text + "```\n"
}

fn training(state: &State) -> String {
    let config = &state.config;
    let per_step = config.batch_size * config.block_size * config.gradient_accumulation_steps;
    let mut text = "\n## Training\n\n".to_owned();
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {what}: {value}");
    };
    line("steps", format!("{} of {} planned", grouped(state.step), grouped(config.max_iters)));
    line(
        "tokens",
        format!(
            "{} per step, {} in total",
            grouped(per_step as u64),
            grouped(per_step as u64 * state.step)
        ),
    );
    line(
        "AdamW",
        format!(
            "beta1 {}, beta2 {}, weight decay {}, gradients clipped at {}",
            config.beta1, config.beta2, config.weight_decay, config.grad_clip
        ),
    );
    let rate = config.learning_rate;
    let shape = match config.lr_schedule {
        LrSchedule::Constant => None,
        LrSchedule::Cosine => Some("a cosine"),
        LrSchedule::Linear => Some("a line"),
        LrSchedule::Wsd => Some("constant, then a line"),
    };
    let after = match shape {
        None => format!("{rate}, constant"),
        Some(shape) => format!(
            "{rate} after {} steps, then {shape} down to {} at step {}",
            grouped(config.warmup_iters),
            config.min_lr,
            grouped(config.lr_decay_iters)
        ),
    };
    line("learning rate", after);
    line("dropout", config.dropout.to_string());
    line("seed", state.seed.to_string());
    if config.init_from.is_model() {
        line("started from", config.init_from.to_string());
    }
    line(
        "machine",
        format!("{}, {}, {} threads", state.device, state.instruction_set, state.threads),
    );
    line("program", format!("TinyGPT {}", state.crate_version));
    text
}
