"""A KV cache that rotates (--max-kv-size N --keep K): the same bits for every number of ranks, layout, chunk and number of
threads; decode equals prefill; nothing changes while all fits; a query sees exactly the first K positions and its last N - K
(one layer: a token that is not seen cannot matter); and memory does not grow with the text."""
import os
import subprocess
import sys
import tempfile

import common

N_VOCAB, PROMPT = 650, 330
WAYS = ((1, "-t 1"), (1, "-t 2 -ub 1"), (1, "-t 9 -ub 7"), (2, "--layout tensor -t 1"), (3, "--layout layers -t 1 -ub 16 --micro-batches 4"),
        (3, "--layout domain -t 1 -ub 20"), (4, "--layout hybrid --stages 2 -t 1"))
SIZES = ((96, 4), (200, 70), (130, 0), (64, 63))
a, clock = common.arguments(), common.Clock()


def ids_of(n):
    return [(i * i * 31 + i * 7) % 600 + 3 for i in range(n)]


def logits(path, ids, n, folder, *options):
    """[n][vocabulary], bytes."""
    dump = os.path.join(folder, "logits.f32")
    common.start(1, [a.coffer, "run", "-m", path, "--prompt-ids", ",".join(map(str, ids)), "-n", str(n), "--temp", "0", "--ignore-eos",
                     "--ranks", "1", "--dump-logits", dump, "--json", *options])
    with open(dump, "rb") as f:
        data = f.read()
    return [data[i * len(data) // n:(i + 1) * len(data) // n] for i in range(n)]


def prefill(path, folder):
    """Decode equals prefill: each position once behind generated tokens, once at the end of a prompt."""
    options = ["--max-kv-size", "96", "--keep", "4"]
    out = common.start(1, [a.coffer, "run", "-m", path, "--prompt-ids", ",".join(map(str, ids_of(60))), "-n", "120", "--temp", "0",
                           "--ignore-eos", "--ranks", "1", "--json", *options])
    ids = ids_of(60) + __import__("json").loads(out)["ids"]
    decoded = logits(path, ids_of(60), 120, folder, *options)
    for at in (1, 36, 37, 40, 100, 119):
        for chunk in ("1", "33"):
            assert logits(path, ids[:60 + at], 1, folder, *options, "-ub", chunk)[0] == decoded[at], (at, chunk)


def what_is_seen(folder):
    """One layer, so that the last row's logits hang on the keys that it sees and on nothing else."""
    path = os.path.join(folder, "one.gguf")
    common.synth(a.coffer, path, "--layers 1 --dim 128 --heads 4 --kv-heads 2 --ffn 128 --vocab 650 --type f32")
    for size, keep in ((96, 4), (80, 66), (70, 0)):
        ids = ids_of(300)
        options = ["--max-kv-size", str(size), "--keep", str(keep)]
        want, window = logits(path, ids, 1, folder, *options), 300 - (size - keep)  # the first position of the window
        for at in {0, max(keep - 1, 0), keep, keep + 1, 150, window - 1, window, 299}:
            other = ids[:at] + [ids[at] % 600 + 4] + ids[at + 1:]
            same = logits(path, other, 1, folder, *options) == want
            assert same == (keep <= at < window), (size, keep, at)


def bytes_of(path, n, *options):
    r = common.start(1, [a.coffer, "run", "-m", path, "--prompt-ids", ",".join(map(str, ids_of(n))), "-n", "2", "--temp", "0",
                         "--ignore-eos", "--ranks", "1", "--json", *options])
    return __import__("json").loads(r)["plan"]["ranks"][0]["bytes"]


count = 0
for size, keep in SIZES[:1] if a.quick else SIZES:
    runs = common.Runs(a, "m_q4_k", PROMPT, N_VOCAB, n=12)
    for ranks, options in WAYS[2:6] if a.quick or size != 96 else WAYS:
        runs.check(ranks, "--max-kv-size", str(size), "--keep", str(keep), *options.split())
    count += runs.count
    assert runs.run(1)["logits_xxh64"] != runs.reference[1]  # it does make a difference
runs = common.Runs(a, "m_q4_k", 100, N_VOCAB, n=12)
runs.check(1)
runs.check(1, "--max-kv-size", "112")  # 111 positions are all there ever is
runs.check(2, "--max-kv-size", "5000", "--keep", "100")
count += runs.count
path = os.path.join(a.models, "m_q4_k.gguf")
with tempfile.TemporaryDirectory() as folder:
    prefill(path, folder)
    what_is_seen(folder)
wide = os.path.join(a.models, "wide.gguf")
small, plain = bytes_of(wide, 1500, "--max-kv-size", "128", "-ub", "32"), bytes_of(wide, 100, "-c", "256", "-ub", "32")
assert small < plain + (1 << 20), (small, plain)  # a table of 16,384 pages is there, keys and values are not
for options, pattern in ((["--max-kv-size", "4"], b"leaves nothing beside --keep 4"), (["--max-kv-size", "64", "--prompt-cache", "x"], b"goes without")):
    r = subprocess.run([a.coffer, "run", "-m", path, "-p", "x", "--ranks", "1", *options], capture_output=True)
    assert r.returncode == 2 and pattern in r.stderr, r
print(f"{count} runs equal, {clock}")
