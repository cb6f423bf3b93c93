"""What the threads of a rank share, for the thread sanitizer: it sees the order of memory that the layers, the loader and
the exchanges make, whatever the bits are. Short: a few tokens on a small model, no two cases the same way through."""
import json
import os
import tempfile

import common

# ranks, options. The first is the reference; nine threads are more than there are heads.
CASES = [
    (1, "-t 2"),
    (1, "-t 9 --ubatch-size 7"),
    (2, "-t 2 --layout tensor --exchange window"),
    (2, "-t 2 --layout tensor --exchange messages --micro-batches 3 --ubatch-size 16"),
    (2, "-t 2 --layout layers --micro-batches 3 --ubatch-size 16"),
    (2, "-t 3 --layout domain --stats"),
    (1, ""),  # several teams, one after the other: how many is the planner's choice
]


def bench_without_a_file(a):
    """Threads of the loader make the weights themselves; generation for several sequences."""
    command = [a.coffer, "bench", "--synthetic", "llama-15m:q4_0"] + "-t 2 -p 20 -n 2 -b 3 -r 1 --ranks 1 -o json".split()
    assert json.loads(common.start(1, command, {"COFFER_TEST_READ_MIB": "16"}))["tests"]


a, clock = common.arguments(), common.Clock()
with tempfile.TemporaryDirectory() as a.models:
    common.synth(a.coffer, os.path.join(a.models, "s_q8_0.gguf"), common.MODELS["s_q8_0"])
    runs = common.Runs(a, "s_q8_0", 80, 512, n=4)
    for ranks, options in CASES:
        runs.check(ranks, *options.split())
bench_without_a_file(a)
print(f"{runs.count} runs, {clock}")
