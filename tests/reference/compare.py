#!/usr/bin/python3
"""Coffer's logits against reference.py on small models of `coffer synth`.

    compare.py --coffer build/coffer [--table families] [--only NAME]

Each row of MODELS is written, given the same prompt, and generates a few tokens with --dump-logits; the reference then
reads prompt and generated tokens as one batch. So both prefill and decode are compared, position by position, by

    worst   the largest |coffer - reference|, divided by the largest |reference|
    nmse    sum of (coffer - reference)^2 over the sum of reference^2, of one position's logits

with two references: the published formulas as they stand ("plain"), and the same with the two roundings that coffer owns
up to (DESIGN, section 6; "rounded"): keys and values are kept in F16, and what enters a quantised matrix is rounded to 8
bits per 32 columns. Against the second nothing is left but the order of sums, unless that makes a value fall on the other
side of a rounding. With experts and quantised matrices the first reference says nothing: a rounding somewhere makes a
router choose another expert. Such a fall is rare in one layer, makes many more in the next, and so the second reference is for
models of one layer; of its positions the best is what counts ("best": no fall), and the others must stay near. A fall in
an early key touches all positions: then another seed is taken. BOUNDS are a few times what was measured; a wrong scale,
sign, head or position is far outside. Exit 77: no numpy."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed (python3-numpy)")
    sys.exit(77)

import families
from architectures import Arithmetic, Model
from gguf_file import Gguf

BOUNDS = {  # (files of float matrices, files with quantised ones, these with experts)
    "plain worst": (4e-3, 0.15, np.inf), "plain nmse": (3e-5, 1e-2, np.inf), "rounded nmse": (1e-7, 1e-3, 1e-3),
    "rounded best": (1e-9, 1e-9, 1e-9),
}
SEEDS = (7, 8, 9, 10)
N_PROMPT, N_GENERATED = 70, 8  # the prompt ends behind the border of a KV page (64 positions)

SMALL = "--dim 256 --heads 8 --kv-heads 2 --ffn 512 --vocab 512"
MODELS = {  # name: options of synth
    "f32": f"{SMALL} --type f32",
    "f16": f"{SMALL} --type f16",
    "bf16-untied": f"{SMALL} --type bf16 --untied",
    "f32-linear": f"{SMALL} --type f32 --rope-scaling linear --rope-factor 4",
    "f32-llama3": f"{SMALL} --type f32 --rope-scaling llama3 --rope-base 500000",
    "f32-yarn": f"{SMALL} --type f32 --rope-scaling yarn --rope-factor 4",
    "f32-odd-heads": "--dim 320 --heads 5 --kv-heads 5 --ffn 416 --vocab 509 --type f32",
    "f32-groups": "--dim 384 --heads 6 --kv-heads 3 --ffn 512 --vocab 512 --type f32",
    "f32-mqa": "--dim 448 --heads 7 --kv-heads 1 --ffn 608 --vocab 512 --type f32",
    "f32-wide-heads": "--dim 288 --heads 3 --kv-heads 1 --head-dim 96 --ffn 320 --vocab 512 --type f32",
    "f32-narrow-attention": "--dim 256 --heads 3 --kv-heads 3 --head-dim 32 --ffn 320 --vocab 512 --type f32",
    "q8_0": f"{SMALL} --type q8_0",
    "q8_0-yarn-untied": f"{SMALL} --type q8_0 --rope-scaling yarn --untied",
    "q8_0-odd-heads": "--dim 320 --heads 5 --kv-heads 1 --ffn 416 --vocab 509 --type q8_0",
    "q4_0": f"{SMALL} --type q4_0",
    "q4_k": f"{SMALL} --type q4_k --rope-scaling llama3",
    "q5_k": f"{SMALL} --type q5_k",
    "q6_k": f"{SMALL} --type q6_k",
    "q4_k_m": f"{SMALL} --type q4_k_m --untied --rope-scaling linear",
    "q5_k_m": f"{SMALL} --type q5_k_m",
}

FAMILY_MODELS = {  # and every other family, with floats and with quantised matrices
    f"{name}-{kind}": f"{families.options(name, 128, 4, 2, 256, 96)} --vocab 512 --type {kind}"
    for name in families.FAMILIES if name != "llama" for kind in ("f32", "q8_0")
}


TABLES = {"llama": MODELS, "families": FAMILY_MODELS}


def round_rows(x):
    """Each 32 columns to 8 bits and back, as DESIGN, section 6, has it."""
    n, columns = x.shape
    blocks = np.zeros((n, -(-columns // 32) * 32), np.float32)
    blocks[:, :columns] = x
    blocks = blocks.reshape(n, -1, 32)
    top = np.abs(blocks).max(axis=2, keepdims=True)
    top[top < 2.0**-100] = np.inf
    q = np.rint(blocks * (np.float32(127) / top))
    return (q * np.where(np.isinf(top), 0, top / np.float32(127))).reshape(n, -1)[:, :columns].astype(np.float32)


class Rounded(Arithmetic):
    absorbs = True

    def entering(self, x, quantised):
        return round_rows(x) if quantised else x

    def cached(self, x):
        return x.astype(np.float16).astype(np.float32)


def reference(model, ids, arithmetic):
    """Logits of the last N_GENERATED positions."""
    return Model(Gguf(model), arithmetic).logits(ids, True)[-N_GENERATED:].astype(np.float64)


def generate(coffer, model, prompt, folder):
    """Greedy ids and their logits, [N_GENERATED][vocabulary]."""
    dump = os.path.join(folder, "logits.f32")
    done = subprocess.run([coffer, "run", "-m", model, "--prompt-ids", ",".join(map(str, prompt)), "-n", str(N_GENERATED),
                           "--temp", "0", "--ignore-eos", "--json", "--dump-logits", dump], check=True, capture_output=True)
    return json.loads(done.stdout)["ids"], np.fromfile(dump, "<f4").reshape(N_GENERATED, -1).astype(np.float64)


def compare(coffer, options, seed, arithmetic, folder):
    """(worst, nmse of each position) of one model."""
    model = os.path.join(folder, "m.gguf")
    arch = [] if "--arch" in options else ["--arch", "llama"]
    subprocess.run([coffer, "synth", *arch, "--seed", str(seed), "-o", model, *options.split()], check=True,
                   capture_output=True)
    n_vocab = Gguf(model).tensors["token_embd.weight"][0][0]
    prompt = [1] + [int(i) for i in np.random.default_rng(5).integers(3, n_vocab, N_PROMPT - 1)]
    ids, got = generate(coffer, model, prompt, folder)
    want = reference(model, prompt + ids[:-1], arithmetic)
    difference = got - want
    return np.abs(difference).max() / np.abs(want).max(), (difference**2).sum(axis=1) / (want**2).sum(axis=1)


def errors(coffer, options, bounds, folder):
    """The four errors of one model, in the order of BOUNDS."""
    worst, nmse = compare(coffer, options + " --layers 3", SEEDS[0], Arithmetic(), folder)
    near, best = 0.0, np.inf
    for seed in SEEDS:
        sparse = " --dense-layers 0" if "glm4moe" in options or "deepseek2" in options else ""
        rounded = compare(coffer, options + " --layers 1" + sparse, seed, Rounded(), folder)[1]
        near, best = max(near, rounded.max()), min(best, rounded.min())
        if best <= bounds[3]:
            break
    return worst, nmse.max(), near, best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coffer", default="build/coffer")
    parser.add_argument("--table", choices=TABLES, default="llama", help="which models")
    parser.add_argument("--only", help="one model of the table")
    arguments = parser.parse_args()
    failed = 0
    print(f"{'model':24} " + " ".join(f"{name:>14}" for name in BOUNDS))
    for name, options in TABLES[arguments.table].items():
        if arguments.only not in (None, name):
            continue
        quantised = "--type q" in options or "mxfp4" in options
        column = 0 if not quantised else 2 if families.has_experts(name) else 1
        bounds = [row[column] for row in BOUNDS.values()]
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = errors(os.path.abspath(arguments.coffer), options, bounds, folder)
            except subprocess.CalledProcessError as error:
                print(f"{name:24} {error.stderr.decode(errors='replace').strip()[-300:]}  FAIL")
                failed += 1
                continue
        good = all(error <= bound for error, bound in zip(found, bounds))  # so that nan fails
        print(f"{name:24} " + " ".join(f"{error:14.2e}" for error in found) + ("" if good else "  FAIL"), flush=True)
        failed += not good
    return 1 if failed else 0


sys.exit(main())
