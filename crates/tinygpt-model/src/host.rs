//! Parameters on the CPU as plain slices: a read guard, and in-place write access.
//!
//! candle's `storage_mut` is private; an in-place op that carries a closure gives access to it.
//! Tensors of [`crate::Params`] never share a storage, so a write changes no other tensor. Tensors
//! on other devices are refused.

use std::cell::RefCell;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use crate::error::Result;

/// The values of a contiguous f32 tensor on the CPU; the tensor cannot be written while it lives.
pub struct HostSlice<'a> {
    guard: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for HostSlice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `read` accepts nothing else, and a storage never changes its kind.
            _ => &[],
        }
    }
}

/// Borrows the values of `tensor`.
///
/// # Errors
/// [`crate::ModelError::Tensor`] unless the tensor is contiguous, f32 and on the CPU.
pub fn read(tensor: &Tensor) -> Result<HostSlice<'_>> {
    let (guard, layout) = tensor.storage_and_layout();
    let range = contiguous_range(layout)?;
    match &*guard {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(HostSlice { guard, range }),
        Storage::Cpu(other) => Err(wrong_kind(&format!("{:?} on the CPU", dtype(other))).into()),
        _ => Err(wrong_kind("a tensor on another device").into()),
    }
}

/// Lets `work` change the values of `tensor` in place and returns what it returns.
///
/// # Errors
/// [`crate::ModelError::Tensor`] unless the tensor is contiguous, f32 and on the CPU.
pub fn write<R>(tensor: &Tensor, work: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let op = HostWrite { work: RefCell::new(Some(work)), result: RefCell::new(None) };
    tensor.inplace_op1(&op)?;
    op.result.into_inner().ok_or_else(|| wrong_kind("a tensor on another device").into())
}

struct HostWrite<F, R> {
    work: RefCell<Option<F>>,
    result: RefCell<Option<R>>,
}

impl<F: FnOnce(&mut [f32]) -> R, R> InplaceOp1 for HostWrite<F, R> {
    fn name(&self) -> &'static str {
        "host-write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let range = contiguous_range(layout)?;
        let values = match storage {
            CpuStorage::F32(values) => &mut values[range],
            other => return Err(wrong_kind(&format!("{:?}", dtype(other)))),
        };
        if let Some(work) = self.work.take() {
            self.result.replace(Some(work(values)));
        }
        Ok(())
    }
}

fn contiguous_range(layout: &Layout) -> candle_core::Result<Range<usize>> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| wrong_kind("a tensor with gaps"))?;
    Ok(start..end)
}

fn dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

fn wrong_kind(got: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("expected a contiguous f32 tensor on the CPU, got {got}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{DType, Device, Var};

    #[test]
    fn what_is_written_is_read_back() {
        let var = Var::from_vec(vec![1.0f32, 2.0, 3.0], 3, &Device::Cpu).unwrap();
        let sum = write(&var, |values| {
            values[1] = 5.0;
            values.iter().sum::<f32>()
        });
        assert_eq!(sum.unwrap(), 9.0);
        assert_eq!(&*read(&var).unwrap(), &[1.0, 5.0, 3.0]);
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, 5.0, 3.0]);
    }

    #[test]
    fn a_view_reaches_only_its_part_and_gaps_are_refused() {
        let tensor = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        assert_eq!(&*read(&tensor.get(1).unwrap()).unwrap(), &[3.0, 4.0, 5.0]);
        assert!(read(&tensor.t().unwrap()).is_err());
        assert!(write(&tensor.t().unwrap(), |_| ()).is_err());
    }

    #[test]
    fn another_dtype_is_refused() {
        let tensor = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
        assert!(read(&tensor).is_err());
        assert!(write(&tensor, |_| ()).is_err());
    }
}
