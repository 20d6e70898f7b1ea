//! Gradients as few large messages: each message costs a latency, whatever its length.

/// Values in one message at most: 4 MiB.
const BUCKET: usize = 1 << 20;

/// Calls `reduce` on all values of `arrays`, in buckets. Arrays that are smaller than a bucket are copied
/// together with their neighbours; the others are cut, without a copy.
pub(crate) fn sum_buckets<E>(
    arrays: &mut [Vec<f32>],
    mut reduce: impl FnMut(&mut [f32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut bucket = Vec::with_capacity(BUCKET);
    let mut next = 0;
    while next < arrays.len() {
        if arrays[next].len() >= BUCKET / 2 {
            arrays[next].chunks_mut(BUCKET).try_for_each(&mut reduce)?;
            next += 1;
            continue;
        }
        bucket.clear();
        let first = next;
        while next < arrays.len()
            && arrays[next].len() < BUCKET / 2
            && bucket.len() + arrays[next].len() <= BUCKET
        {
            bucket.extend_from_slice(&arrays[next]);
            next += 1;
        }
        reduce(&mut bucket)?;
        let mut rest = &bucket[..];
        for array in &mut arrays[first..next] {
            let (values, after) = rest.split_at(array.len());
            array.copy_from_slice(values);
            rest = after;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bucket_of_a_bounded_size() {
        let lens = [3, BUCKET / 2 - 1, BUCKET / 2, 5, 2 * BUCKET + 7, 1, 1, BUCKET / 3, BUCKET / 3];
        let mut arrays: Vec<Vec<f32>> = lens.iter().map(|len| vec![1.0; *len]).collect();
        let mut sizes = Vec::new();
        let summed = sum_buckets(&mut arrays, |bucket| {
            sizes.push(bucket.len());
            bucket.iter_mut().for_each(|value| *value += 1.0);
            Ok::<(), ()>(())
        });
        assert_eq!(summed, Ok(()));
        assert!(arrays.iter().flatten().all(|value| *value == 2.0));
        assert_eq!(sizes.iter().sum::<usize>(), lens.iter().sum::<usize>());
        assert!(sizes.iter().all(|size| *size <= BUCKET) && sizes.len() == 7, "{sizes:?}");
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut arrays = vec![vec![0.0; BUCKET], vec![0.0; BUCKET]];
        let mut n_calls = 0;
        let summed = sum_buckets(&mut arrays, |_| {
            n_calls += 1;
            Err("lost")
        });
        assert_eq!((summed, n_calls), (Err("lost"), 1));
    }
}
