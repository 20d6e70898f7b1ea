//! Cuts a document into windows of the context: every token is scored once.

use std::ops::Range;

/// A window of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The tokens that the model reads, and the one after them.
    pub(super) tokens: Range<usize>,
    /// How many at its end are scored.
    pub(super) n_scored: usize,
}

/// Windows over `n_tokens` tokens, of which all but the first are scored, at most `block_size` in one
/// pass. Each window starts `stride` tokens after the one before, so a token in a later one has at least
/// `block_size - stride` tokens of context.
pub(super) fn windows(n_tokens: usize, block_size: usize, stride: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut n_done = 1;
    while n_done < n_tokens {
        let end = if windows.is_empty() { block_size + 1 } else { n_done + stride };
        let end = end.min(n_tokens);
        let start = end.saturating_sub(block_size + 1);
        windows.push(Window { tokens: start..end, n_scored: end - n_done });
        n_done = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_scored_once_with_enough_context() {
        for (n_tokens, block_size, stride) in
            [(2, 8, 4), (9, 8, 8), (10, 8, 1), (100, 8, 3), (100, 8, 8), (1, 8, 4), (50, 1, 1)]
        {
            let mut next = 1;
            for (i, Window { tokens, n_scored }) in
                windows(n_tokens, block_size, stride).into_iter().enumerate()
            {
                assert!((2..=block_size + 1).contains(&tokens.len()));
                assert_eq!(tokens.end - n_scored, next);
                let context = next - tokens.start;
                assert!(i == 0 || context > block_size - stride, "{context}");
                next = tokens.end;
            }
            assert_eq!(next, n_tokens.max(1));
        }
    }
}
