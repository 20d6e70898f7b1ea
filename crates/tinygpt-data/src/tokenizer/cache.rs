//! A cache from words to ids: it makes encoding fast, since most words occur again and again.
//!
//! Each thread has its own cache. Its memory is bounded: a short word has two slots, where it
//! replaces the older one; the table of the others is emptied when it is full. Forgetting a word
//! costs time and changes no id.

use std::collections::HashMap;

use super::word::{QuickHash, ShortWord};

/// The binary logarithm of the number of [`Places`].
const LOG_PLACES: u32 = 15;

/// The most ids in one slot.
const MAX_IDS: usize = 3;

/// The most words in the table of the others.
const MAX_OTHERS: usize = 1 << 14;

/// The longest word in the table of the others, in bytes.
const MAX_OTHER_BYTES: usize = 256;

/// A short word and its ids.
#[derive(Clone, Copy)]
struct Slot {
    word: ShortWord,
    ids: [u32; MAX_IDS],
    n_ids: u32,
}

const EMPTY: Slot = Slot { word: ShortWord::NONE, ids: [0; MAX_IDS], n_ids: 0 };

/// The two slots of a short word, in one cache line of the CPU.
#[derive(Clone)]
#[repr(align(64))]
struct Places([Slot; 2]);

/// The cached ids of words.
pub(super) struct WordCache {
    places: Vec<Places>,
    /// Long words, and short ones of more than [`MAX_IDS`] ids.
    others: HashMap<Box<[u8]>, Box<[u32]>, QuickHash>,
}

impl WordCache {
    pub(super) fn new() -> Self {
        Self { places: vec![Places([EMPTY; 2]); 1 << LOG_PLACES], others: HashMap::default() }
    }

    /// Appends the ids of the word `bytes[start..end]`; `encode` computes them if they are not
    /// cached.
    #[inline(always)]
    pub(super) fn push_ids(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        ids: &mut IdBuffer,
        encode: impl FnOnce(&[u8], &mut Vec<u32>),
    ) {
        if let Some(word) = ShortWord::at(bytes, start, end) {
            let [first, second] = &self.places[(word.hash() >> (64 - LOG_PLACES)) as usize].0;
            // Which of the two matches is unpredictable, so a branch would be slow.
            let slot = if second.word == word { second } else { first };
            if slot.word == word {
                ids.push_few(slot.ids, slot.n_ids);
                return;
            }
        }
        self.push_others(&bytes[start..end], ids, encode);
    }

    #[inline(never)]
    fn push_others(
        &mut self,
        word: &[u8],
        into: &mut IdBuffer,
        encode: impl FnOnce(&[u8], &mut Vec<u32>),
    ) {
        if let Some(ids) = self.others.get(word) {
            into.push_all(ids);
            return;
        }
        into.flush();
        let before = into.ids.len();
        encode(word, into.ids);
        let ids = &into.ids[before..];
        let few = ids.len() <= MAX_IDS;
        match ShortWord::at(word, 0, word.len()).filter(|_| few) {
            Some(word) => {
                let mut slot = Slot { word, n_ids: ids.len() as u32, ..EMPTY };
                slot.ids[..ids.len()].copy_from_slice(ids);
                let places = &mut self.places[(word.hash() >> (64 - LOG_PLACES)) as usize].0;
                places[1] = places[0];
                places[0] = slot;
            }
            None if word.len() <= MAX_OTHER_BYTES => {
                if self.others.len() >= MAX_OTHERS {
                    self.others.clear();
                }
                self.others.insert(word.into(), ids.into());
            }
            None => {}
        }
    }
}

/// Appends ids to a list through a small buffer, so that most appends need no branch.
pub(super) struct IdBuffer<'a> {
    gathered: [u32; 256],
    n_gathered: usize,
    ids: &'a mut Vec<u32>,
}

impl<'a> IdBuffer<'a> {
    /// Appends to `ids`. [`Self::flush`] comes last.
    pub(super) fn new(ids: &'a mut Vec<u32>) -> Self {
        Self { gathered: [0; 256], n_gathered: 0, ids }
    }

    /// Appends the first `n` of `few`: writes them all, whatever `n` is.
    #[inline(always)]
    fn push_few(&mut self, few: [u32; MAX_IDS], n: u32) {
        let rest = self.gathered.get_mut(self.n_gathered..);
        if let Some(places) = rest.and_then(|rest| rest.first_chunk_mut::<MAX_IDS>()) {
            *places = few;
            self.n_gathered += n as usize;
        } else {
            self.push_all(&few[..n as usize]);
        }
    }

    #[inline(never)]
    fn push_all(&mut self, ids: &[u32]) {
        self.flush();
        self.ids.extend_from_slice(ids);
    }

    /// Moves the buffered ids into the list.
    pub(super) fn flush(&mut self) {
        self.ids.extend_from_slice(&self.gathered[..self.n_gathered]);
        self.n_gathered = 0;
    }
}
