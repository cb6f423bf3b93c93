#!/usr/bin/python3
"""How well a model foretells stories that it was never trained on: measure.py MODEL.gguf [STORIES.txt]

Reads the file itself, quantised as it is, and multiplies in numpy (tests/reference), so neither torch nor coffer take part.
STORIES.txt (default heldout.txt) has one story per line; each is read alone, behind the token that begins a text, and every
token of it and the end that follows count. Prints nats per token and the perplexity, which is e to that power."""
import math
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "reference")]

import bpe
from architectures import Model
from gguf_file import Gguf


def tokenizer_of(file):
    return bpe.Tokenizer([tuple(merge.split(" ")) for merge in file.keys["tokenizer.ggml.merges"]])


def losses(model, ids):
    """-log p of each id behind the first."""
    logits = model.logits(ids, True).astype(np.float64)[:-1]
    top = logits.max(1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return -logs[np.arange(len(logs)), ids[1:]]


def measure(path, stories):
    """-> nats per token, tokens."""
    file = Gguf(path)
    model, tokenizer = Model(file), tokenizer_of(file)
    all_losses = [losses(model, [0] + tokenizer.encode(story) + [0]) for story in stories]
    return float(np.concatenate(all_losses).mean()), sum(map(len, all_losses))


def lines(path):
    with open(path, encoding="utf-8") as f:
        return f.read().splitlines()


if __name__ == "__main__":
    texts = lines(sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, "heldout.txt"))
    loss, n = measure(sys.argv[1], texts)
    print(f"{len(texts)} stories, {n} tokens: {loss:.4f} nats per token, perplexity {math.exp(loss):.3f}")
