"""Writes documents into a parquet file like those on the hub: one column, snappy, 1,000 rows per group.

    python bench/write_parquet.py TARGET BYTES TEXT...

The last text is taken again and again until there are that many bytes. Needs pyarrow.
"""

import sys

import pyarrow
import pyarrow.parquet

SEPARATOR = "\n<|endoftext|>\n"
GROUP = 1_000


def documents(n_bytes, paths):
    for path in paths:
        with open(path, encoding="utf-8", newline="") as file:
            texts = [text for text in file.read().split(SEPARATOR) if text]
        is_last = path == paths[-1]
        while texts:
            for text in texts:
                n_bytes -= len(text.encode())
                if n_bytes < 0:
                    return
                yield text
            if not is_last:
                break


def main():
    target, n_bytes, *paths = sys.argv[1:]
    schema = pyarrow.schema([("text", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(target, schema, compression="snappy") as writer:
        rows = []
        for text in documents(float(n_bytes), paths):
            rows.append(text)
            if len(rows) == GROUP:
                writer.write_table(pyarrow.table({"text": rows}, schema))
                rows = []
        writer.write_table(pyarrow.table({"text": rows}, schema))


if __name__ == "__main__":
    main()
