//! Properties of the division of a text: nothing is lost, nothing is in both splits, and the
//! share is the one asked for, whatever the lengths of the documents.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::divide::{Boundary, Groups, Lengths, is_close};
use super::split::{Split, SplitDocuments};
use super::subset::Subset;
use crate::error::DataError;
use crate::source::{Documents, Piece, SourceStats};

/// Documents of these lengths in pieces of at most `piece` characters; no two characters are
/// equal, so that each can be found again.
struct Numbered(VecDeque<Piece>);

impl Numbered {
    fn new(lengths: &[u64], piece: u64) -> Self {
        let mut chars = (0x1_0000..).filter_map(char::from_u32);
        let mut pieces = VecDeque::new();
        for &length in lengths {
            let mut left = length;
            while left > 0 {
                let n = left.min(piece);
                left -= n;
                let text = chars.by_ref().take(n as usize).collect();
                pieces.push_back(Piece { text, ends_document: left == 0 });
            }
            // A reader may learn that a document has ended when all of its text is given.
            if length.is_multiple_of(7) {
                pieces.back_mut().unwrap().ends_document = false;
                pieces.push_back(Piece { text: String::new(), ends_document: true });
            }
        }
        Self(pieces)
    }
}

impl Documents for Numbered {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        Ok(self.0.pop_front())
    }

    fn stats(&self) -> SourceStats {
        SourceStats::default()
    }

    fn n_bytes_read(&self) -> u64 {
        0
    }
}

/// The documents of a split with the information whether each was ended; and what
/// `SplitDocuments` says of them.
#[derive(Debug, PartialEq)]
struct Given {
    documents: Vec<(String, bool)>,
    n_documents: u64,
    cut_document: Option<u64>,
}

impl Given {
    fn of(lengths: &[u64], piece: u64, split: Split, boundary: Boundary, percent: f64) -> Self {
        let subset = (split == Split::Train).then(|| Subset::new(percent, 1).unwrap());
        let inner = Box::new(Numbered::new(lengths, piece));
        let mut stream = SplitDocuments::new(inner, split, boundary, subset, 0);
        let mut documents: Vec<(String, bool)> = Vec::new();
        while let Some(piece) = stream.next_piece().unwrap() {
            match documents.last_mut().filter(|(_, ended)| !ended) {
                Some(last) => {
                    last.0.push_str(&piece.text);
                    last.1 = piece.ends_document;
                }
                None => documents.push((piece.text, piece.ends_document)),
            }
        }
        let (n_documents, cut_document) = (stream.n_documents(), stream.cut_document());
        Self { documents, n_documents, cut_document }
    }

    fn text(&self) -> String {
        self.documents.iter().map(|(text, _)| text.as_str()).collect()
    }
}

fn end_of(lengths: &[u64], val_fraction: f64) -> Boundary {
    let mut scan = Lengths::new(val_fraction);
    lengths.iter().for_each(|&length| scan.add(length));
    scan.end()
}

fn drawn_of(lengths: &[u64], val_fraction: f64, seed: u64) -> Boundary {
    let mut groups = Groups::new(seed);
    lengths.iter().for_each(|&length| groups.add(length));
    groups.boundary(val_fraction)
}

/// Where the documents around `character` begin: the first at or after it, or else the last one;
/// and the last before it.
fn starts_around(lengths: &[u64], character: u64) -> (u64, u64) {
    let starts = lengths.iter().scan(0, |end, &length| {
        *end += length;
        Some(*end - length)
    });
    let starts: Vec<u64> = starts.collect();
    let first = starts.iter().copied().find(|&start| start >= character);
    let before = starts.iter().copied().rfind(|&start| start < character);
    (first.unwrap_or(*starts.last().unwrap()), before.unwrap())
}

/// The document, counted from 0, in which a text begins.
fn document_of(lengths: &[u64], text: &str) -> u64 {
    let first = u64::from(u32::from(text.chars().next().unwrap()) - 0x1_0000);
    let mut end = 0;
    let holds = |length: &u64| {
        end += length;
        first < end
    };
    lengths.iter().position(holds).unwrap() as u64
}

/// Lengths of many kinds: alike, with a few giants, growing, shrinking.
fn lengths() -> impl Strategy<Value = Vec<u64>> {
    let alike = prop::collection::vec(20u64..40, 2..60);
    let wild = prop::collection::vec((0u32..9).prop_map(|e| 1u64 << e), 2..40);
    let giants = (prop::collection::vec(1u64..9, 2..40), 200u64..900, any::<prop::sample::Index>());
    let giant = giants.prop_map(|(mut lengths, length, at)| {
        lengths.insert(at.index(lengths.len()), length);
        lengths
    });
    let sorted = prop::collection::vec(1u64..300, 2..20).prop_map(|mut lengths| {
        lengths.sort_unstable();
        lengths
    });
    let reversed = prop::collection::vec(1u64..300, 2..20).prop_map(|mut lengths| {
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths
    });
    prop_oneof![alike, wild, giant, sorted, reversed]
}

/// Checks what holds of every division, and returns the characters that validate.
fn check_division(lengths: &[u64], piece: u64, boundary: Boundary) -> Result<u64, TestCaseError> {
    let train = Given::of(lengths, piece, Split::Train, boundary, 100.0);
    let val = Given::of(lengths, piece, Split::Val, boundary, 100.0);
    let all: String = Numbered::new(lengths, u64::MAX).0.into_iter().map(|it| it.text).collect();
    let mut found: Vec<char> = (train.text() + &val.text()).chars().collect();
    found.sort_unstable();
    prop_assert!(found.into_iter().eq(all.chars()), "each character is in one split");

    let is_cut = val.cut_document.is_some();
    prop_assert_eq!(train.cut_document, val.cut_document);
    let n_parts = train.documents.len() + val.documents.len();
    prop_assert_eq!(n_parts, lengths.len() + usize::from(is_cut));
    prop_assert_eq!(train.n_documents, train.documents.len() as u64);
    prop_assert_eq!(val.n_documents, val.documents.len() as u64);
    prop_assert!(val.documents.iter().all(|(_, ended)| *ended));
    // The training text that a cut ends is not followed by another document as if it were one.
    let (last, others) = train.documents.split_last().unwrap();
    prop_assert!(others.iter().all(|(_, ended)| *ended));
    let is_open = is_cut && matches!(boundary, Boundary::Character { .. });
    prop_assert_eq!(last.1, !is_open);
    Ok(val.text().chars().count() as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_end_validates_with_the_share_asked_for(
        lengths in lengths(), piece in 1u64..100, percent in 2u32..60,
    ) {
        let val_fraction = f64::from(percent) / 100.0;
        let n: u64 = lengths.iter().sum();
        let character = (n as f64 * (1.0 - val_fraction)) as u64;
        prop_assume!(character > 0 && character < n);
        let boundary = end_of(&lengths, val_fraction);
        let n_val = check_division(&lengths, piece, boundary)?;

        let is_close = |start: u64| is_close((n - start) as f64 / n as f64, val_fraction);
        let (after, before) = starts_around(&lengths, character);
        let start = match () {
            () if is_close(after) => after,
            () if before > 0 && is_close(before) => before,
            () => character,
        };
        prop_assert_eq!(n_val, n - start);
        let val = Given::of(&lengths, piece, Split::Val, boundary, 100.0).text();
        let all: String = Numbered::new(&lengths, 9).0.into_iter().map(|it| it.text).collect();
        prop_assert!(all.ends_with(&val));
    }

    #[test]
    fn drawn_documents_validate_with_the_share_asked_for(
        lengths in lengths(), piece in 1u64..100, percent in 2u32..60, seed: u64,
    ) {
        let val_fraction = f64::from(percent) / 100.0;
        let n: u64 = lengths.iter().sum();
        let wanted = (val_fraction * n as f64).round() as u64;
        prop_assume!(wanted > 0 && wanted < n);
        let boundary = drawn_of(&lengths, val_fraction, seed);
        prop_assert_eq!(boundary, drawn_of(&lengths, val_fraction, seed));
        let n_val = check_division(&lengths, piece, boundary)?;
        let is_exact = n_val == wanted;
        // Two documents of one character cannot be cut.
        let is_tiny = n < 3;
        prop_assert!(is_exact || is_tiny || is_close(n_val as f64 / n as f64, val_fraction));
    }

    #[test]
    fn a_percentage_is_taken_of_the_training_documents_alone(
        lengths in lengths(), percent in 1u32..100, seed: u64,
    ) {
        for boundary in [end_of(&lengths, 0.25), drawn_of(&lengths, 0.25, seed)] {
            let of = |split, percent| Given::of(&lengths, 30, split, boundary, percent);
            prop_assert_eq!(of(Split::Val, 100.0), of(Split::Val, f64::from(percent)));
            let (all, some) = (of(Split::Train, 100.0), of(Split::Train, f64::from(percent)));
            let mut subset = Subset::new(f64::from(percent), 1).unwrap();
            let mut kept = all.documents;
            kept.retain(|(text, _)| subset.keep(document_of(&lengths, text)));
            prop_assert_eq!(some.documents, kept);
        }
    }
}

#[test]
fn a_preface_and_a_book_are_cut_inside_the_book() {
    for lengths in [[9u64, 100_000], [100_000, 9]] {
        let boundary = end_of(&lengths, 0.1);
        let val = Given::of(&lengths, 1000, Split::Val, boundary, 100.0);
        let n_val = val.text().chars().count();
        assert_eq!(n_val, 10_001, "{lengths:?}");
        assert_eq!(val.cut_document, Some(u64::from(lengths[0] == 9)));
    }
}

#[test]
fn documents_alike_are_not_cut() {
    let lengths = vec![100; 200];
    let end = Boundary::Document { character: 18_000, last_document_idx: 199 };
    assert_eq!(end_of(&lengths, 0.1), end);
    assert!(matches!(drawn_of(&lengths, 0.1, 7), Boundary::Drawn { cut: None, .. }));
    let drawn =
        |seed| Given::of(&lengths, 50, Split::Val, drawn_of(&lengths, 0.1, seed), 100.0).documents;
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
}

#[test]
fn a_drawn_document_of_the_wanted_length_is_not_cut() {
    // 14 % of 11 characters are 2, rounded: more than a tenth away from 14 %, but no cut is closer.
    let lengths = [4, 4, 2, 1];
    for seed in 0..200 {
        let val = Given::of(&lengths, 1, Split::Val, drawn_of(&lengths, 0.14, seed), 100.0);
        assert_eq!(val.text().chars().count(), 2, "{seed}");
    }
}

#[test]
fn a_document_joins_validation_whole_if_that_misses_less() {
    // 32 of 280 characters are 11.4 %; without the ninth document 12 of them would be 4.3 %.
    let mut lengths = vec![31; 8];
    lengths.extend([20, 12]);
    let boundary = Boundary::Document { character: 248, last_document_idx: 9 };
    assert_eq!(end_of(&lengths, 0.11), boundary);
    let val = Given::of(&lengths, 50, Split::Val, boundary, 100.0);
    assert_eq!((val.documents.len(), val.cut_document), (2, None));
}

#[test]
fn the_only_document_is_cut_without_an_end() {
    let boundary = end_of(&[50], 0.1);
    assert_eq!(boundary, Boundary::Character { character: 45, is_only_document: true });
    for (split, n) in [(Split::Train, 45), (Split::Val, 5)] {
        let given = Given::of(&[50], 7, split, boundary, 100.0);
        assert_eq!(given.documents.len(), 1);
        assert_eq!((given.text().chars().count(), given.documents[0].1), (n, false));
        assert_eq!((given.n_documents, given.cut_document), (1, Some(0)));
    }
}

#[test]
fn records_of_one_document_are_joined() {
    let boundary = Boundary::Separate { is_one_document: true };
    let given = Given::of(&[5, 6, 8], 4, Split::Val, boundary, 100.0);
    assert_eq!(given.documents.len(), 1);
    assert_eq!((given.n_documents, given.documents[0].1), (1, false));
}

#[test]
fn few_documents_are_remembered() {
    // Each document is long when it comes: more than a hundredth of the text so far.
    let (mut scan, mut most) = (Lengths::new(0.1), 0);
    for _ in 0..3000 {
        scan.add(scan.n_characters() / 90 + 1);
        most = most.max(scan.n_remembered());
    }
    assert!((101..=202).contains(&most), "{most}");
}
