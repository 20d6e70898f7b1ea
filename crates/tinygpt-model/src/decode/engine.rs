//! The engine: samples of many prompts, decoded together (continuous batching).
//!
//! Sequences can be added and removed at any step, each with its own parameters and seed. Samples
//! of one prompt share its prefill, and every weight that a step reads serves all sequences. A
//! sample is a function of model, prompt, parameters and its number: it is the same alone and in a
//! batch. The KV cache is bound to absolute positions, so a sequence longer than `block_size` needs
//! a context shift: when its slot is full, the last three quarters of a block are prefilled again.
//! Only token ids come in and go out. Queueing for a free slot is left to the caller.

use std::ops::{ControlFlow, Range};

use crate::config::ModelConfig;
use crate::decode::cpu_decoder::PREFILL_CHUNK;
use crate::decode::decoder::Decoder;
use crate::decode::model::Model;
use crate::error::{ModelError, Result};
use crate::sampling::{Logprobs, Sampler, SamplingParams, logprobs};

/// Why a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended the document.
    Eos,
    /// `max_new_tokens` were made.
    Length,
    /// The caller stopped it.
    Caller,
    /// Every token was banned by the parameters.
    Banned,
}

/// What happens to a sample.
#[derive(Debug)]
pub enum Event {
    /// The model made a token.
    Token {
        /// Its id.
        id: u32,
        /// How likely it was, if the request asks for that.
        logprobs: Option<Logprobs>,
    },
    /// The sample is complete.
    End(StopReason),
    /// The sample failed.
    Failed(ModelError),
}

/// Identifies one sample of an [`Engine`]; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// Event callback; returning `Break` stops that sample.
pub type OnEvent<'a> = dyn FnMut(SequenceId, Event) -> ControlFlow<()> + 'a;

/// Decodes samples of one model together.
///
/// ```
/// use std::ops::ControlFlow;
/// use candle_core::Device;
/// use tinygpt_model::{Engine, Event, Gpt, ModelConfig, SamplingParams};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     ..ModelConfig::default() };
/// let gpt = Gpt::init(config, 1337, &Device::Cpu)?;
/// let mut engine = Engine::new(&gpt, 4)?;
/// let params = SamplingParams { max_new_tokens: 20, ..SamplingParams::default() };
/// engine.add(&[1, 2, 3], &params, 0..2)?;
/// let mut n_tokens = 0;
/// while !engine.is_idle() {
///     engine.step(&mut |_id, event| {
///         n_tokens += usize::from(matches!(event, Event::Token { .. }));
///         ControlFlow::Continue(())
///     })?;
///     if n_tokens == 10 {
///         engine.add(&[4], &params, 0..1)?; // Joins the others.
///     }
/// }
/// assert_eq!(n_tokens, 60);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Engine<'a> {
    decoder: Decoder<'a>,
    config: &'a ModelConfig,
    /// By the decoder's slots.
    sequences: Vec<Option<Sequence>>,
    /// What the cache of each free slot still holds.
    cached: Vec<CachedTurn>,
    n_added: u64,
    n_ended: u64,
}

/// The tokens of a conversation whose keys and values are still in the cache; may be empty.
#[derive(Clone, Debug, Default)]
struct CachedTurn {
    tokens: Vec<u32>,
    /// How many samples had ended before.
    ended: u64,
}

/// A sample that is being made.
#[derive(Debug)]
struct Sequence {
    id: SequenceId,
    sampler: Sampler,
    /// The prompt and what was generated.
    tokens: Vec<u32>,
    n_generated: usize,
    /// Whether a next turn may follow.
    is_turn: bool,
}

impl<'a> Engine<'a> {
    /// An engine for at most `capacity` samples at a time.
    ///
    /// # Errors
    /// [`ModelError::Request`] if `capacity` is 0, [`ModelError::Tensor`] if the device refuses.
    pub fn new(model: &'a dyn Model, capacity: usize) -> Result<Self> {
        let sequences = (0..capacity).map(|_| None).collect();
        let (decoder, config) = (model.decoder(capacity)?, model.config());
        let cached = vec![CachedTurn::default(); capacity];
        Ok(Self { decoder, config, sequences, cached, n_added: 0, n_ended: 0 })
    }

    /// How many more samples can be added now.
    pub fn room(&self) -> usize {
        self.sequences.iter().filter(|sequence| sequence.is_none()).count()
    }

    /// Whether no sample is being made.
    pub fn is_idle(&self) -> bool {
        self.sequences.iter().all(Option::is_none)
    }

    /// Prefills `prompt` and adds the given samples of it; their ids come in that order. Of a
    /// prompt longer than `block_size` the model sees the end.
    ///
    /// # Errors
    /// [`ModelError::Config`] for parameters out of range, [`ModelError::Request`] for an empty
    /// prompt, ids outside the vocabulary, or more samples than there is [`Engine::room`] for.
    pub fn add(
        &mut self,
        prompt: &[u32],
        params: &SamplingParams,
        samples: Range<u64>,
    ) -> Result<Vec<SequenceId>> {
        let slots = self.slots_for(prompt, params, &samples)?;
        self.start(prompt, params, (samples, slots), None)
    }

    /// As [`Self::add`], for the next turn of a conversation: if a sample that has ended starts with the
    /// same tokens, their keys and values are used again. The logits are the same up to rounding.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_turn(
        &mut self,
        prompt: &[u32],
        params: &SamplingParams,
        samples: Range<u64>,
    ) -> Result<Vec<SequenceId>> {
        let mut slots = self.slots_for(prompt, params, &samples)?;
        let kept = self.kept_for(prompt);
        if let Some((slot, _)) = kept {
            slots.retain(|other| *other != slot);
            slots.insert(0, slot);
            slots.truncate((samples.end - samples.start) as usize);
        }
        self.start(prompt, params, (samples, slots), Some(kept.map_or(0, |(_, n_kept)| n_kept)))
    }

    /// The free slot that holds the conversation which `prompt` continues, and how many tokens of it are
    /// used again, if that is faster than a prefill of the whole prompt.
    fn kept_for(&self, prompt: &[u32]) -> Option<(usize, usize)> {
        let common = |slot: usize| {
            let pairs = self.cached[slot].tokens.iter().zip(prompt);
            // The last token is computed in any case, for its logits.
            pairs.take_while(|(cached, token)| cached == token).count().min(prompt.len() - 1)
        };
        let free = self.free_slots().into_iter();
        let (n_kept, slot) = free.map(|slot| (common(slot), slot)).max()?;
        // Conversations start with the same tokens: one that only has these is another one, which keeps its
        // slot.
        let is_same = 2 * n_kept >= self.cached[slot].tokens.len();
        // The kernels for a few tokens are slower for many than those for a whole prompt.
        let is_faster = prompt.len() - n_kept <= n_kept.max(PREFILL_CHUNK);
        let fits = prompt.len() <= self.config.block_size;
        (n_kept > 0 && is_same && is_faster && fits).then_some((slot, n_kept))
    }

    /// The free slots: first those that hold no conversation, then those whose conversation is the oldest.
    fn free_slots(&self) -> Vec<usize> {
        let is_free = |slot: &usize| self.sequences[*slot].is_none();
        let mut slots: Vec<usize> = (0..self.sequences.len()).filter(is_free).collect();
        slots.sort_by_key(|slot| {
            let CachedTurn { tokens, ended } = &self.cached[*slot];
            (!tokens.is_empty(), *ended)
        });
        slots
    }

    /// Checks a request and finds slots for its samples.
    fn slots_for(
        &self,
        prompt: &[u32],
        params: &SamplingParams,
        samples: &Range<u64>,
    ) -> Result<Vec<usize>> {
        params.validate(self.config.vocab_size)?;
        if prompt.is_empty() {
            let message = "the prompt is empty, expected at least one token: start with the token \
                           that ends documents";
            return Err(ModelError::request(message));
        }
        let free = self.free_slots();
        let wanted = samples.end.saturating_sub(samples.start);
        let slots: Vec<usize> = (0..wanted).zip(free).map(|(_, slot)| slot).collect();
        if slots.is_empty() || (slots.len() as u64) < wanted {
            return Err(ModelError::request(format!(
                "{wanted} samples were asked for, expected 1 to {}, for which there is room",
                self.room()
            )));
        }
        Ok(slots)
    }

    /// Prefills the prompt. Of that of a turn, the first slot has the first `turn` tokens.
    fn start(
        &mut self,
        prompt: &[u32],
        params: &SamplingParams,
        (samples, slots): (Range<u64>, Vec<usize>),
        turn: Option<usize>,
    ) -> Result<Vec<SequenceId>> {
        slots.iter().for_each(|slot| self.cached[*slot].tokens.clear());
        let seen = end_of(prompt, self.config.block_size);
        self.decoder.prefill_after(turn.unwrap_or(0), &slots, seen)?;
        let mut ids = Vec::new();
        for (slot, sample_idx) in slots.into_iter().zip(samples) {
            let id = SequenceId(self.n_added);
            self.n_added += 1;
            ids.push(id);
            let mut sampler = Sampler::new(params, sample_idx);
            sampler.observe_prompt(prompt);
            let tokens = prompt.to_vec();
            let is_turn = turn.is_some();
            self.sequences[slot] = Some(Sequence { id, sampler, tokens, n_generated: 0, is_turn });
        }
        Ok(ids)
    }

    /// Samples one token for each sequence and reports it, then each sample that has ended.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses: the engine cannot continue.
    pub fn step(&mut self, on_event: &mut OnEvent<'_>) -> Result<()> {
        let (mut tokens, mut full) = (Vec::new(), Vec::new());
        for slot in 0..self.sequences.len() {
            let Some(sequence) = &mut self.sequences[slot] else { continue };
            match sequence.next(self.decoder.logits(slot), on_event) {
                ControlFlow::Continue(id) if self.decoder.len(slot) < self.config.block_size => {
                    tokens.push((slot, id));
                }
                ControlFlow::Continue(_) => full.push(slot),
                ControlFlow::Break(end) => {
                    let id = sequence.id;
                    self.free(slot)?;
                    // There is nothing left to stop.
                    let _ = on_event(id, end);
                }
            }
        }
        full.iter().try_for_each(|slot| self.decoder.free(*slot))?;
        if !tokens.is_empty() {
            self.decoder.decode(&tokens)?;
        }
        for slot in full {
            if let Some(sequence) = &self.sequences[slot] {
                let kept = kept_on_shift(self.config.block_size);
                self.decoder.prefill(&[slot], end_of(&sequence.tokens, kept))?;
            }
        }
        Ok(())
    }

    /// Removes a sample without an event; does nothing if it has ended.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn remove(&mut self, id: SequenceId) -> Result<()> {
        let is_it = |sequence: &Option<Sequence>| sequence.as_ref().is_some_and(|s| s.id == id);
        match self.sequences.iter().position(is_it) {
            Some(slot) => self.free(slot),
            None => Ok(()),
        }
    }

    fn free(&mut self, slot: usize) -> Result<()> {
        let ended = self.sequences[slot].take();
        // After a context shift the cache has other positions.
        let fits = |it: &Sequence| it.is_turn && it.tokens.len() <= self.config.block_size;
        let mut tokens = ended.filter(fits).map(|it| it.tokens).unwrap_or_default();
        tokens.truncate(self.decoder.len(slot));
        self.n_ended += 1;
        self.cached[slot] = CachedTurn { tokens, ended: self.n_ended };
        self.decoder.free(slot)
    }
}

impl Sequence {
    /// Samples the next token; what ended the sample if there is none.
    fn next(&mut self, logits: &[f32], on_event: &mut OnEvent<'_>) -> ControlFlow<Event, u32> {
        let end = |reason| ControlFlow::Break(Event::End(reason));
        let SamplingParams { max_new_tokens, eos, logprobs: n_alternatives, .. } =
            *self.sampler.params();
        if self.n_generated == max_new_tokens {
            return end(StopReason::Length);
        }
        let id = match self.sampler.choose(logits, self.n_generated as u64) {
            Ok(Some(id)) => id,
            Ok(None) => return end(StopReason::Banned),
            Err(error) => return ControlFlow::Break(Event::Failed(error)),
        };
        if eos == Some(id) {
            return end(StopReason::Eos);
        }
        self.tokens.push(id);
        self.sampler.observe(id);
        self.n_generated += 1;
        let logprobs = n_alternatives.map(|n| logprobs(self.sampler.used(logits), id, n));
        if on_event(self.id, Event::Token { id, logprobs }).is_break() {
            return end(StopReason::Caller);
        }
        // The last token needs no logits after it.
        if self.n_generated == max_new_tokens {
            return end(StopReason::Length);
        }
        ControlFlow::Continue(id)
    }
}

/// How many tokens are prefilled again when a slot is full.
pub(crate) fn kept_on_shift(block_size: usize) -> usize {
    (block_size - block_size / 4).min(block_size - 1).max(1)
}

fn end_of(tokens: &[u32], n_tokens: usize) -> &[u32] {
    &tokens[tokens.len().saturating_sub(n_tokens)..]
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
