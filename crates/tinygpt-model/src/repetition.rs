//! The repetition penalty (Keskar et al. 2019, "CTRL", section 4.1): a token that is in the text
//! already, prompt included, has its logit divided by the penalty, or multiplied where it is
//! negative. As `transformers` does, once however often the token is there.

/// What a text holds so far, as far as anybody has to know.
#[derive(Debug)]
pub(crate) struct Repetition {
    /// 1 changes nothing.
    penalty: f32,
    /// Each token of the text once.
    seen: Vec<u32>,
    is_seen: Vec<bool>,
    /// The changed logits; reused.
    scores: Vec<f32>,
}

impl Repetition {
    pub(crate) fn new(penalty: f32) -> Self {
        Self { penalty, seen: Vec::new(), is_seen: Vec::new(), scores: Vec::new() }
    }

    /// The text goes on with `ids`.
    pub(crate) fn see(&mut self, ids: &[u32]) {
        if self.penalty == 1.0 {
            return;
        }
        for &id in ids {
            let place = id as usize;
            if self.is_seen.len() <= place {
                self.is_seen.resize(place + 1, false);
            }
            if !std::mem::replace(&mut self.is_seen[place], true) {
                self.seen.push(id);
            }
        }
    }

    /// The logits with the penalty.
    pub(crate) fn apply<'a>(&'a mut self, logits: &'a [f32]) -> &'a [f32] {
        if self.seen.is_empty() {
            return logits;
        }
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        for &id in &self.seen {
            if let Some(score) = self.scores.get_mut(id as usize) {
                *score = if *score < 0.0 { *score * self.penalty } else { *score / self.penalty };
            }
        }
        &self.scores
    }
}
