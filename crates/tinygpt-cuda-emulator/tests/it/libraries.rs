//! The functions of the driver, of NVRTC and of cublasLt.

use std::sync::OnceLock;

use crate::program::Program;

/// Messages are asked for inside the programs.
const QUIET: (&str, &str) = ("TINYGPT_EMULATOR_QUIET", "1");

fn passes(case: &str, environment: &[(&str, &str)]) {
    static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
    let Some(program) = PROGRAM.get_or_init(|| Program::new("libraries", true)) else { return };
    program.passes(&[case], &[environment, &[QUIET]].concat());
}

fn product_passes(case: &str) {
    static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
    let Some(program) = PROGRAM.get_or_init(|| Program::new("products", true)) else { return };
    program.passes(&[case], &[QUIET]);
}

#[test]
fn a_launch_copies_its_arguments_and_keeps_to_the_limits() {
    passes("launches", &[]);
}

#[test]
fn a_test_sets_the_order_of_its_launches() {
    passes("orders", &[]);
}

#[test]
fn compile_errors_are_those_of_the_compiler() {
    passes("compile_errors", &[]);
}

#[test]
fn memory_is_poisoned_limited_and_checked() {
    passes("memory", &[("TINYGPT_EMULATOR_MEMORY", "4000000")]);
}

#[test]
fn a_kernel_out_of_bounds_fails_alone() {
    passes("kernels_out_of_bounds", &[]);
}

#[test]
fn a_graph_replays_what_was_captured() {
    passes("graphs", &[]);
}

#[test]
fn handles_belong_to_a_context_and_die_once() {
    passes("handles", &[]);
}

#[test]
fn calls_fail_where_they_are_asked_to() {
    passes("faults", &[("TINYGPT_EMULATOR_FAIL", "cuMemAlloc_v2:3,cuLaunchKernel:2:700")]);
}

#[test]
fn late_streams_show_a_missing_wait() {
    passes("late", &[("TINYGPT_EMULATOR_LATE", "1")]);
}

#[test]
fn products_equal_a_plain_sum() {
    product_passes("combinations");
}

#[test]
fn products_that_cannot_be_are_refused() {
    product_passes("refusals");
}
