"""`prepare` of a dataset in several files from a server on this machine, with and without `--keep-downloads`.

    python bench/by_file.py FOLDER --tokenizer PATH [--runs 2]

FOLDER has parquet files, as write_parquet.py makes them. They are served as the hub serves `sample/10BT` of
`local/pages`. Both ways start without a file in the cache; a random 0.05% of the documents validates. The disk use is
that of the data and the cache, looked at every 0.2 s: the most beyond the shards is printed in units of the largest
file. Run it where nothing else runs.
"""

import argparse
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMIT = "0" * 39 + "1"
EVERY = 0.2


class Hub(http.server.BaseHTTPRequestHandler):
    """The three requests that a download needs."""

    protocol_version = "HTTP/1.1"
    files = {}

    def do_GET(self):
        path = urllib.parse.unquote(self.path.split("?")[0])
        if path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.files]
            body = json.dumps({"id": "local/pages", "sha": COMMIT, "siblings": siblings}).encode()
            self.answer(200, {"Content-Length": len(body)})
            self.wfile.write(body)
            return
        file, etag = self.files[path.split(f"/resolve/{COMMIT}/")[1]]
        size = file.stat().st_size
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(first), int(last or size - 1)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": last - first + 1}
        self.answer(206, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"})
        with open(file, "rb") as source:
            source.seek(first)
            left = last - first + 1
            while left > 0:
                chunk = source.read(min(left, 1 << 20))
                self.wfile.write(chunk)
                left -= len(chunk)

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_):
        pass


def disk_use(folder):
    """Bytes of the shards, and of everything else; links take none."""
    shards = others = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                size = 0 if os.path.islink(path) else os.stat(path).st_size
            except FileNotFoundError:
                continue
            if name.endswith(".bin"):
                shards += size
            else:
                others += size
    return shards, others


def prepare(binary, port, tokenizer, keeps, largest):
    """Seconds, the bytes of the shards, and the most bytes beyond them in units of the largest file."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="by_file-"))
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(folder / "hf")}
    command = [binary, "--source", "hub:local/pages/sample/10BT", "--data-dir", folder / "data"]
    command += ["--tokenizer", tokenizer, "--val-split", "random", "--val-fraction", "0.0005"]
    command += ["--keep-downloads", "true" if keeps else "false"]
    begin, most = time.time(), 0
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            most = max(most, disk_use(folder)[1])
            time.sleep(EVERY)
    seconds = time.time() - begin
    if process.returncode != 0:
        raise SystemExit((folder / "log").read_text(encoding="utf-8"))
    shards, _ = disk_use(folder)
    shutil.rmtree(folder)
    return seconds, shards, most / largest


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/prepare")
    args = parser.parse_args()
    files = sorted(args.folder.glob("*.parquet"))
    largest = max(file.stat().st_size for file in files)
    for number, file in enumerate(files):
        with open(file, "rb") as source:
            etag = hashlib.file_digest(source, "sha256").hexdigest()
        Hub.files[f"sample/10BT/{number:03}_00000.parquet"] = (file, etag)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    total = sum(file.stat().st_size for file in files)
    print(f"{len(files)} files, {total / 1e9:.2f} GB, the largest {largest / 1e6:.0f} MB")
    for run in range(args.runs):
        for keeps in (True, False):
            seconds, shards, most = prepare(args.binary, server.server_port, args.tokenizer, keeps, largest)
            kept = "kept" if keeps else "removed"
            print(f"run {run}, {kept:>7}: {seconds:6.1f} s, shards {shards / 1e9:.2f} GB, beyond them {most:.2f} files")


if __name__ == "__main__":
    main()
