//! Makes up logits and settings: the choice is a token of the vocabulary, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
