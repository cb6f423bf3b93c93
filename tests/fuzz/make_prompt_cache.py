#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_prompt_cache from a prompt cache that `coffer run` has written: the file itself, and one
for each class of bad ones.

    coffer run -m MODEL -p "Once upon a time" -n 1 --prompt-cache FILE
    tests/fuzz/make_prompt_cache.py FILE tests/fuzz/corpus/prompt_cache
"""
import pathlib
import struct
import sys

N_TOKENS, N_PAGES, PAGE_BYTES, PAGE = 72, 76, 40, 68  # offsets of fields in the head


def put(data, at, form, value):
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form):]


def main():
    good, folder = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "good": good, "empty": b"", "text": b"no cache at all\n" * 20, "cut-in-head": good[:100], "cut-in-tables": good[:140],
        "cut-in-pages": good[:-1], "longer": good + b"\0", "version": put(good, 8, "<I", 99), "page-0": put(good, PAGE, "<I", 0),
        "tokens-many": put(good, N_TOKENS, "<I", 0xFFFFFFFF), "tokens-0": put(good, N_TOKENS, "<I", 0),
        "pages-many": put(good, N_PAGES, "<I", 0xFFFFFFFF), "page-bytes-huge": put(good, PAGE_BYTES, "<Q", 1 << 63),
        "hash": put(good, 120, "<Q", 1), "token": put(good, 136, "<I", 77),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)


main()
