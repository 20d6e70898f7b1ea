//! Compiles every kernel with NVIDIA's compiler and compares what it uses with a budget.
//!
//! Run by `.ci/check-kernels`, which brings the compiler: no GPU is needed. A kernel that uses more
//! registers, spills or shared memory than `kernels/budget.json` allows fails; a change that needs more is
//! made by `.ci/check-kernels write` and seen in the review.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "what was tested where, and tables")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use serde_json::{Value, json};
use tinygpt_cuda::kernels::attention::Attention;
use tinygpt_cuda::kernels::decode::Decode;
use tinygpt_cuda::kernels::{Kernels, Variant};
use tinygpt_cuda::{Compiler, Dtype, KernelSource, Search, options};

/// The architectures, with the bytes of shared memory that a block can have there: A100, consumer Ampere,
/// Ada, Hopper, consumer Blackwell.
const ARCHS: [(&str, u32); 5] = [
    ("sm_80", 166_912),
    ("sm_86", 101_376),
    ("sm_89", 101_376),
    ("sm_90", 232_448),
    ("sm_120", 101_376),
];

/// What a kernel uses: the most over all shapes and architectures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    /// Per thread.
    registers: u64,
    /// Bytes per thread that did not fit into registers, stored and loaded.
    spills: u64,
    /// Bytes per block, without dynamic shared memory.
    shared: u64,
}

impl Usage {
    fn most(self, other: Self) -> Self {
        Self {
            registers: self.registers.max(other.registers),
            spills: self.spills.max(other.spills),
            shared: self.shared.max(other.shared),
        }
    }
}

/// Reads the compiler's table: `--ptxas-options=-v`.
fn usages(log: &str) -> BTreeMap<String, Usage> {
    let mut usages: BTreeMap<String, Usage> = BTreeMap::new();
    let mut kernel = String::new();
    for line in log.lines() {
        if let Some((_, after)) = line.split_once("Compiling entry function '") {
            kernel = after.split('\'').next().unwrap().to_owned();
            usages.insert(kernel.clone(), Usage::default());
        }
        let number = |suffix: &str| {
            let (before, _) = line.split_once(suffix)?;
            before.rsplit([' ', ',']).find(|word| !word.is_empty())?.parse::<u64>().ok()
        };
        let Some(usage) = usages.get_mut(&kernel) else { continue };
        if let Some(stores) = number(" bytes spill stores") {
            usage.spills = stores + number(" bytes spill loads").unwrap();
        }
        if let Some(registers) = number(" registers") {
            usage.registers = registers;
            usage.shared = number(" bytes smem").unwrap_or(0);
        }
    }
    usages
}

#[test]
fn the_compilers_table_is_read() {
    let log = "ptxas info    : 0 bytes gmem\n\
        ptxas info    : Compiling entry function 'norm' for 'sm_90'\n\
        ptxas info    : Function properties for norm\n    \
        16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
        ptxas info    : Used 40 registers, used 1 barriers, 16 bytes smem, 400 bytes cmem[0]\n";
    let expected = Usage { registers: 40, spills: 20, shared: 16 };
    assert_eq!(usages(log), BTreeMap::from([("norm".to_owned(), expected)]));
}

fn kernels_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

type File = (KernelSource, Vec<(&'static str, u32)>);

/// The files of every kernel for the shapes of the benchmarks, in all types, each once.
fn files(max_shared_bytes: u32) -> Vec<File> {
    use Dtype::{Bf16, F32};
    let variant = |act, stream, n_embd, vocab_size| Variant { act, stream, n_embd, vocab_size };
    // GPT-2 124M in bf16 and the quickstart in f32: the widest rows and the narrowest.
    let gpt2 = variant(Bf16, Bf16, 768, 50_257);
    let quickstart = variant(F32, F32, 160, 3_072);
    let step = [gpt2, quickstart].into_iter().flat_map(Kernels::files);
    // Head dimension 64 is GPT-2's, 32 the quickstart's, and 128 needs the most registers.
    let bf16 = [(gpt2, 64, false), (gpt2, 128, false)];
    let f32 = [(quickstart, 32, false), (quickstart, 64, true)];
    let attention = bf16.into_iter().chain(f32).flat_map(|(variant, head_dim, tf32)| {
        [false, true].into_iter().flat_map(move |documents| {
            Attention::files(variant, head_dim, tf32, documents, max_shared_bytes)
        })
    });
    // One type: what decides is the number of accumulators, which is the same for both.
    let decode = Decode::files(gpt2, 64);
    let mut files: Vec<File> = Vec::new();
    for file in step.chain(attention).chain(decode) {
        if files.iter().all(|known| known.0.name != file.0.name || known.1 != file.1) {
            files.push(file);
        }
    }
    files
}

/// The name of a kernel in the budget: its file, itself and its type.
fn name(file: &File, kernel: &str) -> String {
    let is_bf16 = file.1.contains(&("ACT_BF16", 1));
    let dtype = if is_bf16 { "bf16" } else { "f32" };
    let documents = if file.1.contains(&("DOCUMENTS", 1)) { " documents" } else { "" };
    format!("{} {kernel} {dtype}{documents}", file.0.name)
}

/// Compiles a file with the table of registers in its log.
fn compile(compiler: &Compiler, (source, defines): &File, arch: &str) -> BTreeMap<String, Usage> {
    let mut options = options(arch, defines);
    options.push("--ptxas-options=-v".into());
    let compiled = compiler.compile(source, &options);
    let compiled = compiled
        .unwrap_or_else(|error| panic!("{} for {arch} with {defines:?}: {error}", source.name));
    usages(&compiled.log)
}

#[test]
#[ignore = "needs NVIDIA's compiler: .ci/check-kernels"]
fn kernels_stay_within_their_budget() {
    let compiler = Compiler::open(&Search::from_env()).unwrap();
    let tasks: Vec<(File, &str)> = ARCHS
        .iter()
        .flat_map(|(arch, shared)| files(*shared).into_iter().map(move |file| (file, *arch)))
        .collect();
    let next = AtomicUsize::new(0);
    let used: Mutex<BTreeMap<String, Usage>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((file, arch)) = tasks.get(next.fetch_add(1, Relaxed)) {
                    let found = compile(&compiler, file, arch);
                    let mut used = used.lock().unwrap();
                    for (kernel, usage) in found {
                        let most = used.entry(name(file, &kernel)).or_default();
                        *most = most.most(usage);
                    }
                }
            });
        }
    });
    let used = used.into_inner().unwrap();
    assert!(used.len() > 30, "only {} kernels were compiled", used.len());
    println!("{} files for {} architectures", tasks.len(), ARCHS.len());
    println!("{:<60} registers   spills   shared", "kernel");
    for (kernel, usage) in &used {
        println!("{kernel:<60} {:>9} {:>8} {:>8}", usage.registers, usage.spills, usage.shared);
    }
    let path = kernels_folder().join("budget.json");
    if env::var("TINYGPT_KERNEL_BUDGET").is_ok_and(|action| action == "write") {
        fs::write(path, to_json(&used)).unwrap();
        return;
    }
    let budget: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let faults = faults(&used, &budget);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// One kernel a line.
fn to_json(used: &BTreeMap<String, Usage>) -> String {
    let lines: Vec<String> = used
        .iter()
        .map(|(kernel, usage)| {
            let Usage { registers, spills, shared } = usage;
            let value = json!({ "registers": registers, "spills": spills, "shared": shared });
            format!("  {}: {value}", json!(kernel))
        })
        .collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// What is over the budget, missing in it, or in it and not compiled.
fn faults(used: &BTreeMap<String, Usage>, budget: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for (kernel, usage) in used {
        let Some(allowed) = budget.get(kernel) else {
            faults.push(format!("{kernel}: has no budget"));
            continue;
        };
        let counts =
            [("registers", usage.registers), ("spills", usage.spills), ("shared", usage.shared)];
        for (name, used) in counts {
            let most = allowed[name].as_u64().unwrap_or(0);
            if used > most {
                faults.push(format!("{kernel}: {used} {name}, at most {most}"));
            }
        }
    }
    let known = budget.as_object().unwrap().keys().filter(|kernel| !used.contains_key(*kernel));
    faults.extend(known.map(|kernel| format!("{kernel}: is in the budget, and no such kernel")));
    faults
}

#[test]
fn more_than_the_budget_is_a_fault() {
    let usage = Usage { registers: 40, spills: 0, shared: 16 };
    let used = BTreeMap::from([("a.cu f".to_owned(), usage)]);
    let budget = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert!(faults(&used, &budget(&to_json(&used))).is_empty());
    let less = budget(r#"{"a.cu f": {"registers": 39, "spills": 0, "shared": 16}}"#);
    assert_eq!(faults(&used, &less), ["a.cu f: 40 registers, at most 39"]);
    assert_eq!(faults(&used, &budget("{}")), ["a.cu f: has no budget"]);
    let other = budget(r#"{"a.cu f": {"registers": 40, "shared": 16}, "b.cu g": {}}"#);
    assert_eq!(faults(&used, &other), ["b.cu g: is in the budget, and no such kernel"]);
}
