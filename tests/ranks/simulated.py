#!/usr/bin/env python3
"""simulated.py [what]: `coffer simulate` sends the messages that ranks send in earnest. Of two real runs, one of which makes eight
tokens more, the difference is what eight tokens send: activations, and a batch from rank 0 to each other rank that holds anything.

One thing is simulated otherwise on purpose: the embedding's row comes from that rank whose vocabulary has the token, which nobody
knows beforehand; so each of N sends an N-th of it to the others: (N - 1)^2 messages more. Bytes agree to a byte per message.

Ranks on a busy machine measure unequal bandwidths and are then given unequal slices: such a run is made again, and not
compared where that goes on. "many": 64 ranks on 16 hosts (ctest --preset testbed)."""
import json
import os
import re
import sys
import tempfile

import common

TOKENS, FEW, ATTEMPTS = 8, 3, 4
os.environ["COFFER_TEST_EVEN_HEAD"] = "1"  # both sides, whatever their links are said to be
LINK = re.compile(r"(\d+) -> (\d+)(?: \(another host\))?: (\d+) messages, (\d+) bytes of payload")
ROW = re.compile(r"^(?:coffer: )?((?:PREFRONTAL|LEFT_HEMI|RIGHT_HEMI|TEMPORAL) +\d+-\d+ +0?.*\[.*)$", re.M)
# ranks, hosts, layout, options
CASES = [(4, 1, "layers", ()), (2, 2, "tensor", ()), (3, 1, "tensor", ()), (4, 2, "hybrid", ("--stages", "2"))]
MANY = [(64, 16, "hybrid", ("--stages", "16"))]


def real(a, model, ranks, hosts, words, tokens):
    """(rows of the plan, messages, bytes) of a run, all links together."""
    extra = {"COFFER_TEST_HOSTS": str(hosts)} if hosts > 1 else {}
    out = common.start(ranks, ["sh", "-c", 'exec "$0" "$@" 2>&1', a.coffer, "run", "-m", model, "-p", "Once", "-n", str(tokens), "--temp",
                               "0", "--ignore-eos", "-t", "1", "--exchange", "messages", "--stats", "--verbose", "--timeout", "300",
                               *words], extra)
    found = [tuple(map(int, m)) for m in LINK.findall(out)]
    return ROW.findall(out), sum(k[2] for k in found), sum(k[3] for k in found)


def compare(a, model, ranks, hosts, layout, more):
    """True or False, or None: never cut as simulated."""
    words = ("--layout", layout, *more)
    here = ("-m", model, "--ranks", str(ranks), "--hosts", str(hosts), "--threads", "1", "--bandwidth", "10", *words)
    rows = ROW.findall(common.start(1, [a.coffer, "plan", *here]))
    s = json.loads(common.start(1, [a.coffer, "simulate", *here, "-b", "1", "-p", "0", "-o", "json"]))["simulations"][0]
    heads = len(re.findall(r"\d+:\[", rows[0]))
    want = s["messages_per_token"] - (heads - 1) ** 2 + (ranks - 1)  # and the batch itself
    name = f"{layout} on {ranks} ranks of {hosts} hosts"
    for _ in range(ATTEMPTS):
        (rows_a, messages_a, bytes_a), (rows_b, messages_b, bytes_b) = (real(a, model, ranks, hosts, words, FEW + n) for n in (0, TOKENS))
        if rows_a != rows or rows_b != rows:
            print(f"{name}: cut otherwise this time", flush=True)
            continue
        messages, payload = (messages_b - messages_a) / TOKENS, (bytes_b - bytes_a) / TOKENS
        good = messages == want and abs(payload - s["bytes_per_token"]) <= want
        print(f"{name}: {messages} messages of {payload} bytes a token, simulated {want} of {s['bytes_per_token']}"
              f"{'' if good else ': DIFFERENT'}", flush=True)
        return good
    return None


def idle_hear_nothing(a, folder):
    """Two layers on four ranks: one holds nothing, and is told of no batch."""
    model = os.path.join(folder, "two.gguf")
    common.synth(a.coffer, model, "--layers 2 --dim 256 --vocab 1000")
    said = common.start(4, ["sh", "-c", 'exec "$0" "$@" 2>&1', a.coffer, "run", "-m", model, "-p", "Once", "-n", "20", "--temp", "0",
                            "--ignore-eos", "-t", "1", "--layout", "layers", "--stats"])
    busy = {int(r) for r in re.findall(r"^ *(\d+) .* (?:PREFRONTAL|\w+_HEMI|TEMPORAL) +\d+ +\d+ +[1-9]", said, re.M)}
    told = {int(to): int(n) for start, to, n, _ in LINK.findall(said) if start == "0"}
    good = len(busy) == 3 and all((told[r] >= 20) == (r in busy) for r in (1, 2, 3))
    print(f"ranks {sorted(busy)} hold something; messages from rank 0: {told}{'' if good else ': WRONG'}", flush=True)
    return good


def main():
    a = common.arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "m.gguf")
        common.synth(a.coffer, model, "--layers 16 --dim 256 --heads 8 --kv-heads 4 --ffn 512 --vocab 1200 --type q4_0")
        results = [compare(a, model, *case) for case in (MANY if a.what == "many" else CASES)]
        silent = a.what == "many" or idle_hear_nothing(a, folder)
    sys.exit(False in results or True not in results or not silent)


main()
