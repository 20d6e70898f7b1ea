//! Sums of partial sums.

use crate::common::{Array, assert_close, noise, on_gpu, refusal};
use tinygpt_cuda::Dtype::F32;
use tinygpt_cuda::kernels::sums::{Sum, SumTable, Sums};

#[test]
fn one_launch_makes_all_sums_of_a_table() {
    on_gpu(|gpu| {
        let kernel = Sums::load(gpu).unwrap();
        // Rows, columns, values from row to row.
        let shapes = [(1, 8, 8), (3, 40, 120), (9, 33, 33), (260, 1, 2)];
        let values: Vec<Vec<f32>> = shapes
            .iter()
            .zip(1..)
            .map(|(&(rows, _, stride), seed)| noise(rows * stride, seed, F32))
            .collect();
        let partials: Vec<Array> =
            values.iter().map(|values| Array::new(gpu, F32, values)).collect();
        let outs: Vec<Array> =
            shapes.iter().map(|&(_, columns, _)| Array::poisoned(gpu, F32, columns)).collect();
        let sums: Vec<Sum> = shapes
            .iter()
            .zip(partials.iter().zip(&outs))
            .map(|(&(rows, _, stride), (partials, out))| Sum {
                partials: partials.view(),
                rows,
                stride,
                out: out.view(),
            })
            .collect();
        let table = SumTable::new(gpu, &sums).unwrap();
        for (accumulate, times) in [(false, 1.0), (true, 2.0)] {
            kernel.run(&table, accumulate).unwrap();
            for ((&(rows, columns, stride), values), out) in shapes.iter().zip(&values).zip(&outs) {
                let column = |j: usize| -> f32 { (0..rows).map(|i| values[i * stride + j]).sum() };
                let expected: Vec<f32> = (0..columns).map(|j| times * column(j)).collect();
                assert_close(&out.read(gpu), &expected, F32, &format!("[{rows}, {columns}]"));
            }
        }
        outs
    });
}

#[test]
fn an_empty_table_launches_nothing() {
    on_gpu(|gpu| {
        let table = SumTable::new(gpu, &[]).unwrap();
        Sums::load(gpu).unwrap().run(&table, false).unwrap();
        vec![]
    });
}

#[test]
fn short_partial_sums_are_refused() {
    on_gpu(|gpu| {
        let (partials, out) = (Array::poisoned(gpu, F32, 10), Array::poisoned(gpu, F32, 6));
        let sum = Sum { partials: partials.view(), rows: 2, stride: 6, out: out.view() };
        let message = refusal(|| SumTable::new(gpu, &[sum]));
        assert_eq!(message, "10 partial sums for 2 rows of 6 of 6 columns");
        vec![]
    });
}
