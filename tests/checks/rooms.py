#!/usr/bin/env python3
"""rooms.py ROOT: no file includes a room to its right (proto <- transport <- node <- coordinator), and each foreign
header is included by its own room only. Tests are outside the rooms."""
import re
import sys

from tree import files, lines, verdict

ROOMS = ["proto", "transport", "node", "coordinator"]
OWNERS = [
    (re.compile(r"(mpi|mpi-ext|mpio)\.h$"), "transport"),
    (re.compile(r"(numa|numaif|hwloc|cblas|openblas_config|lapacke)\.h$|hwloc/"), "node"),
    (re.compile(r"([a-z0-9]*intrin|arm_neon|arm_sve|arm_sme|arm_acle|arm_bf16|arm_fp16|cpuid|altivec|riscv_vector)\.h$"), "node"),
]
INCLUDE = re.compile(r'^\s*#\s*(?:include|include_next|import)\s*(?:(["<])([^">]+)[">]|(.*))')


def wrong(room, quote, header):
    first = header.split("/")[0]
    if ".." in header.split("/"):
        return "includes are written from the root, without '..'"
    if first in ROOMS and "/" in header:
        return f"{room} does not know {first}" if ROOMS.index(first) > ROOMS.index(room) else None
    for pattern, owner in OWNERS:
        if pattern.match(header) and room != owner:
            return f"only {owner}/ includes it"
    if quote == '"' and "/" not in header and not header.endswith(".pb-c.h"):
        return "a header of ours is named from the root: \"room/header.h\""
    return None


def main():
    root, found, seen = sys.argv[1], [], 0
    for name in files(root):
        room = name.split("/")[0]
        if room not in ROOMS or not name.endswith((".c", ".h", ".inc")):
            continue
        for number, line in lines(root, name):
            match = INCLUDE.match(line)
            if not match:
                continue
            seen += 1
            quote, header, other = match.groups()
            why = "an include through a macro hides what it includes" if other is not None else wrong(room, quote, header)
            if why:
                found.append(f"{name}:{number}: {line.strip()}: {why}")
    return verdict("includes", seen, found)


sys.exit(main())
