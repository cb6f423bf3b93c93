"""Runs the program `sequences` (decode equals prefill, ==) for one type: ranks x layouts x threads, all with the same
hash of the reference logits."""
import os

import common

# ranks, layout, stages, threads, micro-batches (0: what the layout wants). Two threads share the spans of one KV head
# (attend.c), one thread walks them all, nine also divide its query heads.
ALWAYS = [(1, "tensor", 0, 1, 0), (1, "tensor", 0, 2, 0), (1, "tensor", 0, 9, 0), (2, "domain", 0, 1, 0), (3, "layers", 0, 1, 0)]
MORE = [(2, "tensor", 0, 1, 3), (3, "tensor", 0, 1, 0), (2, "layers", 0, 2, 5), (3, "domain", 0, 1, 4), (3, "hybrid", 2, 1, 3),
        (4, "hybrid", 2, 1, 0), (4, "layers", 0, 1, 6), (4, "domain", 0, 1, 3), (2, "tensor", 0, 2, 0)]

a, clock = common.arguments(), common.Clock()
model = os.path.join(a.models, f"s_{a.what}.gguf")
cases = ALWAYS + (MORE if a.what == "q8_0" else [])  # column splits of the other types: matrix.py
if a.quick:
    cases = [(1, "tensor", 0, 2, 0), (3, "hybrid", 2, 1, 3)] + ([(2, "domain", 0, 1, 0)] if a.what == "q8_0" else [])
hashes = {}
for ranks, layout, stages, threads, micro_batches in cases:
    command = [os.path.abspath(a.sequences), model, layout, str(stages), str(threads), str(micro_batches)] + (["short"] if a.quick else [])
    hashes[ranks, layout, stages, threads, micro_batches] = common.start(ranks, command).strip()
assert len(set(hashes.values())) == 1 and len(next(iter(hashes.values()))) == 16, hashes
print(f"{a.what}: {len(cases)} configurations equal, {clock}")
