"""Writes a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): keys, tokenizer, tensors; matrices as Q8_0.

Q8_0 (ggml-common.h, block_q8_0): 32 weights of a row are an f16 scale d and 32 signed bytes q, weight = d * q.
"""
import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_F32, TENSOR_Q8_0 = 0, 8
ALIGNMENT = 32
NORMAL, CONTROL = 1, 3


def q8_0(rows):
    """float32 [rows][columns] -> bytes. d = absmax / 127 rounded to f16; q is rounded by the rounded d."""
    blocks = rows.reshape(-1, 32)
    d = (np.abs(blocks).max(1) / np.float32(127)).astype(np.float16)
    wide = d.astype(np.float32)
    inverse = np.divide(np.float32(1), wide, out=np.zeros_like(wide), where=wide > 0)
    q = np.clip(np.rint(blocks * inverse[:, None]), -127, 127).astype(np.int8)
    out = np.empty((len(blocks), 34), np.uint8)
    out[:, :2] = d.view(np.uint8).reshape(-1, 2)
    out[:, 2:] = q.view(np.uint8)
    return out.tobytes()


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def entry(key, kind, v):
    if isinstance(v, list):
        head = struct.pack("<IIQ", ARRAY, kind, len(v))
        return string(key) + head + b"".join(value(kind, x) for x in v)
    return string(key) + struct.pack("<I", kind) + value(kind, v)


def keys(s, tokenizer):
    rows = [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "Coffer Stories"),
        ("general.description", STRING, "simple stories; made by tests/train/train.py of Coffer"),
        ("general.license", STRING, "mit"),
        ("general.file_type", U32, 7),  # mostly Q8_0
        ("llama.context_length", U32, s.context),
        ("llama.embedding_length", U32, s.dim),
        ("llama.block_count", U32, s.layers),
        ("llama.feed_forward_length", U32, s.ffn),
        ("llama.attention.head_count", U32, s.heads),
        ("llama.attention.head_count_kv", U32, s.kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", F32, s.eps),
        ("llama.rope.dimension_count", U32, s.head),
        ("llama.rope.freq_base", F32, s.theta),
        ("llama.vocab_size", U32, s.vocab),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", STRING, tokenizer.tokens),
        ("tokenizer.ggml.token_type", I32, [CONTROL] + [NORMAL] * (len(tokenizer.tokens) - 1)),
        ("tokenizer.ggml.merges", STRING, [" ".join(pair) for pair in tokenizer.merges]),
        ("tokenizer.ggml.bos_token_id", U32, 0),
        ("tokenizer.ggml.eos_token_id", U32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
    ]
    return [entry(*row) for row in rows]


def write(path, shape, tokenizer, weights):
    """weights: name in torch -> float32, [rows][columns] or [n]; the names are GGUF's already."""
    assert len(tokenizer.tokens) == shape.vocab
    heads, bodies, at = [], [], 0
    for name, w in weights.items():
        matrix = w.ndim == 2
        body = q8_0(w) if matrix else w.tobytes()
        body += bytes(-len(body) % ALIGNMENT)
        dims = w.shape[::-1]
        heads.append(string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TENSOR_Q8_0 if matrix else TENSOR_F32, at))
        bodies.append(body)
        at += len(body)
    entries = keys(shape, tokenizer)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(heads), len(entries)) + b"".join(entries) + b"".join(heads)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGNMENT))
        for body in bodies:
            f.write(body)
