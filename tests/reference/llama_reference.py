#!/usr/bin/python3
"""The llama architecture once more, in numpy and float32, from the published formulas: what `coffer` must come near to.

    llama_reference.py MODEL.gguf --ids 1,2,3 -o logits.f32 [--all]

Writes the logits after the last id (--all: after every id, [ids][vocabulary]) as float32; without -o it prints the five
highest of each row. It shares no code with coffer and knows nothing of chunks, lanes or rounded activations: weights are
multiplied as the file's format defines their values. No cache either: the whole prompt is one batch. Needs python3-numpy.

Sources: GGUF: ggml docs/gguf.md; block formats: ggml-common.h; model: Touvron et al. arXiv 2302.13971, grouped queries
arXiv 2305.13245, rope arXiv 2104.09864, YaRN arXiv 2309.00071 as llama.cpp computes it (rope_yarn).
"""
import argparse
import struct
import sys

import numpy as np

F32 = np.float32

# ---------------------------------------------------------------------------------------------------------------- GGUF

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


class Gguf:
    """keys: name -> value. tensor(name): float32, shaped [rows][columns], as the format defines the values."""

    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        self.at = 0
        if self.take(4) != b"GGUF":
            sys.exit(f"{path}: not a GGUF file")
        version, n_tensors, n_keys = self.number("<I"), self.number("<Q"), self.number("<Q")
        if version not in (2, 3):
            sys.exit(f"{path}: GGUF version {version}")
        self.keys = {}
        for _ in range(n_keys):
            name = self.string()
            self.keys[name] = self.value(self.number("<I"))
        self.tensors = {}
        for _ in range(n_tensors):
            name = self.string()
            shape = [self.number("<Q") for _ in range(self.number("<I"))]
            self.tensors[name] = (shape[::-1], self.number("<I"), self.number("<Q"))
        alignment = self.keys.get("general.alignment", 32)
        self.start = (self.at + alignment - 1) // alignment * alignment

    def take(self, n):
        self.at += n
        return self.data[self.at - n : self.at].tobytes()

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self):
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, n = self.number("<I"), self.number("<Q")
            return [self.value(inner) for _ in range(n)]
        return self.number(SCALARS[kind])

    def __contains__(self, name):
        return name in self.tensors

    def tensor(self, name):
        shape, kind, offset = self.tensors[name]
        if kind not in DECODERS:
            sys.exit(f"tensor {name}: type {kind} is not supported here")
        elements, size, decode = DECODERS[kind]
        n_blocks = int(np.prod(shape)) // elements
        start = self.start + offset
        blocks = self.data[start : start + n_blocks * size].reshape(n_blocks, size)
        return np.ascontiguousarray(decode(np.asarray(blocks)), F32).reshape(shape)


# Each decoder: blocks [n][bytes] -> values [n][elements].


def halves(b):
    return np.ascontiguousarray(b).view("<f2").astype(F32)


def f32(b):
    return np.ascontiguousarray(b).view("<f4")


def bf16(b):
    return (np.ascontiguousarray(b).view("<u2").astype(np.uint32) << 16).view(F32)


def q8_0(b):
    return halves(b[:, :2]) * b[:, 2:].view(np.int8).astype(F32)


def nibbles(b):
    """The low nibbles of each byte of the last axis, then the high ones."""
    return np.concatenate([b & 15, b >> 4], axis=-1)


def q4_0(b):
    return halves(b[:, :2]) * (nibbles(b[:, 2:]).astype(F32) - F32(8))


def scales_and_minima(b):
    """12 bytes -> eight scales and eight minima of 6 bits (get_scale_min_k4)."""
    low, mid, high = b[:, 0:4], b[:, 4:8], b[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=1)
    minima = np.concatenate([mid & 63, (high >> 4) | (mid >> 6 << 4)], axis=1)
    return scales.astype(F32), minima.astype(F32)


def with_scales_and_minima(b, q):
    """q: [n][8][32] unsigned quants of a block with d, dmin and packed scales in front."""
    scales, minima = scales_and_minima(b[:, 4:16])
    scale = halves(b[:, 0:2]) * scales
    minimum = halves(b[:, 2:4]) * minima
    return scale[:, :, None] * q.astype(F32) - minimum[:, :, None]


def q4_k(b):
    q = nibbles(b[:, 16:144].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return with_scales_and_minima(b, q)


def q5_k(b):
    fifth = b[:, 16:48]
    q = nibbles(b[:, 48:176].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    bits = np.stack([fifth >> i & 1 for i in range(8)], axis=1)
    return with_scales_and_minima(b, q | bits << 4)


def q6_k(b):
    low = nibbles(b[:, 0:128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    top = b[:, 128:192].reshape(-1, 2, 1, 32)
    high = np.concatenate([top >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    q = (low | high << 4).astype(F32) - F32(32)
    scales = b[:, 192:208].view(np.int8).astype(F32) * halves(b[:, 208:210])
    return q.reshape(-1, 16, 16) * scales[:, :, None]


# type number: elements per block, bytes per block, decoder
DECODERS = {
    0: (1, 4, f32),
    1: (1, 2, halves),
    2: (32, 18, q4_0),
    8: (32, 34, q8_0),
    12: (256, 144, q4_k),
    13: (256, 176, q5_k),
    14: (256, 210, q6_k),
    30: (1, 2, bf16),
}

# ---------------------------------------------------------------------------------------------------------------- rope


def rope_angles(gguf, key, n_dims, positions):
    """cos and sin, [positions][n_dims / 2], with YaRN's factor in them."""
    base = float(key("rope.freq_base", 10000.0))
    i = np.arange(n_dims // 2, dtype=np.float64)
    plain = base ** (-2.0 * i / n_dims)
    if "rope_freqs.weight" in gguf:
        plain = plain / gguf.tensor("rope_freqs.weight").reshape(-1).astype(np.float64)
    kind = key("rope.scaling.type", None)
    factor = float(key("rope.scaling.factor", 0.0))
    if kind is None and key("rope.scale_linear", None):  # the old key
        kind, factor = "linear", float(key("rope.scale_linear"))
    freq, mscale = plain, float(key("rope.scaling.attn_factor", 1.0))
    if kind in ("linear", "yarn") and factor:
        freq = plain / factor
    if kind == "yarn" and factor:
        context = key("rope.scaling.original_context_length", None) or key("context_length")
        fast = float(key("rope.scaling.yarn_beta_fast", 32.0))
        slow = float(key("rope.scaling.yarn_beta_slow", 1.0))
        extrapolate = float(key("rope.scaling.yarn_ext_factor", 1.0))

        def dim(turns):
            return n_dims * np.log(context / (turns * 2 * np.pi)) / (2 * np.log(base))

        first = max(0.0, np.floor(dim(fast)))
        last = min(n_dims - 1.0, np.ceil(dim(slow)))
        share = (1 - np.clip((i - first) / max(0.001, last - first), 0, 1)) * extrapolate
        freq = freq * (1 - share) + plain * share
        if extrapolate:
            mscale *= 1 + 0.1 * np.log(factor)
    angle = np.asarray(positions, np.float64)[:, None] * freq[None, :]
    return (np.cos(angle) * mscale).astype(F32), (np.sin(angle) * mscale).astype(F32)


def rotate(x, cos, sin):
    """x: [positions][heads][head size]; the first 2 * pairs components turn, pairs being (2i, 2i + 1)."""
    n = 2 * cos.shape[1]
    a, b = x[..., 0:n:2], x[..., 1:n:2]
    c, s = cos[:, None, :], sin[:, None, :]
    out = x.copy()
    out[..., 0:n:2] = a * c - b * s
    out[..., 1:n:2] = a * s + b * c
    return out


# --------------------------------------------------------------------------------------------------------------- model


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + F32(eps)) * weight


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    with np.errstate(over="ignore"):
        return x / (F32(1) + np.exp(-x))


def linear(gguf, x, name):
    """x times the transposed matrix name.weight, plus name.bias where the file has one."""
    y = x @ gguf.tensor(name + ".weight").T
    return y + gguf.tensor(name + ".bias") if name + ".bias" in gguf else y


def attention(q, k, v):
    """q: [n][heads][d_k], k: [n][kv heads][d_k], v: [n][kv heads][d_v] -> [n][heads * d_v], causal."""
    n, heads, d_k = q.shape
    group = heads // k.shape[1]
    future = np.triu(np.ones((n, n), bool), 1)
    out = np.empty((n, heads, v.shape[2]), F32)
    for h in range(heads):
        scores = q[:, h] @ k[:, h // group].T * F32(1 / np.sqrt(d_k))
        scores[future] = -np.inf
        out[:, h] = softmax(scores) @ v[:, h // group]
    return out.reshape(n, -1)


def logits_of(gguf, ids, every_position):
    architecture = gguf.keys.get("general.architecture")
    if architecture != "llama" or "blk.0.ffn_gate_inp.weight" in gguf:
        sys.exit(f"this reference knows the dense llama architecture, not {architecture}")

    def key(name, *default):
        return gguf.keys.get("llama." + name, *default)

    n_embd, heads = key("embedding_length"), key("attention.head_count")
    kv_heads = key("attention.head_count_kv", None) or heads
    d_k = key("attention.key_length", None) or n_embd // heads
    d_v = key("attention.value_length", None) or n_embd // heads
    eps = key("attention.layer_norm_rms_epsilon")
    n = len(ids)
    cos, sin = rope_angles(gguf, key, key("rope.dimension_count", None) or d_k, range(n))

    embedding = gguf.tensor("token_embd.weight")
    x = embedding[ids]
    for layer in range(key("block_count")):
        block = f"blk.{layer}."
        h = rms_norm(x, gguf.tensor(block + "attn_norm.weight"), eps)
        q = rotate(linear(gguf, h, block + "attn_q").reshape(n, heads, d_k), cos, sin)
        k = rotate(linear(gguf, h, block + "attn_k").reshape(n, kv_heads, d_k), cos, sin)
        v = linear(gguf, h, block + "attn_v").reshape(n, kv_heads, d_v)
        x = x + linear(gguf, attention(q, k, v), block + "attn_output")
        h = rms_norm(x, gguf.tensor(block + "ffn_norm.weight"), eps)
        up = silu(linear(gguf, h, block + "ffn_gate")) * linear(gguf, h, block + "ffn_up")
        x = x + linear(gguf, up, block + "ffn_down")
    if not every_position:
        x = x[-1:]
    x = rms_norm(x, gguf.tensor("output_norm.weight"), eps)
    return linear(gguf, x, "output") if "output.weight" in gguf else x @ embedding.T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--ids", required=True, help="token ids, separated by commas")
    parser.add_argument("-o", "--output", help="file for the logits, float32")
    parser.add_argument("--all", action="store_true", help="logits of every position, not of the last one only")
    arguments = parser.parse_args()
    logits = logits_of(Gguf(arguments.model), [int(i) for i in arguments.ids.split(",")], arguments.all)
    if arguments.output:
        logits.astype("<f4").tofile(arguments.output)
        return
    for row in logits:
        print(" ".join(f"{i}:{row[i]:.5f}" for i in np.argsort(-row, kind="stable")[:5]))


if __name__ == "__main__":
    main()
