//! The bytes of a GGUF file, version 3: metadata, the list of tensors, then their values, each at a
//! multiple of 32 bytes; all little-endian. Source: the specification in ggml's `docs/gguf.md`.
//!
//! One tensor at a time is in memory. Which tensors there are is decided in `mod.rs`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;

use super::{Value, WeightType};
use crate::error::{ModelError, Result};
use crate::parts::ParamSpec;

/// Where tensors begin, in bytes.
const ALIGNMENT: u64 = 32;

/// Values of a block of [`WeightType::Q8_0`].
const BLOCK: usize = 32;

/// One tensor of the file.
pub(super) struct Entry {
    /// Its name there.
    name: String,
    /// The parameter it comes from, with the shape that it has in the file, `[rows, columns]` or
    /// `[columns]`.
    pub(super) spec: ParamSpec,
    weights: WeightType,
}

impl Entry {
    /// Only what is multiplied is stored as asked, and as f16 if it does not divide into blocks.
    pub(super) fn new(name: String, spec: ParamSpec, asked: WeightType) -> Self {
        let columns = spec.shape.last().copied().unwrap_or(0);
        let weights = match asked {
            _ if !spec.kind.is_multiplied() => WeightType::F32,
            WeightType::Q8_0 if !columns.is_multiple_of(BLOCK) => WeightType::F16,
            asked => asked,
        };
        Self { name, spec, weights }
    }

    /// How it is stored.
    pub(super) fn weights(&self) -> WeightType {
        self.weights
    }

    /// GGUF's number of the type.
    fn type_id(&self) -> u32 {
        match self.weights {
            WeightType::F32 => 0,
            WeightType::F16 => 1,
            WeightType::Q8_0 => 8,
        }
    }

    fn n_bytes(&self) -> u64 {
        let n = self.spec.len() as u64;
        match self.weights {
            WeightType::F32 => 4 * n,
            WeightType::F16 => 2 * n,
            WeightType::Q8_0 => n / BLOCK as u64 * (2 + BLOCK as u64),
        }
    }
}

/// A file on its way.
pub(super) struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    written: u64,
}

impl Writer {
    /// Creates the file and writes all but the values.
    pub(super) fn create(
        path: &Path,
        metadata: &[(String, Value)],
        entries: &[Entry],
    ) -> Result<Self> {
        let file = File::create(path).map_err(|e| ModelError::io("create", path, e))?;
        let mut writer = Self { path: path.to_owned(), out: BufWriter::new(file), written: 0 };
        writer.bytes(b"GGUF")?;
        writer.u32(3)?;
        writer.u64(entries.len() as u64)?;
        writer.u64(metadata.len() as u64)?;
        for (key, value) in metadata {
            writer.string(key)?;
            writer.value(value)?;
        }
        let mut offset = 0;
        for entry in entries {
            writer.string(&entry.name)?;
            writer.u32(entry.spec.shape.len() as u32)?;
            // The fastest dimension first.
            for size in entry.spec.shape.iter().rev() {
                writer.u64(*size as u64)?;
            }
            writer.u32(entry.type_id())?;
            writer.u64(offset)?;
            offset += entry.n_bytes().next_multiple_of(ALIGNMENT);
        }
        writer.pad()?;
        Ok(writer)
    }

    /// Writes the values of the next tensor.
    pub(super) fn tensor(&mut self, entry: &Entry, values: &[f32]) -> Result<()> {
        // A row or so at a time.
        let mut bytes = Vec::new();
        for piece in values.chunks(64 * BLOCK) {
            bytes.clear();
            match entry.weights {
                WeightType::F32 => bytes.extend(piece.iter().flat_map(|x| x.to_le_bytes())),
                WeightType::F16 => put_f16(piece, &mut bytes),
                WeightType::Q8_0 => piece.chunks(BLOCK).for_each(|x| put_block(x, &mut bytes)),
            }
            if entry.weights != WeightType::F32 && piece.iter().any(|x| x.abs() > F16_MAX) {
                return Err(ModelError::request(format!(
                    "`{}` has weights beyond {F16_MAX}, which no half-precision number holds: \
                     write it as f32",
                    entry.spec.name
                )));
            }
            self.bytes(&bytes)?;
        }
        self.pad()
    }

    /// Hands everything to the system.
    pub(super) fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(|e| ModelError::io("write", &self.path, e))
    }

    fn value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::U32(x) => self.u32(4).and_then(|()| self.u32(*x)),
            Value::F32(x) => self.u32(6).and_then(|()| self.bytes(&x.to_le_bytes())),
            Value::Bool(x) => self.u32(7).and_then(|()| self.bytes(&[u8::from(*x)])),
            Value::String(x) => self.u32(8).and_then(|()| self.string(x)),
            Value::Strings(list) => {
                self.array(8, list.len())?;
                list.iter().try_for_each(|x| self.string(x))
            }
            Value::I32s(list) => {
                self.array(5, list.len())?;
                list.iter().try_for_each(|x| self.bytes(&x.to_le_bytes()))
            }
        }
    }

    fn array(&mut self, type_id: u32, len: usize) -> Result<()> {
        self.u32(9)?;
        self.u32(type_id)?;
        self.u64(len as u64)
    }

    fn string(&mut self, text: &str) -> Result<()> {
        self.u64(text.len() as u64)?;
        self.bytes(text.as_bytes())
    }

    fn u32(&mut self, x: u32) -> Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    fn u64(&mut self, x: u64) -> Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    /// Pads to the next multiple of [`ALIGNMENT`].
    fn pad(&mut self) -> Result<()> {
        let missing = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.bytes(&[0; ALIGNMENT as usize][..missing as usize])
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        let io = |e: io::Error| ModelError::io("write", &self.path, e);
        self.out.write_all(bytes).map_err(io)
    }
}

/// The largest half-precision number.
const F16_MAX: f32 = 65504.0;

fn put_f16(values: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
}

/// A scale as f16, then 32 integers from -127 to 127 that it multiplies.
fn put_block(values: &[f32], bytes: &mut Vec<u8>) {
    let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    put_f16(&[scale], bytes);
    bytes.extend(values.iter().map(|x| ((x * inverse).round() as i8).cast_unsigned()));
}
