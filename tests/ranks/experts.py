"""The cuts in which a file may have its experts: stacks of gate, up and down; gate and up in one stack (newer files of
llama.cpp's converter); a tensor for each (Mixtral before April 2024).

The same weights in another cut give the same ids and logits_xxh64 on every number of ranks and layout, experts sliced and
whole. What does not fit together is named."""
import os
import struct
import subprocess
import sys
import tempfile

import common

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import families  # noqa: E402
from gguf_file import DECODERS, Gguf  # noqa: E402

Q4_0 = 2
SHAPE = (256, 8, 2, 704, 352)
FEW = [(1, ()), (3, ("--layout", "tensor"))]
LAYOUTS = [(1, ()), (2, ("--layout", "tensor")), (3, ("--layout", "tensor")), (4, ("--layout", "hybrid", "--stages", "2")),
           (3, ("--layout", "layers")), (4, ("--layout", "domain"))]


def read(path):
    """(bytes of all keys with their number before them, {name: (shape, type, bytes)})"""
    gguf = Gguf(path)
    tensors = {}
    for name, (shape, kind, offset) in gguf.tensors.items():
        elements, size, _ = DECODERS[kind]
        n = size
        for length in shape:
            n *= length
        at = gguf.start + offset
        tensors[name] = list(shape), kind, gguf.data[at : at + n // elements].tobytes()
    first, last = gguf.keys_at
    return (len(gguf.keys), gguf.data[first:last].tobytes()), tensors


def write(path, keys, tensors):
    head, at = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), keys[0]) + keys[1], 0
    for name, (shape, kind, data) in tensors.items():
        head += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}QIQ", *reversed(shape), kind, at)
        at += len(data) + -len(data) % 32
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for _, _, data in tensors.values():
            f.write(data + bytes(-len(data) % 32))


def fused(tensors):
    """Each expert's gate, then its up."""
    out = {}
    for name, (shape, kind, data) in tensors.items():
        if ".ffn_up_exps." in name:
            continue
        if ".ffn_gate_exps." in name:
            up, n = tensors[name.replace("_gate_", "_up_")][2], len(data) // shape[0]
            assert tensors[name.replace("_gate_", "_up_")][1] == kind
            data = b"".join(data[i * n : i * n + n] + up[i * n : i * n + n] for i in range(shape[0]))
            shape, name = [shape[0], 2 * shape[1], *shape[2:]], name.replace("_gate_", "_gate_up_")
        out[name] = shape, kind, data
    return out


def single(tensors):
    """blk.0.ffn_up_exps.weight -> blk.0.ffn_up.0.weight, blk.0.ffn_up.1.weight, ..."""
    out = {}
    for name, (shape, kind, data) in tensors.items():
        if "_exps." not in name:
            out[name] = shape, kind, data
            continue
        n = len(data) // shape[0]
        for i in range(shape[0]):
            out[name.replace("_exps", f".{i}")] = shape[1:], kind, data[i * n : i * n + n]
    return out


def equal(a, family, kind, cut, folder, layouts=FEW):
    """Runs of the file as synth makes it, and of the same weights in another cut. Returns that one."""
    path, other = os.path.join(folder, "m.gguf"), os.path.join(folder, "other.gguf")
    common.synth(a.coffer, path, f"{families.options(family, *SHAPE)} --vocab 400 --ctx 4096 --layers 3 --type {kind}")
    keys, tensors = read(path)
    write(other, keys, cut(tensors))
    count = 0
    for always in ([], ["--experts", "whole"]):
        runs = common.Runs(a, path[: -len(".gguf")], 40, 400, n=4)
        runs.base += always
        runs.check(1, "-t", "2")
        runs.model = other[: -len(".gguf")]
        for ranks, options in FEW if a.quick or always else layouts:
            runs.check(ranks, "-t", "1", *options)
        count += runs.count
    print(f"{family} {kind}, {cut.__name__}: {count} runs equal, {clock}", flush=True)
    return keys, cut(tensors)


def refused(a, keys, tensors, folder, *words):
    path = os.path.join(folder, "wrong.gguf")
    write(path, keys, tensors)
    done = subprocess.run([a.coffer, "plan", "-m", path, "--ranks", "1"], capture_output=True, text=True)
    if done.returncode != 1 or not all(word in done.stderr for word in words):
        sys.exit(f"exit {done.returncode}, without {words}: {done.stderr}")


def wrong_files(a, keys, tensors, folder):
    """Of the file with a tensor for each expert: one is missing, of another type, or of another shape."""
    name = "blk.1.ffn_up.3.weight"
    shape, kind, data = tensors[name]
    less = {n: t for n, t in tensors.items() if n != name}
    refused(a, keys, less, folder, f"tensor {name} is missing")
    refused(a, keys, {**tensors, name: (shape, Q4_0, data)}, folder, name, "Q4_0", "blk.1.ffn_up.0.weight", "Q8_0")
    refused(a, keys, {**tensors, name: ([shape[0] // 2, shape[1]], kind, data)}, folder, name, "shape")


a, clock = common.arguments(), common.Clock()
with tempfile.TemporaryDirectory() as folder:
    keys, tensors = equal(a, "qwen3moe", "q8_0", fused, folder, LAYOUTS)
    bad = {n: ([s[0], s[1] // 2, *s[2:]], k, d) if "gate_up" in n else (s, k, d) for n, (s, k, d) in tensors.items()}
    refused(a, keys, bad, folder, "blk.0.ffn_gate_up_exps.weight", "shape")
    equal(a, "gpt-oss-mxfp4", "q8_0", fused, folder)  # with biases
    equal(a, "deepseek2", "q4_k", fused, folder)  # layers without experts, shared experts, groups
    wrong_files(a, *equal(a, "mixtral", "q8_0", single, folder), folder)
