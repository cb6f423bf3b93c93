"""KV types: with each, the same bits for every number of ranks, layout, number of threads, prefill chunk and instruction set;
near the logits of f16; less memory; prompt caches know theirs. Prints the error of the logits and the bytes."""
import json
import os
import subprocess
import sys
import tempfile

import common

WAYS = ((1, "-t 1"), (1, "-t 2 -ub 7"), (1, "-t 9"), (2, "--layout tensor -t 1"), (3, "--layout layers -t 1 -ub 16"), (3, "--layout domain -t 1"),
        (4, "--layout hybrid --stages 2 -t 1"))
BOUND = {"q8_0": 1e-3, "q4_0": 0.25}  # NMSE of the logits: a wrong scale or place gives 1 and more
a, clock = common.arguments(), common.Clock()


def logits(model, folder, *options):
    """All generated positions, teacher-forced by the same prompt."""
    dump = os.path.join(folder, "logits.f32")
    ids = ",".join(str(i * i % 500 + 3) for i in range(150))
    common.start(1, [a.coffer, "run", "-m", os.path.join(a.models, model + ".gguf"), "--prompt-ids", ids, "-n", "1", "--temp", "0",
                     "--ranks", "1", "--dump-logits", dump, *options])
    with open(dump, "rb") as f:
        return memoryview(f.read()).cast("f")


def errors(model, folder):
    want = logits(model, folder)
    for kind, bound in BOUND.items():
        got = logits(model, folder, "--kv-type", kind)
        nmse = sum((g - w)**2 for g, w in zip(got, want)) / sum(w * w for w in want)
        print(f"{model} {kind}: NMSE of the logits {nmse:.2e}")
        assert 0 < nmse < bound, (kind, nmse)
        assert bytes(logits(model, folder, "-ctk", kind, "-ctv", kind)) == bytes(got)


def memory(model, row=None):
    """row: numbers of a position in all layers, where they are known."""
    kv = {}
    for kind in ("f16", "q8_0", "q4_0"):
        out = common.start(1, [a.coffer, "plan", "-m", os.path.join(a.models, model + ".gguf"), "-c", "65536", "--kv-type", kind])
        lines = [line.split() for line in out.splitlines()]
        at = next(i for i, words in enumerate(lines) if words[:1] == ["rank"])
        kv[kind] = float(lines[at + 1][5])
    print(f"{model}: MiB of KV cache {kv}")
    assert abs(kv["q8_0"] / kv["f16"] - 34 / 64) < 0.01 and abs(kv["q4_0"] / kv["f16"] - 18 / 64) < 0.01, kv
    assert row is None or abs(kv["f16"] - row * 65536 * 2 / 2**20) < 0.1, (kv, row)


def caches(folder):
    path = os.path.join(folder, "cache")
    runs = common.Runs(a, "m_q4_k", 100, 600, n=4)
    runs.check(1, "--kv-type", "q8_0")
    runs.check(2, "--kv-type", "q8_0", "--prompt-cache", path, "--layout", "tensor")
    runs.check(3, "--kv-type", "q8_0", "--prompt-cache", path, "--layout", "layers")
    r = subprocess.run([a.coffer, "run", "-m", os.path.join(a.models, "m_q4_k.gguf"), "-p", "x", "--prompt-cache", path, "--ranks", "1"],
                       capture_output=True)
    assert r.returncode == 1 and b"a cache of another kind" in r.stderr, r
    return runs.count


def refused():
    for options, pattern in ((["--kv-type", "q5_1"], b"known: f16, q8_0, q4_0"), (["-ctk", "q8_0"], b"must be the same"),
                             (["-m", os.path.join(a.models, "odd.gguf"), "--kv-type", "q8_0"], b"multiple of 32")):
        r = subprocess.run([a.coffer, "run", "-m", os.path.join(a.models, "tiny.gguf"), "-p", "x", "--ranks", "1", *options], capture_output=True)
        assert r.returncode and pattern in r.stderr, r


count, seen = 0, set()
for kind in ("q8_0", "q4_0"):
    runs = common.Runs(a, "m_q4_k", 100, 600, n=6)
    for ranks, options in WAYS[:1] + WAYS[3:6] if a.quick else WAYS:
        runs.check(ranks, "--kv-type", kind, *options.split())
    for isa in common.isas(a)[:1 if a.quick else None]:
        runs.check(1, "--kv-type", kind, env={"COFFER_ISA": isa})
    count += runs.count
    seen.add(runs.reference[1])
assert len(seen) == 2, seen
for kind in ("f16", "q8_0"):  # values that begin the keys
    runs = common.Runs(a, "latent", 100, 600, n=6)
    for ranks, options in WAYS[1:2] + WAYS[3:4] + WAYS[5:6]:
        runs.check(ranks, "--kv-type", kind, *options.split())
    count += runs.count
with tempfile.TemporaryDirectory() as folder:
    errors("m_f32", folder)
    count += caches(folder)
memory("wide")
memory("latent", 3 * (64 + 32))  # the latent vector once, as key and as value, and the rotated part of the key
refused()
print(f"{count} runs equal, {clock}")
