"""`coffer embed`: the same bytes for every number of ranks, layout and batch; pooled rows are those of the tokens; and on a
file of floats the hidden rows are what the head multiplies: with a tied head they give the logits of `run --dump-logits`."""
import json
import math
import os
import struct
import subprocess
import sys

import common

TEXTS = ["Once upon a time there was a fox.", "It ran.", "", "the fox ran home and slept until the morning came " * 3]
WAYS = ((1, ""), (1, "-ub 3"), (1, "-ub 50 -t 2"), (2, "--layout tensor"), (3, "--layout layers -ub 7"), (3, "--layout domain"),
        (4, "--layout hybrid --stages 2"), (2, "--exchange messages -ub 5"))
a, clock = common.arguments(), common.Clock()
count = 0


def embed(ranks, model, *options):
    own = ["--ranks", "1"] if ranks == 1 else []
    return common.start(ranks, [a.coffer, "embed", "-m", os.path.join(a.models, model + ".gguf"), "-p", "\n".join(TEXTS), *own, *options])


def near(got, want, bound=2e-6):
    return len(got) == len(want) and all(abs(g - w) <= bound * max(1, abs(w)) for g, w in zip(got, want))


def vectors(model, *options):
    return json.loads(embed(1, model, "--embd-output-format", "array", "--embd-normalize", "-1", *options))


def pooled(model):
    """Against the rows of the tokens, and the norms against their definitions."""
    rows = vectors(model)
    lengths = [len(subprocess.run([a.coffer, "tokenize", "-m", os.path.join(a.models, model + ".gguf"), "--ids"], input=t.encode(),
                                  capture_output=True, check=True).stdout.split()) for t in TEXTS]
    assert len(rows) == sum(lengths), (len(rows), lengths)
    begin = [sum(lengths[:i]) for i in range(len(TEXTS))]
    for kind, of in (("cls", lambda r: r[0]), ("last", lambda r: r[-1]), ("mean", lambda r: [sum(x) / len(r) for x in zip(*r)])):
        for got, at, n in zip(vectors(model, "--pooling", kind), begin, lengths):
            assert near(got, of(rows[at:at + n])), (kind, at)
    last = vectors(model, "--pooling", "last")[0]
    for kind, norm in (("2", math.sqrt(sum(x * x for x in last))), ("1", sum(map(abs, last))), ("3", sum(abs(x)**3 for x in last)**(1 / 3)),
                       ("0", max(map(abs, last)) / 32760)):
        got = json.loads(embed(1, model, "--embd-output-format", "array", "--pooling", "last", "--embd-normalize", kind))[0]
        assert near(got, [x / norm for x in last], 0.51 if kind == "0" else 2e-6), kind
    return rows


def hidden_gives_logits(model, rows):
    """m_f32 is tied: logits of token 0 = row 0 of the embedding times the hidden row. The file's data: its first matrix."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
    try:
        from gguf_file import Gguf
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        print("no numpy: not compared with logits")
        return
    path, dump = os.path.join(a.models, model + ".gguf"), os.path.join(a.models, "embed.f32")
    matrix = Gguf(path).tensor("token_embd.weight")
    common.start(1, [a.coffer, "run", "-m", path, "-p", TEXTS[0], "-n", "1", "--temp", "0", "--dump-logits", dump, "--ranks", "1"])
    with open(dump, "rb") as f:
        logits = struct.unpack(f"<{len(matrix)}f", f.read())
    n = len(subprocess.run([a.coffer, "tokenize", "-m", path, "--ids"], input=TEXTS[0].encode(), capture_output=True).stdout.split())
    got = matrix.astype("f8") @ rows[n - 1]
    assert max(abs(got - logits)) < 1e-4 * max(map(abs, logits)), max(abs(got - logits))


for model in ("m_q4_k",) if a.quick else ("m_q4_k", "m_f32"):
    for pooling in ("none", "mean", "last"):
        want = None
        for ranks, options in WAYS if pooling == "none" and not a.quick else WAYS[3:5]:
            got = embed(ranks, model, "--pooling", pooling, "--embd-output-format", "json+", *options.split())
            want, count = want or got, count + 1
            if got != want:
                sys.exit(f"{model} {pooling}: {ranks} ranks {options} gives other vectors")
        json.loads(want)
rows = pooled(model)
if not a.quick:
    hidden_gives_logits(model, rows)
for options, pattern in ((["--pooling", "most"], b"known: none, mean"), (["--embd-output-format", "xml"], b"known: array"), (["-c", "5"], b"tokens, but the context holds 5")):
    r = subprocess.run([a.coffer, "embed", "-m", os.path.join(a.models, "m_q4_k.gguf"), "-p", TEXTS[0], "--ranks", "1", *options], capture_output=True)
    assert r.returncode and pattern in r.stderr, r
print(f"{count} runs equal, {clock}")
