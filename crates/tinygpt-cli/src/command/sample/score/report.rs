//! Prints scores: sums over all documents with a standard error, and a line for each as JSON.

use std::f64::consts::LN_2;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::grade::share_with_error;
use crate::terminal::{Output, grouped};

/// A document, or all of them, with the loss of the model on it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scored {
    /// Tokens that were scored: all of the text.
    pub(super) n_tokens: usize,
    /// Bytes of the text.
    pub(super) n_bytes: usize,
    /// The sum of the losses of its tokens.
    pub(super) nats: f64,
}

impl Scored {
    fn nats_per_token(&self) -> f64 {
        self.nats / self.n_tokens.max(1) as f64
    }

    fn bits_per_byte(&self) -> f64 {
        self.nats / LN_2 / self.n_bytes.max(1) as f64
    }

    fn object(&self) -> Value {
        json!({
            "n_tokens": self.n_tokens,
            "n_bytes": self.n_bytes,
            "nats": self.nats,
            "nats_per_token": self.nats_per_token(),
            "perplexity": self.nats_per_token().exp(),
            "bits_per_byte": self.bits_per_byte(),
        })
    }
}

/// All documents together.
fn total(documents: &[Scored]) -> Scored {
    documents.iter().fold(Scored::default(), |sum, it| Scored {
        n_tokens: sum.n_tokens + it.n_tokens,
        n_bytes: sum.n_bytes + it.n_bytes,
        nats: sum.nats + it.nats,
    })
}

/// The standard error of the bits per byte of all documents, which is a ratio of two sums: that of the
/// mean residual over documents (Cochran 1977, section 6.4). `None` for one document.
fn standard_error(documents: &[Scored]) -> Option<f64> {
    let n = documents.len() as f64;
    let total = total(documents);
    let ratio = total.nats / total.n_bytes.max(1) as f64;
    let residuals = documents.iter().map(|it| it.nats - ratio * it.n_bytes as f64);
    let squares: f64 = residuals.map(|residual| residual * residual).sum();
    let error = (n / (n - 1.0) * squares).sqrt() / total.n_bytes.max(1) as f64 / LN_2;
    (documents.len() > 1).then_some(error)
}

/// Prints the scores of documents.
///
/// # Errors
/// An output that cannot be written.
pub(super) fn print_documents(documents: &[Scored], json: bool, out: &mut Output) -> Result<()> {
    let (total, error) = (total(documents), standard_error(documents));
    if json {
        for (index, document) in documents.iter().enumerate() {
            let mut object = document.object();
            object["document"] = index.into();
            out.print(&format!("{object}\n"))?;
        }
        let mut object = total.object();
        object["n_documents"] = documents.len().into();
        object["bits_per_byte_standard_error"] = error.into();
        out.print(&format!("{object}\n"))?;
        return Ok(());
    }
    let error = error.map_or(String::new(), |error| format!(" ± {error:.4}"));
    let plural = if documents.len() == 1 { "" } else { "s" };
    out.print(&format!(
        "{:.4} nats per token, perplexity {:.3}, {:.4}{error} bits per byte\n\
         {} tokens, {} bytes, {} document{plural}\n",
        total.nats_per_token(),
        total.nats_per_token().exp(),
        total.bits_per_byte(),
        grouped(total.n_tokens as u64),
        grouped(total.n_bytes as u64),
        grouped(documents.len() as u64),
    ))?;
    Ok(())
}

/// Prints how often the first sentence of a pair is more likely; `sentences` has the good and the bad
/// sentence of each pair in turn.
///
/// # Errors
/// An output that cannot be written.
pub(super) fn print_pairs(sentences: &[Scored], json: bool, out: &mut Output) -> Result<()> {
    let mut n_correct = 0;
    for (index, pair) in sentences.chunks_exact(2).enumerate() {
        let is_correct = pair[0].nats < pair[1].nats;
        n_correct += u64::from(is_correct);
        if json {
            let object = json!({
                "pair": index,
                "nats_good": pair[0].nats,
                "nats_bad": pair[1].nats,
                "correct": is_correct,
            });
            out.print(&format!("{object}\n"))?;
        }
    }
    let n_pairs = sentences.len() as u64 / 2;
    let (accuracy, error) = share_with_error(n_correct, n_pairs);
    if json {
        let object = json!({
            "n_pairs": n_pairs,
            "n_correct": n_correct,
            "accuracy": accuracy,
            "standard_error": error,
        });
        out.print(&format!("{object}\n"))?;
        return Ok(());
    }
    out.print(&format!(
        "accuracy: {} of {} pairs, {:.1}% ± {:.1}%\n",
        grouped(n_correct),
        grouped(n_pairs),
        100.0 * accuracy,
        100.0 * error
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn document(n_bytes: usize, nats: f64) -> Scored {
        Scored { n_tokens: n_bytes / 4, n_bytes, nats }
    }

    #[test]
    fn the_standard_error_is_that_of_a_ratio() {
        assert_eq!(standard_error(&[document(40, 8.0)]), None);
        // The same rate in each document: nothing is uncertain, however long they are.
        assert_eq!(standard_error(&[document(40, 8.0), document(400, 80.0)]), Some(0.0));
        // Equal lengths: the standard error of the mean, here of 0.1 and 0.3 nats per byte.
        let error = standard_error(&[document(40, 4.0), document(40, 12.0)]).unwrap();
        assert!((error * LN_2 - 0.1).abs() < 1e-12, "{error}");
    }
}
