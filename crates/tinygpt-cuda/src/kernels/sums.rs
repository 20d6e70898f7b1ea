//! The second pass of sums over rows: `kernels/reduce.cu`.
#![expect(unsafe_code, reason = "launches, and the promise of `Plain`")]

use super::arguments::{count, values};
use super::variant::File;
use crate::{Buffer, CudaError, Gpu, Kernel, Plain, View, Work};

/// One sum over the rows of partial sums that another kernel left.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    /// `[rows, stride]` f32; the last row may end after its columns.
    pub partials: View,
    /// Rows.
    pub rows: usize,
    /// Values from one row to the next.
    pub stride: usize,
    /// `[columns]` f32: receives the sums of the first columns.
    pub out: View,
}

/// A table of sums in GPU memory, made once for a run.
#[derive(Debug)]
pub struct SumTable {
    jobs: Option<Buffer>,
    n_jobs: usize,
    widest: usize,
    /// Of the partial sums.
    bytes: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Job {
    partials: u64,
    out: u64,
    rows: u32,
    stride: u32,
    columns: u32,
    unused: u32,
}

// SAFETY: two u64 and four u32: no padding, and every bit pattern is a value.
unsafe impl Plain for Job {}

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    jobs: u64,
    accumulate: u32,
}

impl SumTable {
    /// Uploads the table.
    ///
    /// # Errors
    /// [`CudaError`] if the memory is not enough or the copy fails.
    ///
    /// # Panics
    /// If partial sums are shorter than their rows.
    pub fn new(gpu: &Gpu, sums: &[Sum]) -> Result<Self, CudaError> {
        let job = |sum: &Sum| {
            let columns = sum.out.len_of::<f32>();
            let needed = (sum.rows.max(1) - 1) * sum.stride + columns;
            assert!(
                sum.partials.len_of::<f32>() >= needed && columns <= sum.stride,
                "{} partial sums for {} rows of {columns} of {} columns",
                sum.partials.len_of::<f32>(),
                sum.rows,
                sum.stride
            );
            Job {
                partials: sum.partials.ptr(),
                out: sum.out.ptr(),
                rows: count(sum.rows, "rows of partial sums"),
                stride: count(sum.stride, "columns of partial sums"),
                columns: count(columns, "columns of a sum"),
                unused: 0,
            }
        };
        let table: Vec<Job> = sums.iter().map(job).collect();
        let bytes = table.iter().map(|job| 4 * job.rows as usize * job.columns as usize).sum();
        let widest = sums.iter().map(|sum| sum.out.len_of::<f32>()).max().unwrap_or(0);
        let jobs = if table.is_empty() { None } else { Some(gpu.alloc(size_of_val(&table[..]))?) };
        if let Some(jobs) = &jobs {
            gpu.upload(jobs.view(), &table)?;
        }
        Ok(Self { jobs, n_jobs: table.len(), widest, bytes })
    }
}

/// The kernel that adds up partial sums.
#[derive(Clone, Debug)]
pub struct Sums {
    kernel: Kernel,
}

impl Sums {
    pub(crate) fn file() -> File {
        (source!("reduce.cu", "device.cuh"), vec![])
    }

    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    pub fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        let (source, defines) = Self::file();
        let module = gpu.module(&source, &defines)?;
        Ok(Self { kernel: module.kernel("sum_partials", 256, 0)? })
    }

    /// Writes all sums of the table, or adds them with `accumulate`. The views of the table must still be
    /// allocated.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    pub fn run(&self, table: &SumTable, accumulate: bool) -> Result<(), CudaError> {
        let Some(jobs) = &table.jobs else { return Ok(()) };
        let args = Args {
            jobs: values::<Job>(jobs.view(), table.n_jobs, "a table of sums"),
            accumulate: u32::from(accumulate),
        };
        let grid = [table.widest.div_ceil(32) as u32, table.n_jobs as u32, 1];
        // SAFETY: the kernel's struct; `SumTable::new` has checked every length.
        unsafe { self.kernel.launch(grid, &args, Work::bytes(table.bytes)) }
    }
}
