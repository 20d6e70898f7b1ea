//! The functions of the driver, of NVRTC and of cublasLt.

use std::process::Command;
use std::sync::OnceLock;

use crate::program::Program;

/// Messages are asked for inside the programs.
const QUIET: (&str, &str) = ("TINYGPT_EMULATOR_QUIET", "1");

fn program() -> Option<&'static Program> {
    static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::new("libraries", true)).as_ref()
}

fn passes(case: &str, environment: &[(&str, &str)]) {
    let Some(program) = program() else { return };
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

/// A library of the compiler, by its full path; none if it does not come with it.
fn library_of_compiler(name: &str) -> Option<String> {
    let compiler = tinygpt_cuda_emulator::compiler()?;
    let mut words = compiler.split_whitespace();
    let output = Command::new(words.next()?)
        .args(words)
        .arg(format!("-print-file-name={name}"))
        .output()
        .unwrap();
    let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    path.starts_with('/').then_some(path)
}

#[test]
fn the_thread_sanitizer_sees_races_in_any_order() {
    let Some(program) = program() else { return };
    let Some(sanitizer) = library_of_compiler("libtsan.so") else { return };
    let environment = [
        ("LD_PRELOAD", sanitizer.as_str()),
        ("TINYGPT_EMULATOR_CXXFLAGS", "-g -fsanitize=thread"),
        ("TSAN_OPTIONS", "exitcode=66"),
        QUIET,
    ];
    for right in ["0", "1", "2"] {
        program.passes(&["races", right], &environment);
    }
    for wrong in ["10", "11", "12", "13", "14", "15", "16"] {
        let run = program.run(&["races", wrong], &environment);
        assert_eq!(run.code, Some(66), "{wrong}: {run:#?}");
        assert!(
            run.stderr.contains("data race") && run.stderr.contains("test.cu:"),
            "{wrong}: {run:#?}"
        );
    }
}
