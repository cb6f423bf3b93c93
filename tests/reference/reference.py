#!/usr/bin/python3
"""The models once more, in numpy and float32, from the published formulas: what `coffer` must come near to.

    reference.py MODEL.gguf --ids 1,2,3 [-o logits.f32] [--all] [-n N] [--ctx N]

Writes the logits after the last id (--all: after every id, [ids][vocabulary]) as float32; without -o it prints the five
highest of each row. -n N: N more tokens, always the best one, printed as ids. --ctx: the context that a run would have,
where that matters (LongRoPE). Architectures: architectures.py; formulas: formulas.py; files: gguf_file.py. It shares no
code with coffer. Needs python3-numpy."""
import argparse

import numpy as np

from architectures import Model
from gguf_file import Gguf


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--ids", required=True, help="token ids, separated by commas")
    parser.add_argument("-o", "--output", help="file for the logits, float32")
    parser.add_argument("--all", action="store_true", help="logits of every position, not of the last one only")
    parser.add_argument("-n", type=int, default=0, help="tokens to generate")
    parser.add_argument("--ctx", type=int, default=0, help="context (what the file says)")
    arguments = parser.parse_args()
    model, ids = Model(Gguf(arguments.model), n_ctx=arguments.ctx), [int(i) for i in arguments.ids.split(",")]
    logits = model.logits(ids, arguments.all)
    if arguments.output:
        logits.astype("<f4").tofile(arguments.output)
    else:
        for row in logits:
            print(" ".join(f"{i}:{row[i]:.5f}" for i in np.argsort(-row, kind="stable")[:5]))
    generated = []
    for _ in range(arguments.n):
        generated.append(int(np.argmax(model.logits(ids + generated)[-1])))
    if generated:
        print(" ".join(map(str, generated)))


if __name__ == "__main__":
    main()
