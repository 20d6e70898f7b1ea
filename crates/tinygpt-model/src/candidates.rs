//! The largest logits, found in one pass and without sorting the vocabulary.

use std::cmp::Ordering;

use tinygpt_kernels::softmax::RUN;

/// A token that may be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) logit: f32,
    pub(crate) id: u32,
}

impl Candidate {
    /// The larger logit first, of equal ones the smaller id.
    pub(crate) fn best_first(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

/// Finds the k largest logits and all that are equal to the last of them, in order of their ids;
/// `maxima` has the largest of each [`RUN`].
///
/// One pass with a bar that only logits of its height jump over: whenever twice as many as before
/// have gathered, the k best are kept and the bar is laid at the worst of them. Most runs of logits
/// have none that jumps.
pub(crate) fn keep_top_k(logits: &[f32], maxima: &[f32], k: usize, found: &mut Vec<Candidate>) {
    found.clear();
    let mut bar = f32::NEG_INFINITY;
    let mut many = 2 * k;
    for ((run, logits), max) in logits.chunks(RUN).enumerate().zip(maxima) {
        if *max < bar {
            continue;
        }
        for (i, logit) in logits.iter().enumerate().filter(|(_, logit)| **logit >= bar) {
            // Adding zero makes a zero of a negative zero, for which `>=` knows no order.
            found.push(Candidate { logit: logit + 0.0, id: (run * RUN + i) as u32 });
        }
        if found.len() >= many {
            bar = keep_best(found, k);
            many = 2 * found.len();
        }
    }
    if found.len() > k {
        keep_best(found, k);
    }
    // So that the result does not depend on how the selection shuffles.
    found.sort_unstable_by_key(|candidate| candidate.id);
}

/// Keeps the k best and what equals the last of them, whose logit it returns.
fn keep_best(found: &mut Vec<Candidate>, k: usize) -> f32 {
    let (_, worst, _) = found.select_nth_unstable_by(k - 1, Candidate::best_first);
    let bar = worst.logit;
    found.retain(|candidate| candidate.logit >= bar);
    bar
}
