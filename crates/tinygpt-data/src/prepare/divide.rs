//! Decides where a text is divided into training and validation, from its documents' lengths.
//!
//! The lengths are read once, in order. Memory is bounded: for the end of the
//! text only the documents long enough to matter are kept, for a random choice one sum for each
//! of 65,536 groups of documents. `split.rs` then divides the text.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::random;

/// Which part of the text is for training and which for validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    /// They are two texts, each of them one document or many.
    Separate { is_one_document: bool },
    /// The validation text starts at this character.
    Character { character: u64, is_only_document: bool },
    /// The text validates from the first document that begins at or after this character; the
    /// last one validates wherever it begins.
    Document { character: u64, last_document_idx: u64 },
    /// The documents of the groups below `below` validate; and, if `cut` is given, those of group
    /// `below` from this character on, counted in the documents of that group alone.
    Drawn { seed: u64, below: u32, cut: Option<u64> },
}

impl Boundary {
    /// The boundary of a text whose length is not known: each document validates with this chance.
    pub(super) fn one_by_one(val_fraction: f64, seed: u64) -> Self {
        let below = (val_fraction * N_GROUPS as f64).round() as u32;
        Self::Drawn { seed, below: below.clamp(1, N_GROUPS as u32 - 1), cut: None }
    }

    /// The same boundary without a document that is cut: the group that has it validates whole.
    pub(super) fn whole(self) -> Self {
        match self {
            Self::Drawn { seed, below, cut: Some(_) } => {
                Self::Drawn { seed, below: below + 1, cut: None }
            }
            other => other,
        }
    }
}

/// How far the validation fraction may be from the requested one, relative to it, before a
/// document is cut to match it.
const TOLERANCE: f64 = 0.1;

/// Whether `share` is close enough to `asked` that no document needs to be cut.
pub(crate) fn is_close(share: f64, asked: f64) -> bool {
    ((1.0 - TOLERANCE) * asked..=(1.0 + TOLERANCE) * asked).contains(&share)
}

/// What is known of the lengths of all documents so far, in characters.
pub(super) struct Lengths {
    val_fraction: f64,
    n_characters: u64,
    n_documents: u64,
    /// Where the last document begins.
    last_start: u64,
    /// Start and end of each document that could span a boundary and leave it far from any other
    /// document: those at least `TOLERANCE * val_fraction` of the text long.
    long: Vec<(u64, u64)>,
}

impl Lengths {
    /// No documents yet.
    pub(super) fn new(val_fraction: f64) -> Self {
        Self { val_fraction, n_characters: 0, n_documents: 0, last_start: 0, long: Vec::new() }
    }

    /// Adds the next document.
    pub(super) fn add(&mut self, length: u64) {
        self.last_start = self.n_characters;
        self.n_characters += length;
        self.n_documents += 1;
        let shortest = self.shortest_long();
        if length as f64 >= shortest {
            self.long.push((self.last_start, self.n_characters));
            // At most this many documents of this length fit into the text.
            let most = (1.0 / (TOLERANCE * self.val_fraction)).ceil();
            if self.long.len() as f64 > 2.0 * most {
                self.long.retain(|(start, end)| (end - start) as f64 >= shortest);
            }
        }
    }

    fn shortest_long(&self) -> f64 {
        TOLERANCE * self.val_fraction * self.n_characters as f64
    }

    /// The number of characters.
    pub(super) fn n_characters(&self) -> u64 {
        self.n_characters
    }

    /// The number of documents.
    pub(super) fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// The number of documents that are kept in memory.
    #[cfg(test)]
    pub(super) fn n_remembered(&self) -> usize {
        self.long.len()
    }

    /// The boundary between the training text and the validation text at its end.
    ///
    /// Only whole documents are used if that is close to the requested fraction, without the document
    /// that spans the boundary or with it; otherwise that document is cut.
    pub(super) fn end(&self) -> Boundary {
        // nanoGPT: `int(len(data) * 0.9)`.
        let character = (self.n_characters as f64 * (1.0 - self.val_fraction)) as u64;
        if self.n_documents > 1 {
            let last_document_idx = self.n_documents - 1;
            let spanning = self.spanning(character);
            let end = spanning.map_or(character, |(_, end)| end).min(self.last_start);
            if self.is_close_from(end) {
                return Boundary::Document { character, last_document_idx };
            }
            if let Some((start, _)) =
                spanning.filter(|&(start, _)| start > 0 && self.is_close_from(start))
            {
                return Boundary::Document { character: start, last_document_idx };
            }
        }
        Boundary::Character { character, is_only_document: self.n_documents == 1 }
    }

    /// The boundary at the end of the text that cuts no document; none of fewer than two documents.
    pub(super) fn whole_end(&self) -> Option<Boundary> {
        let character = (self.n_characters as f64 * (1.0 - self.val_fraction)) as u64;
        // Of the two ends of a long document that would be cut, the nearer one.
        let nearer = |(start, end): (u64, u64)| {
            if character - start <= end - character { start } else { end }
        };
        let character = self.spanning(character).map_or(character, nearer);
        let last_document_idx = self.n_documents.checked_sub(1).filter(|&idx| idx > 0)?;
        Some(Boundary::Document { character: character.max(1), last_document_idx })
    }

    /// Whether the text from `start` on is close to the share asked for.
    fn is_close_from(&self, start: u64) -> bool {
        let n_val = self.n_characters - start;
        is_close(n_val as f64 / self.n_characters as f64, self.val_fraction)
    }

    /// Start and end of the long document around `character`. A shorter one leaves its ends close
    /// enough to `character` not to matter.
    fn spanning(&self, character: u64) -> Option<(u64, u64)> {
        self.long.iter().copied().find(|&(start, end)| start < character && character < end)
    }
}

/// The number of groups that documents are drawn into.
const N_GROUPS: usize = 1 << 16;

/// Draws a group for each document, from the seed and the document's position alone.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The groups for this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(random::generator(seed, "validation"))
    }

    /// The group of document `document_idx`, counted from 0.
    pub(super) fn group(&mut self, document_idx: u64) -> u32 {
        self.0.set_word_pos(u128::from(document_idx));
        self.0.next_u32() >> 16
    }
}

/// The lengths of all documents so far, summed by group.
pub(super) struct Groups {
    draw: Draw,
    seed: u64,
    sums: Vec<u64>,
    n_documents: u64,
}

impl Groups {
    /// No documents yet.
    pub(super) fn new(seed: u64) -> Self {
        Self { draw: Draw::new(seed), seed, sums: vec![0; N_GROUPS], n_documents: 0 }
    }

    /// Adds the next document.
    pub(super) fn add(&mut self, length: u64) {
        let group = self.draw.group(self.n_documents);
        self.sums[group as usize] += length;
        self.n_documents += 1;
    }

    /// The boundary that takes `val_fraction` of the text: all documents of the lower groups, and
    /// of one group as many characters as are still missing if whole groups do not come close.
    pub(super) fn boundary(&self, val_fraction: f64) -> Boundary {
        let n_characters: u64 = self.sums.iter().sum();
        let wanted = val_fraction * n_characters as f64;
        let (group, n_before) = self.group_at(wanted);
        let sum = self.sums[group as usize];
        let (below, above) = (n_before, n_before + sum);
        let miss = |n: u64| (n as f64 - wanted).abs();
        let (nearest, n_val) =
            if miss(below) <= miss(above) { (group, below) } else { (group + 1, above) };
        let drawn = |below, cut| Boundary::Drawn { seed: self.seed, below, cut };
        let leaves_both = 0 < n_val && n_val < n_characters;
        let is_exact = n_val as f64 == wanted.round();
        if leaves_both && (is_exact || is_close(n_val as f64 / n_characters as f64, val_fraction)) {
            return drawn(nearest, None);
        }
        // The end of the group's documents, taken as one text, validates.
        let missing = (wanted.round() as u64).saturating_sub(n_before).clamp(1, sum.max(2) - 1);
        drawn(group, Some(sum.saturating_sub(missing)))
    }

    /// The group in which the `wanted`-th character lies, and the characters before that group.
    fn group_at(&self, wanted: f64) -> (u32, u64) {
        let mut n_before = 0;
        for (group, &sum) in (0..).zip(&self.sums) {
            if sum > 0 && (n_before + sum) as f64 > wanted {
                return (group, n_before);
            }
            n_before += sum;
        }
        (N_GROUPS as u32 - 1, n_before)
    }
}
