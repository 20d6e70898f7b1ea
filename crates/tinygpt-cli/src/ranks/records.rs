//! The answers of rank 0, as bytes.

/// Starts an answer that names lost ranks instead of records.
pub(super) const LOST: u8 = 1;
/// Starts an answer with records.
pub(super) const RECORDS: u8 = 0;

/// An answer with records: each after its length.
pub(super) fn packed(records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![RECORDS];
    for record in records {
        message.extend((record.len() as u32).to_le_bytes());
        message.extend(record);
    }
    message
}

/// The records of an answer, without its first byte.
pub(super) fn unpacked(mut message: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = message.split_first_chunk::<4>() {
        let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
        let (record, after) = rest.split_at(length);
        records.push(record.to_vec());
        message = after;
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_records_are_unpacked() {
        let records = vec![b"one".to_vec(), Vec::new(), vec![7; 300]];
        assert_eq!(unpacked(&packed(&records)[1..]), records);
    }
}
