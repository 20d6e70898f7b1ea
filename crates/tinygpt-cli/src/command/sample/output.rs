//! How samples are printed, for samples from the command line and in interactive mode.

use super::super::rendering::OutputFormat;
use crate::options::SampleSettings;
use crate::terminal::{Output, say, wants_colour};

/// Explains the probabilities of `--show-probs`: they are not those that tokens are sampled with.
pub(super) fn note_probabilities(settings: &SampleSettings) {
    if settings.show_probs.is_some() {
        say(&format!(
            "note: the probabilities are the model's own, at temperature 1 and before any filter; \
             tokens are sampled at temperature {}",
            settings.sampling.temperature
        ));
    }
}

/// How samples are printed.
pub(super) fn output_format(settings: &SampleSettings, out: &Output) -> OutputFormat {
    match settings {
        SampleSettings { json: true, sampling, .. } => OutputFormat::Json { seed: sampling.seed },
        SampleSettings { show_probs: Some(n), .. } => {
            OutputFormat::Table { colour: wants_colour(out), n_others: *n }
        }
        _ => OutputFormat::Text,
    }
}
