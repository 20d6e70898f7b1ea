//! Warns when the validation loss rises, which a beginner may notice too late.

use std::path::Path;

use tinygpt_train::{EvalRecord, as_typed};

/// Rises in a row that are not noise.
const IN_A_ROW: usize = 3;

/// The last evaluations of a run.
#[derive(Debug, Default)]
pub(super) struct Rising {
    /// The lowest evaluation and those after it.
    since: Vec<EvalRecord>,
    is_reported: bool,
}

impl Rising {
    /// A note, once in a run, if the validation loss has risen several times in a row.
    pub(super) fn note(
        &mut self,
        record: &EvalRecord,
        out_dir: &Path,
        dropout: f64,
    ) -> Option<String> {
        if self.since.last().is_some_and(|last| record.val_loss <= last.val_loss) {
            self.since.clear();
        }
        self.since.push(record.clone());
        if self.is_reported || self.since.len() <= IN_A_ROW {
            return None;
        }
        self.is_reported = true;
        let low = self.since.first()?;
        let rise = format!(
            "the validation loss has risen {IN_A_ROW} evaluations in a row, from {:.4} at {} to {:.4}",
            low.val_loss, low.iter, record.val_loss
        );
        if record.train_loss > low.train_loss {
            return Some(format!(
                "{rise}, and so has the training loss: a lower --learning-rate may help"
            ));
        }
        Some(format!(
            "{rise}, while the training loss falls: the model is memorizing the text. The best \
             checkpoint is kept in {}. You can stop here; more text or a higher --dropout (now {}) \
             helps",
            out_dir.join("best").display(),
            as_typed(dropout)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(losses: &[(f32, f32)]) -> Vec<(usize, String)> {
        let mut rising = Rising::default();
        let mut notes = Vec::new();
        for (i, &(train_loss, val_loss)) in losses.iter().enumerate() {
            let iter = 10 * i as u64;
            let record =
                EvalRecord { iter, train_loss, val_loss, val_bits_per_byte: 1.0, perplexity: 1.0 };
            notes.extend(rising.note(&record, Path::new("out"), 0.1).map(|note| (i, note)));
        }
        notes
    }

    #[test]
    fn three_rises_in_a_row_are_reported_once() {
        let falling: Vec<_> =
            (0..9).map(|i| (3.0 - 0.2 * i as f32, 3.0 - 0.1 * i as f32)).collect();
        assert_eq!(notes(&falling), []);
        assert_eq!(notes(&[(3.0, 2.0), (2.9, 2.1), (2.8, 2.2), (2.7, 2.1), (2.6, 2.2)]), []);
        let notes =
            notes(&[(3.0, 2.0), (2.0, 1.0), (1.9, 1.1), (1.8, 1.2), (1.7, 1.3), (1.6, 1.4)]);
        let [(4, note)] = notes.as_slice() else { panic!("{notes:?}") };
        let best = Path::new("out").join("best");
        for part in ["1.0000 at 10 to 1.3000", "memorizing", "--dropout (now 0.1)"] {
            assert!(note.contains(part), "{part}: {note}");
        }
        assert!(note.contains(&best.display().to_string()), "{note}");
    }

    #[test]
    fn a_run_that_diverges_gets_another_note() {
        let notes = notes(&[(1.0, 1.0), (1.1, 1.1), (1.2, 1.2), (1.3, 1.3)]);
        let [(3, note)] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(note.contains("--learning-rate") && !note.contains("memorizing"), "{note}");
    }
}
