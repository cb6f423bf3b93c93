"""GGUF files for the references: keys, tensors, and what the formats of their blocks mean, in numpy and float32.

It shares no code with coffer. Sources: ggml docs/gguf.md; the block formats: ggml-common.h; MXFP4: OCP Microscaling
Formats (MX) 1.0, whose E2M1 values ggml stores doubled."""
import struct
import sys

import numpy as np

F32 = np.float32
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
FLOATS = (0, 1, 30)  # types F32, F16, BF16


class Gguf:
    """keys: name -> value. tensor(name): float32, shaped [rows][columns] or [experts][rows][columns], as the format
    defines the values."""

    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        self.at = 0
        if self.take(4) != b"GGUF":
            sys.exit(f"{path}: not a GGUF file")
        version, n_tensors, n_keys = self.number("<I"), self.number("<Q"), self.number("<Q")
        if version not in (2, 3):
            sys.exit(f"{path}: GGUF version {version}")
        self.keys, begin = {}, self.at
        for _ in range(n_keys):
            name = self.string()
            self.keys[name] = self.value(self.number("<I"))
        self.keys_at = begin, self.at
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

    def quantised(self, name):
        return self.tensors[name][1] not in FLOATS

    def tensor(self, name):
        if name not in self.tensors:
            sys.exit(f"tensor {name} is missing")
        shape, kind, offset = self.tensors[name]
        if kind not in DECODERS:
            sys.exit(f"tensor {name}: type {kind} is not supported here")
        elements, size, decode = DECODERS[kind]
        n_blocks = int(np.prod(shape)) // elements
        start = self.start + offset
        blocks = self.data[start : start + n_blocks * size].reshape(n_blocks, size)
        return np.ascontiguousarray(decode(np.asarray(blocks)), F32).reshape(shape)


# Each decoder: blocks [n][bytes] -> values [n][elements], in any shape of that order.


def halves(b):
    return np.ascontiguousarray(b).view("<f2").astype(F32)


def f32(b):
    return np.ascontiguousarray(b).view("<f4")


def bf16(b):
    return (np.ascontiguousarray(b).view("<u2").astype(np.uint32) << 16).view(F32)


def nibbles(b):
    """The low nibbles of each byte of the last axis, then the high ones."""
    return np.concatenate([b & 15, b >> 4], axis=-1)


def fifth_bits(b):
    """Four bytes -> 32 bits, as values of 16."""
    word = np.ascontiguousarray(b).view("<u4")
    return (word >> np.arange(32, dtype=np.uint32) & 1) << 4


def q8_0(b):
    return halves(b[:, :2]) * b[:, 2:].view(np.int8).astype(F32)


def q4_0(b):
    return halves(b[:, :2]) * (nibbles(b[:, 2:]).astype(F32) - F32(8))


def q4_1(b):
    return halves(b[:, :2]) * nibbles(b[:, 4:]).astype(F32) + halves(b[:, 2:4])


def q5_0(b):
    return halves(b[:, :2]) * ((nibbles(b[:, 6:]) | fifth_bits(b[:, 2:6])).astype(F32) - F32(16))


def q5_1(b):
    return halves(b[:, :2]) * (nibbles(b[:, 8:]) | fifth_bits(b[:, 4:8])).astype(F32) + halves(b[:, 2:4])


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


def pairs_of_bits(b):
    """64 bytes -> [n][16][16] of 2 bits: halves of 32 bytes, each read at four shifts."""
    b = b.reshape(-1, 2, 1, 32)
    return np.concatenate([b >> shift & 3 for shift in (0, 2, 4, 6)], axis=2).reshape(-1, 16, 16)


def q2_k(b):
    scale = halves(b[:, 80:82]) * (b[:, 0:16] & 15).astype(F32)
    minimum = halves(b[:, 82:84]) * (b[:, 0:16] >> 4).astype(F32)
    return scale[:, :, None] * pairs_of_bits(b[:, 16:80]).astype(F32) - minimum[:, :, None]


def q3_k(b):
    third = np.stack([b[:, 0:32] >> i & 1 for i in range(8)], axis=1).reshape(-1, 16, 16)
    q = (pairs_of_bits(b[:, 32:96]) | third << 2).astype(F32) - F32(4)
    low = nibbles(b[:, 96:104])
    high = np.concatenate([b[:, 104:108] >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    scales = ((low | high << 4).astype(F32) - F32(32)) * halves(b[:, 108:110])
    return q * scales[:, :, None]


IQ4_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], F32)
E2M1_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], F32)


def iq4_nl(b):
    return halves(b[:, :2]) * IQ4_VALUES[nibbles(b[:, 2:])]


def iq4_xs(b):
    low = np.stack([b[:, 4:8] & 15, b[:, 4:8] >> 4], axis=2).reshape(-1, 8)
    high = np.ascontiguousarray(b[:, 2:4]).view("<u2") >> (2 * np.arange(8, dtype=np.uint16)) & 3
    scales = halves(b[:, :2]) * ((low | high << 4).astype(F32) - F32(32))
    return IQ4_VALUES[nibbles(b[:, 8:].reshape(-1, 8, 16))] * scales[:, :, None]


def mxfp4(b):
    return np.ldexp(E2M1_VALUES[nibbles(b[:, 1:])], b[:, :1].astype(np.int32) - 128)


# type number: elements per block, bytes per block, decoder
DECODERS = {
    0: (1, 4, f32),
    1: (1, 2, halves),
    2: (32, 18, q4_0),
    3: (32, 20, q4_1),
    6: (32, 22, q5_0),
    7: (32, 24, q5_1),
    8: (32, 34, q8_0),
    10: (256, 84, q2_k),
    11: (256, 110, q3_k),
    12: (256, 144, q4_k),
    13: (256, 176, q5_k),
    14: (256, 210, q6_k),
    20: (32, 18, iq4_nl),
    23: (256, 136, iq4_xs),
    30: (1, 2, bf16),
    39: (32, 17, mxfp4),
}
