"""Installs the programs that TinyGPT is compared with into bench/.peers, a separate virtual environment.

It is made on first use and filled with what the chosen sections ask for, at the newest version of the series named
here. llama-cpp-python is compiled when it is installed, which takes minutes and a C++ compiler.
"""

import os
import pathlib
import subprocess
import sys
import venv

FOLDER = pathlib.Path(__file__).resolve().parent / ".peers"

# The name for pip, and the name of the import.
PACKAGES = {
    "torch": ("torch>=2.8,<3", "torch"),
    "numpy": ("numpy>=2,<3", "numpy"),
    "transformers": ("transformers>=5,<6", "transformers"),
    "tokenizers": ("tokenizers>=0.22,<1", "tokenizers"),
    "pyarrow": ("pyarrow>=20,<30", "pyarrow"),
    "safetensors": ("safetensors>=0.5,<1", "safetensors"),
    "gguf": ("gguf>=0.17,<1", "gguf"),
    "llama-cpp-python": ("llama-cpp-python>=0.3.16,<0.4", "llama_cpp"),
}


def python_with(names, given=None):
    """A Python that can import the packages: the given one, or that of bench/.peers, filled as needed."""
    python = given or FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if given is None and not python.exists():
        venv.create(FOLDER, with_pip=True)
    missing = [name for name in names if not has(python, PACKAGES[name][1])]
    if missing and given is not None:
        sys.exit(f"{given} lacks {', '.join(missing)}: install them there, or leave --python out")
    if missing:
        print(f"installing {', '.join(missing)} into {FOLDER}", file=sys.stderr)
        command = [python, "-m", "pip", "install", "--quiet", *(PACKAGES[name][0] for name in missing)]
        subprocess.run(command, check=True)
    return python


def has(python, module):
    """Whether a module is installed; it is not imported."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def versions(python, names):
    """`name version` of each, for the sentence above the figures."""
    code = f"from importlib.metadata import version; print(', '.join(n + ' ' + version(n) for n in {list(names)!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
