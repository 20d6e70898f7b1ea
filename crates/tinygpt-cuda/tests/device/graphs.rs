//! Graphs: the same bits as launches one by one, and streams that survive a failed recording.

use tinygpt_cuda::{Compute, CudaError, Dtype, Epilogue, Gpu, Matmul, MatmulSpec, Operand, View};

use crate::{gpu, kernel, numbers};

/// A product into y, then `y = 2 y + 1`, then `x = y`.
fn step(
    plan: &Matmul,
    scale: &tinygpt_cuda::Kernel,
    gpu: &Gpu,
    x: View,
    y: View,
) -> Result<(), CudaError> {
    // SAFETY: three matrices of 16 x 16, and y is neither of the operands.
    unsafe { plan.run(x, x, y, None)? };
    kernel::launch(scale, y, y, 1.0)?;
    gpu.copy(x, y)
}

#[test]
fn a_graph_has_the_bits_of_its_launches() {
    let Some(gpu) = gpu() else { return };
    let square = Operand { dtype: Dtype::F32, transpose: false, ld: 16 };
    let spec = MatmulSpec {
        m: 16,
        n: 16,
        k: 16,
        a: square,
        b: Operand { transpose: true, ..square },
        d: square,
        accumulate: false,
        compute: Compute::F32,
        epilogue: Epilogue::None,
    };
    let plan = Matmul::plan(&gpu, &spec).unwrap();
    let scale = kernel::load(&gpu, 2).unwrap();
    let values: Vec<f32> = numbers(256, 3).iter().map(|x| x / 16.0).collect();
    let mut results = Vec::new();
    for with_graph in [false, true] {
        let (x, y) = (gpu.alloc(1024).unwrap(), gpu.alloc(1024).unwrap());
        gpu.upload(x.view(), &values).unwrap();
        let run = || step(&plan, &scale, &gpu, x.view(), y.view());
        if with_graph {
            let graph = gpu.capture(run).unwrap();
            let mut unchanged = vec![0.0f32; 256];
            gpu.download(x.view(), &mut unchanged).unwrap();
            assert!(unchanged == values, "recording has run the launches");
            for _ in 0..3 {
                graph.launch().unwrap();
            }
        } else {
            for _ in 0..3 {
                run().unwrap();
            }
        }
        let mut back = vec![0u32; 256];
        gpu.download(x.view(), &mut back).unwrap();
        results.push(back);
    }
    assert!(results[0] == results[1]);
    assert!(results[0].iter().all(|&bits| f32::from_bits(bits).is_finite()));
}

#[test]
fn a_graph_reads_memory_when_it_is_launched() {
    let Some(gpu) = gpu() else { return };
    let scale = kernel::load(&gpu, 3).unwrap();
    let (x, y) = (gpu.alloc(4).unwrap(), gpu.alloc(4).unwrap());
    let graph = gpu.capture(|| kernel::launch(&scale, y.view(), x.view(), 0.0)).unwrap();
    for value in [1.0f32, 5.0] {
        gpu.upload(x.view(), &[value]).unwrap();
        graph.launch().unwrap();
        let mut back = [0.0f32];
        gpu.download(y.view(), &mut back).unwrap();
        assert_eq!(back, [3.0 * value]);
    }
}

#[test]
fn copies_to_the_host_cannot_be_recorded_and_the_stream_works_afterwards() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.alloc(4).unwrap();
    let error = gpu.capture(|| gpu.upload(x.view(), &[1.0f32])).expect_err("an upload");
    assert!(matches!(error, CudaError::Call { call: "cuMemcpyHtoDAsync", .. }), "{error:?}");
    let error = gpu.capture(|| gpu.download(x.view(), &mut [0.0f32])).expect_err("a download");
    assert!(matches!(error, CudaError::Call { call: "cuMemcpyDtoHAsync", .. }), "{error:?}");

    // A panic ends the recording too.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        gpu.capture::<CudaError>(|| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    gpu.upload(x.view(), &[4.0f32]).unwrap();
    let mut back = [0.0f32];
    gpu.download(x.view(), &mut back).unwrap();
    assert_eq!(back, [4.0]);
}
