"""Measures TinyGPT and other programs in alternation and writes the tables of docs/bench.md.

    python bench/run.py                          every section; installs the peers into bench/.peers first
    python bench/run.py steps                    one of them
    python bench/run.py steps --shapes char c384 some of its shapes, shown but not written
    python bench/run.py --python PATH            with a Python that has the peers already
    python bench/run.py steps --help             what can be chosen

Each section is a module in this folder and rewrites its own region of docs/bench.md. Needs Python 3.9 and cargo;
nothing is imported here but the standard library.

A section offers
    NAME                   what it is called here and in the marks of docs/bench.md
    PEERS                  the packages it needs, keys of peers.PACKAGES
    add_arguments(parser)  adds its own flags, no name of another section's
    run(context)           measures and returns the lines of Markdown for its region; context is the class below
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import platform
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import data  # noqa: E402
import decode  # noqa: E402
import peers  # noqa: E402
import serving  # noqa: E402
import steps  # noqa: E402
import turns  # noqa: E402

SECTIONS = {section.NAME: section for section in [steps, decode, serving, data]}
PAGE = turns.ROOT / "docs" / "bench.md"


@dataclasses.dataclass
class Context:
    """The arguments of a section."""

    args: argparse.Namespace
    python: pathlib.Path
    section: object
    # A section with only some of its shapes sets this to False: its table is printed, not written.
    complete: bool = True

    def build(self, name, kind="example"):
        """Builds an example or a program of TinyGPT in the chosen profile and returns its path."""
        return turns.build(name, self.args.profile, kind)

    def machine(self):
        """What the figures depend on, in a sentence."""
        rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        return (
            f"{datetime.date.today()}: {processor()}, {os.cpu_count()} cores, {platform.system()}; {self.args.threads} "
            f"threads, profile `{self.args.profile}`, {rustc}; {peers.versions(self.python, self.section.PEERS)}; "
            f"{self.args.turns} turns each; load before the start {load:.1f}."
        )


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write(name, lines):
    """Writes the lines between the markers of the section."""
    begin, end = f"<!-- {name}: bench/run.py writes from here -->", f"<!-- {name}: to here -->"
    before, rest = PAGE.read_text().split(begin)
    after = rest.split(end)[1]
    PAGE.write_text("\n".join([before + begin, "", *lines, "", end]) + after)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; default: all")
    parser.add_argument("--python", help="a Python with the other programs, instead of bench/.peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--profile", default="dev", help="cargo profile; dev is what `cargo run` uses")
    parser.add_argument("--print", action="store_true", help="do not change docs/bench.md")
    for section in SECTIONS.values():
        section.add_arguments(parser.add_argument_group(section.NAME))
    args = parser.parse_args()
    unknown = set(args.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}, expected {', '.join(SECTIONS)}")
    return args


def main():
    args = arguments()
    for name, section in SECTIONS.items():
        if args.sections and name not in args.sections:
            continue
        python = peers.python_with(section.PEERS, args.python)
        context = Context(args, python, section)
        lines = section.run(context)
        print("\n".join([f"## {name}", "", *lines]))
        if context.complete and not args.print:
            write(name, lines)


if __name__ == "__main__":
    main()
