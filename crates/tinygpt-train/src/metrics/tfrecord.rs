//! The records of a TensorBoard event file: messages of `event.proto` and `summary.proto`, of which only
//! a few fields are used, each framed by its length and two checksums as TFRecord is.

/// The version that a file names in its first record.
const FILE_VERSION: &str = "brain.Event:2";

/// What happened at a step of a run.
pub(super) enum What<'a> {
    /// The first record of a file.
    FileVersion,
    /// From this step on, readers forget what earlier files hold.
    SessionStart,
    /// Numbers by tag.
    Scalars(&'a [(&'a str, f32)]),
}

/// One record with its frame.
pub(super) fn record(wall_time: f64, step: u64, what: &What<'_>) -> Vec<u8> {
    let mut event = Vec::new();
    event.push(key(1, FIXED_64));
    event.extend(wall_time.to_le_bytes());
    event.push(key(2, VARINT));
    varint(&mut event, step);
    match what {
        What::FileVersion => bytes(&mut event, 3, FILE_VERSION.as_bytes()),
        // status: START
        What::SessionStart => bytes(&mut event, 7, &[key(1, VARINT), 1]),
        What::Scalars(scalars) => bytes(&mut event, 5, &summary(scalars)),
    }
    framed(&event)
}

fn summary(scalars: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in scalars {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        value.push(key(2, FIXED_32));
        value.extend(number.to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    summary
}

/// The types of a field on the wire.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;

fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

fn bytes(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(key(field, BYTES));
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Seven bits in each byte, the lowest first; the highest bit of a byte says that more follow.
fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// Length, checksum of the length, content, checksum of the content.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let parts = [
        &length[..],
        &masked_crc32c(&length).to_le_bytes(),
        content,
        &masked_crc32c(content).to_le_bytes(),
    ];
    parts.concat()
}

/// A checksum that differs from that of data which holds its own checksum.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

/// The remainder of each byte by Castagnoli's polynomial, lowest bit first.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_checksum_is_castagnoli_s() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    /// `Event(wall_time=1.5, step=300, summary=…).SerializeToString()` of the `tensorboard` package 2.21,
    /// and the frame of its `RecordWriter`.
    #[test]
    fn a_record_has_the_bytes_that_tensorboard_writes() {
        let record = record(1.5, 300, &What::Scalars(&[("a", 0.25), ("b/c", -2.0)]));
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "2400000000000000422b804d09000000000000f83f10ac022a160a080a0161150000803e\
                          0a0a0a03622f6315000000c0b5880e1d";
}
