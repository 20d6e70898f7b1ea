"""Checks and times the CUDA path on a machine with a GPU, Python and PyTorch, but no Rust.

    python bench/gpu.py pack FOLDER              builds the programs and collects them; needs cargo, no GPU
    python bench/gpu.py run FOLDER --out OUT     checks, measures, writes OUT/report.json and OUT/report.md
    python bench/gpu.py run FOLDER --out OUT --only checks profiles
    python bench/gpu.py run FOLDER --out OUT --dry-run --libraries DIR
                                                 the same in miniature over the emulator's libraries, to test this script

FOLDER holds everything, this script included: copy it to the machine with the GPU and run FOLDER/bench/gpu.py there.
The report is written after every part, so a run that is cut short loses only its last one. --minutes limits the whole:
what does not fit is reported as skipped, never left out. Nothing is imported here but the standard library.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_checks  # noqa: E402
import gpu_times  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = ["gpu.py", "gpu_checks.py", "gpu_times.py", "steps.py", "turns.py", "torch_step.py"]
# Their tests run on a real GPU with TINYGPT_TEST_CUDA=1.
TESTED = ["tinygpt-cuda", "tinygpt-model"]
# Tests that need no GPU.
OTHER_TESTS = {"absent", "budget"}
MOST_BYTES = 40 << 20


class Report:
    """What was found so far, written after every part."""

    def __init__(self, args):
        self.out, self.dry_run = pathlib.Path(args.out), args.dry_run
        self.end = time.monotonic() + 60 * args.minutes
        self.out.mkdir(parents=True, exist_ok=True)
        self.parts = {"machine": machine(), "dry_run": self.dry_run, "checks": [], "times": [], "profiles": [], "cpu": []}

    def seconds_left(self):
        return self.end - time.monotonic()

    def check(self, name, function, at_most):
        """Runs a check, which returns a text, or raises if it fails; records it."""
        start = time.monotonic()
        if self.seconds_left() < min(at_most, 20):
            return self.add("checks", {"name": name, "result": "skipped", "detail": "no time left", "seconds": 0.0})
        try:
            result, detail = "passed", function(min(at_most, self.seconds_left()))
        except gpu_checks.Skipped as reason:
            result, detail = "skipped", str(reason)
        except Exception as error:  # noqa: BLE001: whatever goes wrong belongs in the report
            result, detail = "FAILED", f"{type(error).__name__}: {error}"[-4000:]
        seconds = round(time.monotonic() - start, 1)
        self.add("checks", {"name": name, "result": result, "detail": detail, "seconds": seconds})

    def add(self, part, row):
        print(f"{part}: {json.dumps(row)}"[:300], file=sys.stderr, flush=True)
        self.parts[part].append(row)
        self.write()

    def write(self):
        (self.out / "report.json").write_text(json.dumps(self.parts, indent=1) + "\n")
        (self.out / "report.md").write_text("\n".join(self.markdown()) + "\n")

    def markdown(self):
        machine = self.parts["machine"]
        yield f"{machine['date']}: {machine['gpu']}; {machine['cpu']}, {machine['cores']} cores."
        if self.dry_run:
            yield "\n**Dry run over the emulator: no number here is a measurement.**"
        yield from ["", "| check | result | seconds | |", "|---|---|---|---|"]
        for check in self.parts["checks"]:
            detail = " ".join(check["detail"].split()).replace("|", "\\|")[:160]
            yield f"| {check['name']} | {check['result']} | {check['seconds']} | {detail} |"
        yield from gpu_times.tables(self.parts)

    def failed(self):
        return [check["name"] for check in self.parts["checks"] if check["result"] == "FAILED"]


def machine():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
    gpu = output(query) or "no nvidia-smi"
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    date = datetime.date.today().isoformat()
    return {"date": date, "gpu": gpu, "cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def output(command):
    """What a command prints; none if it is not there or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def pack(args):
    """Builds and collects into a folder that needs nothing else, and packs it."""
    folder = pathlib.Path(args.folder)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ["bin", "tests", "bench"]:
        (folder / name).mkdir(parents=True)
    common = ["--locked", "--profile", args.profile]
    for name, kind in [("train", "bin"), ("sample", "bin"), ("step", "example")]:
        take(built(["cargo", "build", "--workspace", f"--{kind}", name, *common]), folder / "bin")
    for package in TESTED:
        tests = built(["cargo", "test", "--no-run", "--package", package, "--tests", *common])
        tests = {name: path for name, path in tests.items() if name not in OTHER_TESTS}
        take(tests, folder / "tests", only=is_gpu_test)
    for script in SCRIPTS:
        shutil.copy(ROOT / "bench" / script, folder / "bench")
    shutil.copytree(ROOT / "config", folder / "config")
    # The dataset of the configurations here is generated by the program itself; its recipe is all that it needs.
    recipe = pathlib.Path("data/tiny_tales/dataset.json")
    if (ROOT / recipe).exists():
        (folder / recipe).parent.mkdir(parents=True)
        shutil.copy(ROOT / recipe, folder / recipe)
    archive = folder.with_name(folder.name + ".tar.xz")
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder, folder.name)
    size = archive.stat().st_size
    print(f"{archive}: {size / (1 << 20):.1f} MiB")
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES >> 20} MiB")


def built(command):
    """The executables that a cargo command builds, by name."""
    messages = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = {}
    for line in messages.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = message["executable"]
    return found


def is_gpu_test(path):
    """Whether a test binary has tests that look for a GPU."""
    return b"TINYGPT_TEST_CUDA" in pathlib.Path(path).read_bytes()


def take(programs, folder, only=lambda path: True):
    """Copies programs without their symbols."""
    for name, path in programs.items():
        if only(path):
            shutil.copy(path, folder / name)
            if shutil.which("strip"):
                subprocess.run(["strip", folder / name], check=True)


def run(args):
    report = Report(args)
    context = gpu_checks.Context(pathlib.Path(args.folder).resolve(), report.out.resolve(), args)
    wanted = args.only or ["checks", "times", "profiles", "cpu"]
    if "checks" in wanted:
        gpu_checks.run(report, context)
    if "times" in wanted:
        gpu_times.run_gpu(report, context)
    if "profiles" in wanted:
        gpu_times.run_profile(report, context)
    if "cpu" in wanted:
        gpu_times.run_cpu(report, context)
    report.write()
    print((report.out / "report.md").read_text())
    if report.failed():
        sys.exit("failed: " + ", ".join(report.failed()))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder")
    packing.add_argument("--profile", default="release", help="cargo profile")
    running = commands.add_parser("run")
    running.add_argument("folder")
    running.add_argument("--out", required=True)
    running.add_argument("--only", nargs="+", choices=["checks", "times", "profiles", "cpu"], help="only some parts")
    running.add_argument("--shapes", nargs="+", choices=gpu_times.SHAPES, help="only some shapes")
    running.add_argument("--minutes", type=float, default=8.0, help="the most that all parts take together")
    running.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    running.add_argument("--dry-run", action="store_true", help="in miniature, over the emulator")
    running.add_argument("--libraries", help="the folder with the emulator's libraries, for --dry-run")
    return parser.parse_args()


def main():
    args = arguments()
    if args.command == "pack":
        pack(args)
    else:
        run(args)


if __name__ == "__main__":
    main()
