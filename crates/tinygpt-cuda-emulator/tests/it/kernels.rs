//! Kernels of one rule each, in several orders of threads.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use crate::program::{ORDERS, Program};

fn program() -> Option<&'static Program> {
    static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::new("kernels", false)).as_ref()
}

fn passes_in_every_order(case: &str) {
    let Some(program) = program() else { return };
    for order in ORDERS {
        program.passes(&[case], &[("TINYGPT_EMULATOR_ORDER", order)]);
    }
}

#[test]
fn mma_equals_a_plain_product() {
    passes_in_every_order("products");
}

#[test]
fn mma_drops_the_bits_that_tf32_lacks() {
    passes_in_every_order("not_rounded");
}

#[test]
fn ldmatrix_gives_each_lane_its_elements() {
    passes_in_every_order("ldmatrix");
}

#[test]
fn shuffles_and_votes_follow_their_masks() {
    passes_in_every_order("warps");
}

#[test]
fn copies_are_poison_until_their_own_wait() {
    passes_in_every_order("copies");
}

#[test]
fn shared_memory_starts_as_poison_in_every_block() {
    passes_in_every_order("unwritten");
}

/// Results of the neighbour sum in every order, with 1 and 2 threads of the host.
fn neighbours(with_barrier: &str) -> Option<BTreeSet<String>> {
    let program = program()?;
    let runs = ORDERS.iter().flat_map(|order| ["1", "2"].map(|threads| (order, threads)));
    let results = runs.map(|(order, threads)| {
        let environment =
            [("TINYGPT_EMULATOR_ORDER", *order), ("TINYGPT_EMULATOR_THREADS", threads)];
        program.run(&["neighbours", with_barrier], &environment).stdout
    });
    Some(results.collect())
}

#[test]
fn a_missing_barrier_changes_the_bits() {
    let Some(right) = neighbours("1") else { return };
    assert_eq!(right.len(), 1, "{right:?}");
    let wrong = neighbours("0").unwrap();
    assert!(wrong.len() > 1 && wrong.is_disjoint(&right), "{wrong:?}");
}

/// The message of a kernel that fails, the same in every order but for the thread it names.
fn fails_with(arguments: &[&str], parts: &[&str]) {
    let Some(program) = program() else { return };
    for order in ORDERS {
        let run = program.run(arguments, &[("TINYGPT_EMULATOR_ORDER", order)]);
        assert_eq!(run.code, Some(1), "{order}: {run:#?}");
        for part in parts {
            assert!(run.stderr.contains(part), "{order}: {part} is not in {run:#?}");
        }
    }
}

#[test]
fn a_deadlock_names_the_places() {
    fails_with(&["wrong", "0"], &["kernel wrong, block (", "thread (", "kernels.cpp:"]);
    fails_with(
        &["wrong", "0"],
        &["deadlock", "for lanes ffffffff of their warp", "(__syncthreads)"],
    );
}

#[test]
fn different_barriers_are_reported() {
    fails_with(&["wrong", "1"], &["different barriers", "kernels.cpp:"]);
}

#[test]
fn a_barrier_that_a_thread_never_reaches_is_reported() {
    fails_with(&["wrong", "2"], &["__syncthreads", "return"]);
}

#[test]
fn addresses_out_of_bounds_are_reported() {
    fails_with(
        &["wrong", "3"],
        &["0 bytes past the end of the 256 bytes of dynamic shared memory"],
    );
    fails_with(&["wrong", "4"], &["an address out of bounds: 0x"]);
    fails_with(&["wrong", "13"], &["wrote before the 256 bytes of dynamic shared memory"]);
    fails_with(&["wrong", "12"], &["wrote past the 257 bytes of dynamic shared memory"]);
}

#[test]
fn a_full_stack_a_division_by_zero_and_an_abort_end_the_launch_only() {
    fails_with(&["wrong", "5"], &["its stack (128 KiB) is full"]);
    fails_with(&["wrong", "6"], &["an integer division by zero"]);
    fails_with(&["wrong", "7"], &["abort"]);
}

#[test]
fn misuse_of_an_instruction_is_reported() {
    fails_with(&["wrong", "8"], &["is not aligned to 16 bytes"]);
    fails_with(&["wrong", "9"], &["the mask 0000000f does not name the calling lane"]);
    fails_with(
        &["wrong", "10"],
        &["mma_bf16 needs all 32 lanes of the warp, these came: 7fffffff"],
    );
    fails_with(&["wrong", "11"], &["cp_async16: the target", "is not in shared memory"]);
    fails_with(&["ldmatrix_wrong", "4"], &["ldmatrix: the row", "is not in shared memory"]);
    fails_with(&["ldmatrix_wrong", "5"], &["ldmatrix: the row", "is not aligned to 16 bytes"]);
}

#[test]
fn blocks_and_arguments_are_those_of_the_declaration() {
    fails_with(&["too_many_threads"], &["65 threads, but it is declared for 64"]);
    fails_with(&["wrong_arguments"], &["kernel warps takes 24 bytes of arguments, got 160"]);
}

#[test]
fn an_order_that_does_not_exist_is_refused() {
    let Some(program) = program() else { return };
    let run = program.run(&["warps"], &[("TINYGPT_EMULATOR_ORDER", "sideways")]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("use up, down or shuffled:<seed>"), "{run:?}");
}
