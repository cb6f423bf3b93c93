"""`coffer perplexity`: the same lines for every number of ranks, layout, batch and number of chunks that go together; and
on a file of floats the estimate of the published method, computed from the numpy reference's logits."""
import math
import os
import re
import subprocess
import sys

import common

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
try:
    import numpy as np
    from architectures import Model
    from gguf_file import Gguf
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    np = None

N_CTX, CHUNKS = 37, 5  # odd: 18 of 37 tokens are scored; the fifth chunk is alone where two go together
TEXT = " ".join(f"{i * i % 97} of {i * 7 % 31} birds, Lily saw {i}." for i in range(200)) + "\n"


def estimate(model, ids, bos):
    """PPL and its standard error, from the formulas."""
    reference, scores = Model(Gguf(model)), []
    for chunk in range(CHUNKS):
        part = list(ids[chunk * N_CTX:(chunk + 1) * N_CTX])
        logits = reference.logits([bos] + part[1:], True).astype(np.float64)
        top = logits.max(axis=1, keepdims=True)
        logp = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        scores += [-logp[i, part[i + 1]] for i in range(N_CTX // 2, N_CTX - 1)]
    mean, square = np.mean(scores), np.mean(np.square(scores))
    return math.exp(mean), math.exp(mean) * math.sqrt((square - mean**2) / (len(scores) - 1))


def reference(a, text_file, printed):
    """The numpy reference's estimate against what the F32 model printed."""
    if np is None:
        print("no numpy: not compared with the reference")
        return
    model = os.path.join(a.models, "m_f32.gguf")
    with open(text_file, "rb") as f:
        text = f.read()[:-1]  # the newline at the end does not count
    ids = subprocess.run([a.coffer, "tokenize", "-m", model, "--ids"], input=text, capture_output=True, check=True).stdout
    ids = [int(i) for i in ids.split()]
    want = estimate(model, ids, ids[0])
    got = [float(x) for x in re.search(r"PPL = (\S+) \+/- (\S+)\n", printed).groups()]
    # A random model: PPL is about exp(13), so that 1e-4 of the logits show in its fourth digit.
    assert all(abs(g / w - 1) < 2e-3 for g, w in zip(got, want)), (got, want)


def refused(a, model, text_file):
    r = subprocess.run([a.coffer, "perplexity", "-m", model, "-f", text_file, "-c", "8192", "--ranks", "1"], capture_output=True)
    assert r.returncode == 2 and b"at least 16384 tokens" in r.stderr, r
    r = subprocess.run([a.coffer, "perplexity", "-m", model, "-f", text_file + ".none", "--ranks", "1"], capture_output=True)
    assert r.returncode == 1 and b".none: No such file" in r.stderr, r


a, clock = common.arguments(), common.Clock()
text_file = os.path.join(a.models, "perplexity.txt")
with open(text_file, "w") as out:
    out.write(TEXT)
count = 0
for name in ("m_q4_k",) if a.quick else ("m_q4_k", "m_f32"):
    model, want = os.path.join(a.models, name + ".gguf"), None
    for ranks, options in ((1, ""), (1, "-b 37"), (1, "-b 74 -ub 7"), (2, "--layout tensor -b 111"), (3, "--layout layers -ub 16"),
                           (3, "--layout domain -b 74"), (4, "--layout hybrid --stages 2"), (2, "--exchange messages -ub 50")):
        head = ["--ranks", "1"] if ranks == 1 else []
        got = common.start(ranks, [a.coffer, "perplexity", "-m", model, "-f", text_file, "-c", str(N_CTX), "--chunks", str(CHUNKS),
                                   "-t", "1"] + head + options.split())
        want, count = want or got, count + 1
        if got != want:
            sys.exit(f"{name}: {ranks} ranks {options} gives\n{got}, not\n{want}")
    running = re.fullmatch(r"((?:\[\d+\]\d+\.\d{4},)+)\nFinal estimate: PPL = \d+\.\d{4} \+/- \d+\.\d{5}\n", want).group(1)
    assert running.count("[") == CHUNKS, want
if not a.quick:
    reference(a, text_file, want)
refused(a, model, text_file)
print(f"{count} runs equal, {clock}")
