//! Which windows are read, in which order, and what is in them.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn stream(n: u32) -> TokenDataset {
    TokenDataset::from_ids((0..n).collect())
}

#[test]
fn training_batches_follow_the_windows() {
    let (stream, windows) = (stream(1_000), Windows::new(1_000, 8, 7).unwrap());
    let loader = Loader::training(&stream, 3, 8, 7).unwrap();
    assert_eq!(loader.n_windows(), windows.per_epoch());
    for (batch, first) in [(loader.batch(50).unwrap(), 150), (loader.batch_from(7).unwrap(), 7)] {
        for (row, idx) in (first..first + 3).enumerate() {
            let start = windows.window(idx) as u32;
            let expected: Vec<u32> = (start..start + 8).collect();
            assert_eq!(batch.inputs[row * 8..][..8], expected);
        }
        assert!(batch.inputs.iter().zip(&batch.targets).all(|(i, t)| i + 1 == *t));
    }
}

#[test]
fn windows_of_documents_start_with_their_separator() {
    // Documents of 3, 4, 5, ... tokens; 0 ends each.
    let ids: Vec<u32> = (3..30).flat_map(|n| (1..=n).chain([0])).collect();
    let stream = TokenDataset::from_ids(ids.clone());
    let loader = Loader::training_documents(&stream, 0, (4, 40), 7).unwrap();
    let n_batches = loader.n_windows().div_ceil(4) as u64;
    let mut rows = Vec::new();
    for batch in (0..n_batches).map(|i| loader.batch(i).unwrap()) {
        for (inputs, targets) in batch.inputs.chunks(40).zip(batch.targets.chunks(40)) {
            assert_eq!((inputs[0], &inputs[1..]), (0, &targets[..39]));
            assert_eq!(targets[0], 1, "the first token of a document");
            rows.push(inputs.to_vec());
        }
    }
    // The last document and then the first one.
    let seam = |row: &Vec<u32>| row.windows(5).any(|part| part == [29, 0, 1, 2, 3]);
    assert!(rows.iter().any(seam));
    let evaluation = Loader::evaluation_documents(&stream, 0, (4, 40), 1).unwrap();
    assert_eq!(evaluation.batch(0).unwrap().inputs[..5], [0, 1, 2, 3, 0]);
    // The default has no part in this: its windows do not depend on what the tokens are.
    let other = TokenDataset::from_ids(ids.iter().map(|id| id + 1).collect());
    let [here, there] = [&stream, &other].map(|it| Loader::training(it, 4, 40, 7).unwrap());
    let shifted: Vec<u32> = here.batch(3).unwrap().inputs.iter().map(|id| id + 1).collect();
    assert_eq!(there.batch(3).unwrap().inputs, shifted);
}

#[test]
fn evaluation_batches_end_with_a_smaller_one() {
    let loader = Loader::evaluation(&stream(50), 3, 7, 9).unwrap();
    assert_eq!((loader.n_windows(), loader.n_batches()), (7, 3));
    let sizes: Vec<usize> = (0..4).map(|i| loader.batch(i).unwrap().batch_size).collect();
    assert_eq!(sizes, [3, 3, 1, 0]);
    assert_eq!(loader.batch(2).unwrap().inputs, (42..49).collect::<Vec<u32>>());
}

#[test]
fn target_bytes_ignore_tokens_without_text() {
    let batch = Loader::evaluation(&stream(4), 1, 3, 1).unwrap().batch(0).unwrap();
    assert_eq!(batch.targets, [1, 2, 3]);
    assert_eq!(batch.target_bytes(&[9, 1, 2]), 3);
}

#[test]
fn a_mask_hides_targets_and_nothing_else() {
    // Documents of 3, 4, 5, ... tokens; 0 ends each. Every third token is learned.
    let ids: Vec<u32> = (3..30).flat_map(|n| (1..=n).chain([0])).collect();
    let mask: Vec<u32> = (0..ids.len()).map(|i| u32::from(i % 3 == 0)).collect();
    // Rows of conversations start at other places, so both streams have a mask.
    let all = TokenDataset::from_ids(vec![1; ids.len()]);
    let plain = TokenDataset::from_ids(ids.clone()).with_mask(all).unwrap();
    let masked = plain.clone().with_mask(TokenDataset::from_ids(mask.clone())).unwrap();
    let loaders = |stream: &TokenDataset| {
        [
            Loader::training(stream, 4, 40, 7).unwrap(),
            Loader::evaluation(stream, 4, 40, 3).unwrap(),
            Loader::training_documents(stream, 0, (4, 40), 7).unwrap(),
            Loader::evaluation_documents(stream, 0, (4, 40), 3).unwrap(),
        ]
    };
    for (plain, masked) in loaders(&plain).iter().zip(&loaders(&masked)) {
        for i in 0..plain.n_batches() as u64 {
            let (plain, masked) = (plain.batch(i).unwrap(), masked.batch(i).unwrap());
            assert_eq!(plain.inputs, masked.inputs);
            let learned = plain.targets.iter().zip(&masked.targets);
            assert!(learned.clone().all(|(id, seen)| id == seen || *seen == IGNORED_TARGET));
            let n = learned.filter(|(id, seen)| id == seen).count();
            assert_eq!((n, plain.n_learned()), (masked.n_learned(), plain.targets.len()));
        }
        let counted = [plain, masked].map(|it| it.n_learned(4, 7).unwrap());
        let read = [plain, masked].map(|it| it.windows_from(4, 7).unwrap().n_learned());
        assert_eq!(counted, read);
    }
    // The last row continues with the start of the stream, and so does its mask.
    let starts = rows(&masked, 0, 40).unwrap().starts;
    let rows = Loader::evaluation_documents(&masked, 0, (1, 40), starts.len()).unwrap();
    assert!(starts.iter().any(|start| start + 40 >= ids.len()));
    for (row, start) in (0..).zip(starts) {
        let target = |i: usize| (start + 1 + i) % ids.len();
        let seen = |i: usize| if mask[i] == 0 { IGNORED_TARGET } else { ids[i] };
        let expected: Vec<u32> = (0..40).map(target).map(seen).collect();
        assert_eq!(rows.batch(row).unwrap().targets, expected);
    }
}

#[test]
fn each_token_has_the_start_of_its_conversation() {
    let ids: Vec<u32> = (3..30).flat_map(|n| (1..=n).chain([0])).collect();
    let plain = TokenDataset::from_ids(ids.clone());
    let mask = TokenDataset::from_ids(vec![1; ids.len()]);
    let talks = plain.clone().with_mask(mask).unwrap();
    let loaders = |stream: &TokenDataset| {
        [
            Loader::training_documents(stream, 0, (4, 40), 7).unwrap(),
            Loader::evaluation_documents(stream, 0, (4, 40), 3).unwrap(),
        ]
    };
    for batch in loaders(&talks).iter().map(|it| it.batch(1).unwrap()) {
        let starts = batch.document_starts.unwrap();
        for (row, starts) in batch.inputs.chunks(40).zip(starts.chunks(40)) {
            // Document n is 1, 2, ..., n, 0.
            let counted: Vec<u32> = (0..).zip(row).map(|(at, id)| at + 1 - id).collect();
            let ends = row.iter().zip(starts).zip(&counted).filter(|((id, _), _)| **id != 0);
            assert!(ends.clone().all(|((_, start), counted)| start == counted), "{row:?}");
            assert!(row.iter().zip(starts.windows(2)).all(|(id, s)| (*id == 0) == (s[0] != s[1])));
        }
    }
    // Plain text and windows that start anywhere are as they were.
    for loader in loaders(&plain) {
        assert_eq!(loader.batch(1).unwrap().document_starts, None);
    }
    let anywhere = Loader::training(&talks, 4, 40, 7).unwrap();
    assert_eq!(anywhere.batch(1).unwrap().document_starts, None);
}

#[test]
fn bytes_and_tokens_are_those_of_learned_targets() {
    let mask = TokenDataset::from_ids(vec![1, 0, 1, 1]);
    let stream = stream(4).with_mask(mask).unwrap();
    let batch = Loader::evaluation(&stream, 1, 3, 1).unwrap().batch(0).unwrap();
    assert_eq!((&batch.targets[..], batch.n_learned()), (&[IGNORED_TARGET, 2, 3][..], 2));
    assert_eq!(batch.target_bytes(&[9, 1, 2, 4]), 6);
}

#[test]
fn a_mask_of_another_length_is_refused() {
    let error = stream(4).with_mask(stream(3)).unwrap_err();
    assert_eq!(
        error.explained(),
        "the mask has 3 numbers for 4 tokens, expected one for each; \
         prepare the dataset again with `force`"
    );
}
