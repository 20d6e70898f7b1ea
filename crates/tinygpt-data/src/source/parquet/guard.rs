//! Checks parquet page headers before the library allocates memory for them.
//!
//! The library checks the counts in a file's footer against its length. A page's header it
//! trusts: it allocates as many bytes, dictionary entries and string lengths as are
//! announced there. Here each count is compared with the bytes that are there.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};

use super::codec::Unpacker;

/// The size of an unpacked page that is always accepted.
const HARMLESS_BYTES: u64 = 16 << 20;

/// Real text is never compressed more densely.
const MAX_RATIO: u64 = 256;

/// The most values in a page whose string lengths are packed; writers stop at 20,000 or so.
const MAX_PACKED_VALUES: u32 = 1 << 20;

/// A file whose page headers are looked at before the library acts on them.
struct CheckedFile(File);

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for CheckedFile {
    type T = BufReader<File>;

    /// Called where a page's header begins.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut reader = self.0.get_read(start)?;
        let Some((unpacked, packed)) = page_sizes(reader.fill_buf()?) else { return Ok(reader) };
        if unpacked > HARMLESS_BYTES.max(packed.saturating_mul(MAX_RATIO)) {
            return Err(ParquetError::General(format!(
                "a page of {packed} bytes that claims to hold {unpacked}"
            )));
        }
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start}")));
        }
        self.0.get_bytes(start, length)
    }
}

/// The sizes of a page, unpacked and packed, from the first bytes of its header.
///
/// Thrift's compact protocol: the header's first fields are three 32-bit integers, each a byte
/// 0x15 and a zigzag number: the page's type and its two sizes.
fn page_sizes(header: &[u8]) -> Option<(u64, u64)> {
    let mut bytes = header.iter();
    let mut field = || if *bytes.next()? == 0x15 { number(&mut bytes) } else { None };
    let (_, unpacked, packed) = (field()?, field()?, field()?);
    Some((unpacked >> 1, packed >> 1))
}

/// Pages whose counts have been compared with their bytes.
pub(super) struct CheckedPages {
    pages: Box<dyn PageReader>,
    /// What unpacks them, if that is done here and not by the library.
    unpacker: Option<Unpacker>,
    /// Whether the column may hold nulls, and so has levels before its values.
    has_levels: bool,
}

impl CheckedPages {
    /// The pages of a column in a row group of `n_rows` rows.
    pub(super) fn open(
        file: File,
        column: &ColumnChunkMetaData,
        n_rows: usize,
        has_levels: bool,
    ) -> Result<Self> {
        let unpacker = Unpacker::of(column.compression());
        // The library then takes the pages as they are.
        let packed = |column: &ColumnChunkMetaData| {
            column.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()
        };
        let column = match unpacker {
            Some(_) => Cow::Owned(packed(column)?),
            None => Cow::Borrowed(column),
        };
        let file = Arc::new(CheckedFile(file));
        let pages = Box::new(SerializedPageReader::new(file, &column, n_rows, None)?);
        Ok(Self { pages, unpacker, has_levels })
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.pages.get_next_page()? else { return Ok(None) };
        if let Some(unpacker) = self.unpacker {
            page = unpack(page, unpacker)?;
        }
        check(&page, self.has_levels)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// Unpacks a page to no more than text of use could have.
fn unpack(page: Page, unpacker: Unpacker) -> Result<Page> {
    let unpacked = |buf: &Bytes, start: usize| -> Result<Bytes> {
        let levels = buf.get(..start).ok_or_else(|| ParquetError::EOF("a page".to_owned()))?;
        let packed = &buf[start..];
        let max = HARMLESS_BYTES.max((packed.len() as u64).saturating_mul(MAX_RATIO));
        let mut bytes = levels.to_vec();
        unpacker.unpack(packed, max, &mut bytes)?;
        Ok(bytes.into())
    };
    let mut page = page;
    match &mut page {
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = unpacked(buf, 0)?,
        Page::DataPageV2 {
            buf, def_levels_byte_len, rep_levels_byte_len, is_compressed, ..
        } => {
            let start = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
            // A page of nulls has nothing to unpack.
            if *is_compressed && buf.len() > start {
                *buf = unpacked(buf, start)?;
            }
        }
    }
    Ok(page)
}

fn check(page: &Page, has_levels: bool) -> Result<()> {
    let (buf, n_values, is_believable) = match page {
        // Each entry has a length of four bytes.
        Page::DictionaryPage { buf, num_values, .. } => {
            (buf, *num_values, *num_values as usize <= buf.len() / 4)
        }
        Page::DataPage { buf, num_values, encoding, .. } => {
            let first = buf.first_chunk().filter(|_| has_levels);
            let start = first.map_or(0, |length| 4 + u32::from_le_bytes(*length) as usize);
            (buf, *num_values, lengths_fit(*encoding, buf, start, *num_values))
        }
        Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => {
            let start = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
            (buf, *num_values, lengths_fit(*encoding, buf, start, *num_values))
        }
    };
    if is_believable {
        return Ok(());
    }
    let what = format!("a page of {} bytes that claims {n_values} values", buf.len());
    Err(ParquetError::General(what))
}

/// Whether the string lengths packed at `start` are at most as many as the page's values.
///
/// They are packed as differences (DELTA_BINARY_PACKED), headed by three numbers: the values of
/// a block, its parts, and how many lengths there are.
fn lengths_fit(encoding: Encoding, page: &[u8], start: usize, n_values: u32) -> bool {
    if !matches!(encoding, Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
        return true;
    }
    let mut bytes = page.get(start..).unwrap_or_default().iter();
    let [_, n_parts, n_lengths] = std::array::from_fn(|_| number(&mut bytes).unwrap_or(u64::MAX));
    n_values <= MAX_PACKED_VALUES && n_lengths <= u64::from(n_values) && n_parts <= 1 << 10
}

/// A number in groups of seven bits, the lowest first.
fn number<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
