//! Counts of what was skipped or replaced in a text.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The most examples of unusable records.
const MAX_EXAMPLES: usize = 3;

/// Counts of what was skipped or replaced in a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceStats {
    /// Documents that were read from files. 0 in preparations of older versions.
    #[serde(default)]
    pub n_documents: u64,
    /// Records without a value.
    pub n_nulls: u64,
    /// Documents without any text.
    pub n_empty: u64,
    /// Records that could not be used: the key is missing, or they are not well formed.
    #[serde(default)]
    pub n_bad: u64,
    /// The first of those, each as file, line and reason.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Places where bytes that are not UTF-8 became U+FFFD.
    pub n_replaced: u64,
    /// Halves of surrogate pairs in JSON escapes that became U+FFFD.
    #[serde(default)]
    pub n_half_pairs: u64,
    /// NUL characters, which text hardly ever has.
    #[serde(default)]
    pub n_nul: u64,
}

impl SourceStats {
    /// The records that were read, used or not.
    pub(crate) fn n_records(&self) -> u64 {
        self.n_documents + self.n_nulls + self.n_empty + self.n_bad
    }

    /// Whether more records than this fraction could not be used.
    pub(crate) fn exceeds(&self, max_bad_fraction: f64) -> bool {
        self.n_bad as f64 > max_bad_fraction * self.n_records() as f64
    }

    /// What is wrong with a text of which too many records cannot be used, and what to do.
    pub(crate) fn too_many_bad(&self) -> (String, String) {
        let (n_bad, n_records) = (self.n_bad, self.n_records());
        let percent = 100.0 * n_bad as f64 / n_records.max(1) as f64;
        // Rounded up, so that the option lets them pass.
        let allowed = percent.ceil() / 100.0;
        (
            format!("{n_bad} of {n_records} records cannot be used ({percent:.1}%)"),
            format!("set `max_bad_fraction` to {allowed} to leave them out"),
        )
    }

    /// Counts a record that could not be used; the first few are named.
    pub(crate) fn add_bad(&mut self, example: impl FnOnce() -> String) {
        self.n_bad += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(example());
        }
    }
}

impl AddAssign<&Self> for SourceStats {
    fn add_assign(&mut self, other: &Self) {
        self.n_documents += other.n_documents;
        self.n_nulls += other.n_nulls;
        self.n_empty += other.n_empty;
        self.n_bad += other.n_bad;
        self.n_replaced += other.n_replaced;
        self.n_half_pairs += other.n_half_pairs;
        self.n_nul += other.n_nul;
        let room = MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }
}
