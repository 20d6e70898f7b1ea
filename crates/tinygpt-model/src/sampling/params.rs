//! The sampling parameters: names, defaults, ranges and help, defined once for every program that
//! samples (`sample`, its interactive mode, the server and its page).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{ModelError, Result};

/// How tokens are chosen, and how many.
///
/// The default is that of nanoGPT's `sample.py`: temperature 0.8, the 200 most likely tokens, at
/// most 500 new tokens, seed 1337. [`SamplingParams::unfiltered`] draws from the model's own
/// distribution. Numbers are kept as JSON has them and rounded to `f32` where logits are.
///
/// ```
/// use tinygpt_model::SamplingParams;
/// let params = SamplingParams { top_p: 0.9, top_k: 0, ..SamplingParams::default() };
/// params.validate(50257)?;
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// Divides the logits; 0 always takes the largest.
    pub temperature: f64,
    /// Only the `k` largest logits and those equal to the last of them remain; 0 is off.
    pub top_k: usize,
    /// Only the most likely tokens remain, as many as it takes to hold this share of the
    /// probability, and at least one (Holtzman et al. 2020); 1 is off.
    pub top_p: f64,
    /// Only tokens with at least this fraction of the top token's probability remain; 0 is off.
    pub min_p: f64,
    /// Divides the logit of each token of prompt and text, or multiplies it if it is negative
    /// (Keskar et al. 2019, section 4.1); 1 is off.
    pub repetition_penalty: f64,
    /// Subtracted from the logit of each generated token; 0 is off.
    pub presence_penalty: f64,
    /// Subtracted from a token's logit once for each time that it was generated; 0 is off.
    pub frequency_penalty: f64,
    /// No sequence of this many tokens of prompt and text comes twice; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// At most this many tokens are generated.
    pub max_new_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Added to the logits of these tokens.
    #[serde(skip)]
    pub logit_bias: Vec<(u32, f32)>,
    /// The token that ends a document; it ends the sample and is not part of it.
    #[serde(skip)]
    pub eos: Option<u32>,
    /// The tokenizer's size, if the model's table has more rows: those are padding and never drawn.
    #[serde(skip)]
    pub vocab_size: Option<usize>,
    /// Whether to report each token's log-probability, and those of how many of the most likely
    /// tokens.
    #[serde(skip)]
    pub logprobs: Option<usize>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 200, max_new_tokens: 500, seed: 1337, ..Self::unfiltered() }
    }
}

/// What a sampling parameter may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamRange {
    /// Its name: the field, the key of a config file, the field of a request.
    pub key: &'static str,
    /// The smallest value.
    pub min: f64,
    /// The largest value; infinite for no limit.
    pub max: f64,
    /// Whether `min` itself is too small.
    pub is_above_min: bool,
    /// Whether only integers are meant.
    pub is_integer: bool,
    /// What it does.
    pub help: &'static str,
    /// What the special value does.
    pub note: &'static str,
}

const NUMBER: ParamRange = ParamRange {
    key: "",
    min: 0.0,
    max: 1.0,
    is_above_min: false,
    is_integer: false,
    help: "",
    note: "0 is off",
};
const COUNT: ParamRange = ParamRange { max: f64::INFINITY, is_integer: true, ..NUMBER };

impl ParamRange {
    /// Whether `value` is within the range, once rounded to the `f32` that the sampler uses.
    pub fn contains(&self, value: f64) -> bool {
        let value = f64::from(value as f32);
        let is_large_enough = if self.is_above_min { value > self.min } else { value >= self.min };
        value.is_finite() && is_large_enough && value <= self.max
    }

    /// The range and the special value in words, for an error message.
    pub fn expected(&self) -> String {
        let Self { min, max, note, .. } = self;
        let range = match (self.is_above_min, max.is_finite()) {
            (false, true) => format!("{min} to {max}"),
            (false, false) => format!("{min} or more"),
            (true, true) => format!("more than {min}, at most {max}"),
            (true, false) => format!("more than {min}"),
        };
        format!("{range}; {note}")
    }
}

impl SamplingParams {
    /// The parameters that shape the distribution. A new one needs a field, its value in
    /// [`SamplingParams::unfiltered`], a row here, and its line in `candidates.rs` or `processors.rs`.
    /// Flags, config keys, commands and fields of requests are made from the row.
    pub const RANGES: [ParamRange; 8] = [
        ParamRange {
            key: "temperature",
            max: 100.0,
            help: "Divides the logits: below 1 more predictable, above 1 more varied",
            note: "0 is greedy",
            ..NUMBER
        },
        ParamRange { key: "top_k", help: "Sample from the N most likely tokens only", ..COUNT },
        ParamRange {
            key: "top_p",
            help: "Sample from the most likely tokens that together have this probability",
            note: "1 is off",
            ..NUMBER
        },
        ParamRange {
            key: "min_p",
            help: "Sample from tokens with at least this fraction of the top token's probability",
            ..NUMBER
        },
        ParamRange {
            key: "repetition_penalty",
            max: 100.0,
            is_above_min: true,
            help: "Above 1, tokens of the prompt and the text become less likely",
            note: "1 is off",
            ..NUMBER
        },
        ParamRange {
            key: "presence_penalty",
            min: -2.0,
            max: 2.0,
            help: "Subtracted from the logit of each generated token, as in OpenAI's API",
            ..NUMBER
        },
        ParamRange {
            key: "frequency_penalty",
            min: -2.0,
            max: 2.0,
            help: "Subtracted from a token's logit for each time it was generated, as in OpenAI's API",
            ..NUMBER
        },
        ParamRange {
            key: "no_repeat_ngram_size",
            help: "Never repeat a sequence of N tokens, prompt included, as in transformers",
            ..COUNT
        },
    ];

    /// Draws from the model's own distribution: temperature 1, and every filter and penalty off.
    pub fn unfiltered() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 0,
            max_new_tokens: 500,
            seed: 1337,
            logit_bias: Vec::new(),
            eos: None,
            vocab_size: None,
            logprobs: None,
        }
    }

    /// These parameters with other values for some keys. Ranges are not checked.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a value of the wrong type.
    pub fn with(&self, values: Map<String, Value>) -> Result<Self> {
        let wrong =
            |error: serde_json::Error| ModelError::Config { faults: vec![error.to_string()] };
        let mut all = serde_json::to_value(self).map_err(wrong)?;
        for (key, value) in values {
            all[key] = value;
        }
        serde_json::from_value(all).map_err(wrong)
    }

    /// The row of [`SamplingParams::RANGES`] for `key`.
    pub fn range(key: &str) -> Option<&'static ParamRange> {
        const { &Self::RANGES }.iter().find(|range| range.key == key)
    }

    /// Checks the ranges, for a model with `vocab_size` rows.
    ///
    /// # Errors
    /// [`ModelError::Config`] with every value that is out of range.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        let mut faults = Vec::new();
        // A number that JSON does not know, such as NaN, becomes `null`.
        let values = serde_json::to_value(self).unwrap_or_default();
        for range in &Self::RANGES {
            let value = values[range.key].as_f64();
            if !value.is_some_and(|value| range.contains(value)) {
                let got = value.map_or("not finite".to_owned(), |value| value.to_string());
                faults.push(format!("{} is {got}, expected {}", range.key, range.expected()));
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            faults.push(format!("logit_bias of token {id} is {bias}, expected a finite number"));
        }
        if let Some(n_tokens) = self.vocab_size.filter(|n| !(1..=vocab_size).contains(n)) {
            faults.push(format!(
                "the tokenizer has {n_tokens} tokens, expected 1 to the model's vocab_size of \
                 {vocab_size}"
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(ModelError::Config { faults }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn bad_settings_are_listed() {
        let bad = SamplingParams {
            temperature: -1.0,
            top_p: 1.5,
            min_p: f64::NAN,
            // Zero once it is an f32.
            repetition_penalty: 1e-60,
            presence_penalty: f64::NAN,
            frequency_penalty: f64::INFINITY,
            logit_bias: vec![(3, f32::NAN)],
            vocab_size: Some(9),
            ..SamplingParams::unfiltered()
        };
        let message = bad.validate(8).unwrap_err().to_string();
        for part in [
            "temperature",
            "top_p",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias of token 3",
            "vocab_size of 8",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(SamplingParams { temperature: f64::NAN, ..bad }.validate(9).is_err());
    }

    #[test]
    fn every_range_is_that_of_a_key_and_holds_the_defaults() {
        for params in [SamplingParams::default(), SamplingParams::unfiltered()] {
            params.validate(1).unwrap();
            let values = serde_json::to_value(&params).unwrap();
            for range in &SamplingParams::RANGES {
                assert!(range.contains(values[range.key].as_f64().unwrap()), "{}", range.key);
                assert_eq!(range.is_integer, values[range.key].is_u64(), "{}", range.key);
            }
            // Those without a range are the length and the seed.
            assert_eq!(values.as_object().unwrap().len(), SamplingParams::RANGES.len() + 2);
            assert_eq!(serde_json::from_value::<SamplingParams>(values).unwrap(), params);
        }
    }
}
