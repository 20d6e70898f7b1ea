//! The model card of the server, from the files of the checkpoint and of its run.

use std::path::Path;

use tinygpt_data::{Encoding, Tokenizer};
use tinygpt_model::{Model, SamplingParams};
use tinygpt_serve::{Card, Curve, Defaults};
use tinygpt_train::checkpoint;
use tinygpt_train::metrics::{self, Line};

use super::load::LoadedModel;
use crate::options::{Layered, Origin, SampleOptions, SampleSettings};

/// The most points of a curve that a page draws.
const MAX_POINTS: usize = 240;

/// The card of the model, with the first prompt of the page. Without state or metrics it has fewer
/// fields.
pub(super) fn model_card(
    layered: &Layered<SampleOptions>,
    (settings, start): (&SampleSettings, Option<String>),
    loaded: &LoadedModel<Box<dyn Model>>,
) -> Card {
    let LoadedModel { dir, tokenizer, model, .. } = loaded;
    let config = model.config();
    let own = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (dir, out_dir) = (own(dir), own(&settings.out_dir));
    let is_of_run = dir.starts_with(&out_dir);
    let named = if is_of_run { &out_dir } else { &dir };
    let name = named.file_name().map(|name| name.to_string_lossy().into_owned());
    let state = checkpoint::state_of(&dir).ok().flatten();
    let lines = is_of_run.then(|| metrics::read(&out_dir.join(metrics::FILE_NAME)).ok()).flatten();
    Card {
        name: name.unwrap_or_else(|| "tinygpt".to_owned()),
        dataset: state.as_ref().map(|state| state.config.dataset_name.clone()),
        tokens: token_kind(tokenizer).to_owned(),
        n_params: config.num_params(),
        n_layer: config.n_layer,
        n_head: config.n_head,
        n_embd: config.n_embd,
        block_size: config.block_size,
        vocab_size: tokenizer.vocab_size(),
        chat: tokenizer.chat_template().is_some(),
        n_iters: state.map(|state| state.step),
        curve: curve(&lines.unwrap_or_default()),
        defaults: page_defaults(layered, settings, start),
        live: None,
    }
}

/// The tokens of a tokenizer, in words.
pub(in crate::command) fn token_kind(tokenizer: &Tokenizer) -> &'static str {
    match tokenizer.encoding() {
        Encoding::Simple => "characters",
        Encoding::Bpe => "byte pairs",
    }
}

/// The settings of the command line, and defaults that suit the page.
pub(in crate::command) fn page_defaults(
    layered: &Layered<SampleOptions>,
    settings: &SampleSettings,
    start: Option<String>,
) -> Defaults {
    let is_set = |key| layered.origin(key) != Origin::Default;
    Defaults {
        prompt: start.unwrap_or_default(),
        sampling: SamplingParams::RANGES.map(|it| (it.key, layered.value(it.key))).into(),
        max_tokens: if is_set("max_new_tokens") { settings.sampling.max_new_tokens } else { 200 },
        n: if is_set("num_samples") { settings.num_samples } else { 2 },
    }
}

/// The losses of a run; training losses are means over equal intervals.
fn curve(lines: &[Line]) -> Curve {
    let steps: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Step(record) => Some((record.iter, record.loss)),
            _ => None,
        })
        .collect();
    let train = steps.chunks(steps.len().div_ceil(MAX_POINTS).max(1)).map(|interval| {
        let mean = interval.iter().map(|(_, loss)| loss).sum::<f32>() / interval.len() as f32;
        (interval[interval.len() / 2].0, mean)
    });
    let evals: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Eval(record) => Some((record.iter, record.val_loss)),
            _ => None,
        })
        .collect();
    let every = evals.len().div_ceil(MAX_POINTS).max(1);
    Curve { train: train.collect(), val: evals.into_iter().step_by(every).collect() }
}
