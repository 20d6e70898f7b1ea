"""Texts for the measurements, made once in bench/.corpus: stories, and a text whose words do not repeat by copying.

A word cache looks too good on a text that repeats. So `mixed.txt` has, as far as they are to be had, the texts of some
of Debian's documentation packages (fetched with `apt-get download`, nothing is installed), cut into documents of a few
kilobytes, and between them stories of the embedded dataset; no document is in it twice. Documents end with a line
`<|endoftext|>`.
"""

import gzip
import html
import os
import pathlib
import re
import shutil
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent / ".corpus"
SEPARATOR = "\n<|endoftext|>\n"

PACKAGES = [
    "debian-handbook",
    "debian-policy",
    "developers-reference",
    "emacs-common",
    "git-doc",
    "octave-doc",
    "perl-doc",
    "postgresql-doc",
    "python3-doc",
    "python3.11-doc",
    "python3.13-doc",
    "r-doc-info",
    "sqlite3-doc",
    "texlive-latex-base-doc",
]

# Files without prose.
SKIPPED = (".svg", ".js", ".css", ".json", ".po", ".inv")
TAGS = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.DOTALL)


def stories(text_speed, n, name="stories.txt"):
    """A file of n stories of the embedded dataset."""
    path = FOLDER / name
    FOLDER.mkdir(exist_ok=True)
    if not path.exists():
        with open(path.with_suffix(".part"), "wb") as file:
            subprocess.run([text_speed, f'{{"task":"tales","n":{n}}}'], stdout=file, check=True)
        path.with_suffix(".part").rename(path)
    return path


def mixed(text_speed, limit):
    """The mixed text, at most `limit` bytes of documentation, and stories up to a third of the whole."""
    path = FOLDER / "mixed.txt"
    if path.exists():
        return path
    tales = stories(text_speed, 100_000, "tales.txt").read_text().split(SEPARATOR)
    seen, n_bytes, n_tales = set(), 0, 0
    with open(path.with_suffix(".part"), "w", encoding="utf-8", newline="") as file:
        for document in documentation():
            if n_bytes > limit or hash(document) in seen:
                continue
            seen.add(hash(document))
            n_bytes += file.write(document + SEPARATOR)
            while 3 * n_tales < n_bytes and tales:
                n_tales += file.write(tales.pop() + SEPARATOR)
        while tales and n_bytes == 0:
            file.write(tales.pop() + SEPARATOR)
    path.with_suffix(".part").rename(path)
    return path


def documentation():
    """The texts of the packages, in pieces that end between paragraphs."""
    for path in sorted(unpacked().rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        text = text_of(path)
        while text:
            end = text.find("\n\n", 4_000)
            piece, text = (text[:end], text[end:].lstrip("\n")) if end >= 0 else (text, "")
            yield piece


def text_of(path):
    """The text of a file without markup, or nothing if it is not text."""
    data, name = path.read_bytes(), path.name
    try:
        if name.endswith(".gz"):
            data, name = gzip.decompress(data), name[:-3]
        text = data.decode("utf-8")
    except (OSError, EOFError, ValueError):
        return ""
    if "\0" in text or name.endswith(SKIPPED):
        return ""
    if name.endswith((".html", ".htm")):
        text = html.unescape(TAGS.sub("", text))
    return text.replace("<|endoftext|>", "").strip()


def unpacked():
    """The folder of the packages' files; empty without apt."""
    folder = FOLDER / "debian"
    if folder.exists():
        return folder
    partial = FOLDER / "debian.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        print("apt-get not found: the mixed text has only stories", file=sys.stderr)
    else:
        for package in PACKAGES:
            # Not every release of Debian has all of them.
            subprocess.run(["apt-get", "download", package], cwd=partial, capture_output=True)
        for archive in sorted(partial.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive.name, "files"], cwd=partial, check=True)
            os.remove(archive)
    partial.rename(folder)
    return folder
