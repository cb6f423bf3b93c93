#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_gguf: small GGUF files, good ones and one for each class of bad ones.

    tests/fuzz/make_corpus.py tests/fuzz/corpus/gguf

The same files come out every time. What the fuzzer finds later is added beside them under names of its own.
"""
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def u32(v):
    return struct.pack("<I", v & 0xFFFFFFFF)


def u64(v):
    return struct.pack("<Q", v & 0xFFFFFFFFFFFFFFFF)


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return u64(len(b)) + b


def value(key, kind, v):
    return text(key) + u32(kind) + (text(v) if kind == STRING else struct.pack("<" + FORMATS[kind], v))


def array(key, element, items, count=None):
    body = b"".join(text(x) if element == STRING else struct.pack("<" + FORMATS[element], x) for x in items)
    return text(key) + u32(ARRAY) + u32(element) + u64(len(items) if count is None else count) + body


def tensor(name, dims, kind, offset):
    return text(name) + u32(len(dims)) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


def gguf(values=(), tensors=(), data=0, version=3, magic=b"GGUF", n_values=None, n_tensors=None, align=32):
    b = magic + u32(version)
    b += u64(len(tensors) if n_tensors is None else n_tensors) + u64(len(values) if n_values is None else n_values)
    b += b"".join(values) + b"".join(tensors)
    if data:
        b += b"\0" * (-len(b) % align) + bytes(i % 251 for i in range(data))
    return b


def model():
    """A tiny model with the keys of a real one."""
    values = [value("general.architecture", STRING, "llama"), value("general.alignment", U32, 64),
              value("llama.block_count", U32, 1), value("llama.embedding_length", U32, 32),
              value("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), value("llama.rope.freq_base", F32, 1e4),
              array("tokenizer.ggml.tokens", STRING, ["<unk>", "<s>", "</s>", "\u2581a", ""]),
              array("tokenizer.ggml.scores", F32, [0, 0, 0, -1, -2]),
              array("tokenizer.ggml.token_type", I32, [2, 3, 3, 1, 1]), value("tokenizer.ggml.add_bos_token", BOOL, 1)]
    tensors, at = [], 0
    for name, dims, kind, size in [("token_embd.weight", [32, 5], 8, 170), ("blk.0.attn_norm.weight", [32], 0, 128),
                                   ("blk.0.ffn_up.weight", [32, 4], 2, 72), ("output_norm.weight", [32], 30, 64)]:
        tensors.append(tensor(name, dims, kind, at))
        at += (size + 63) // 64 * 64
    return gguf(values, tensors, data=at, align=64)


def files():
    one = tensor("t", [32, 2], 0, 0)
    k = value("k", U32, 1)
    yield "good-empty", gguf()
    yield "good-model", model()
    yield "good-version-2", gguf([k], [one], 256, version=2)
    yield "good-all-kinds", gguf([value("k%d" % i, i, "text" if i == STRING else 1) for i in range(13) if i != ARRAY] +
                                 [array("a%d" % i, i, ["x", "yz"] if i == STRING else [0, 1, 1]) for i in range(13) if i != ARRAY])
    yield "good-k-types", gguf([], [tensor("q4", [256], 12, 0), tensor("q5", [256], 13, 160), tensor("q6", [256], 14, 352),
                                    tensor("iq3", [256], 21, 576)], 704)
    yield "good-dims-4", gguf([], [tensor("t", [2, 3, 4, 5], 1, 0)], 240)
    yield "bad-magic", b"PK\3\4" + bytes(28)
    yield "bad-magic-big-endian", gguf(magic=b"FUGG")
    yield "bad-version-big-endian", gguf(version=0x03000000)
    yield "bad-version-1", gguf(version=1)
    yield "bad-tensor-count", gguf(n_tensors=2**61 + 1)
    yield "bad-value-count", gguf([k], n_values=2**63)
    yield "bad-zero-key", gguf([value("", U32, 1)])
    yield "bad-zero-key-37-bytes", gguf([value("", U8, 1)])
    yield "bad-nul-key", gguf([value(b"a\0b", U32, 1)])
    yield "bad-key-length-wraps", gguf(n_values=1) + u64(-8) + b"a" * 32
    yield "bad-kind", gguf([text("k") + u32(13) + u64(0)])
    yield "bad-element-kind", gguf([text("k") + u32(ARRAY) + u32(99) + u64(2**40)])
    yield "bad-nested-array", gguf([text("k") + u32(ARRAY) + u32(ARRAY) + u64(1) + u32(U8) + u64(0)])
    yield "bad-array-count", gguf([array("k", U64, [1], 2**61)])
    yield "bad-string-array-count", gguf([array("k", STRING, ["one", "two"], 3)])
    yield "bad-string-length", gguf([text("k") + u32(STRING) + u64(2**64 - 1)])
    yield "bad-bool", gguf([value("k", BOOL, 2)])
    yield "bad-key-twice", gguf([k, value("l", U8, 1), k])
    yield "bad-alignment-0", gguf([value("general.alignment", U32, 0)], [one], 256)
    yield "bad-alignment-48", gguf([value("general.alignment", U32, 48)], [one], 256)
    yield "bad-name-twice", gguf([], [one, tensor("t", [1], 0, 256)], 512)
    yield "bad-dims-0", gguf([], [tensor("t", [], 0, 0)], 64)
    yield "bad-dims-5", gguf([], [tensor("t", [1] * 5, 0, 0)], 64)
    yield "bad-dim-zero", gguf([], [tensor("t", [32, 0], 0, 0)], 64)
    yield "bad-product", gguf([], [tensor("t", [2**32, 2**32], 0, 0)], 64)
    yield "bad-row-bytes", gguf([], [tensor("t", [2**62], 28, 0)], 64)
    yield "bad-row-of-blocks", gguf([], [tensor("t", [33], 8, 0)], 64)
    yield "bad-type-retired", gguf([], [tensor("t", [32], 4, 0)], 64)
    yield "bad-type-unknown", gguf([], [tensor("t", [32], 4711, 0)], 64)
    yield "bad-offset-odd", gguf([], [tensor("t", [1], 0, 4)], 64)
    yield "bad-offset-wraps", gguf([], [tensor("t", [32], 0, 2**64 - 32)], 64)
    yield "bad-truncated-data", gguf([], [one], 255)
    yield "bad-truncated-table", gguf([k], [one])[:-5]
    yield "bad-overlap", gguf([], [one, tensor("u", [1], 0, 128)], 512)
    yield "bad-split", gguf([value("split.count", U16, 3), value("split.no", U16, 0), value("split.tensors.count", I32, 1)])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files():
        (folder / (name + ".gguf")).write_bytes(content)


main()
