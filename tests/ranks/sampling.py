"""`coffer run` and its sampling options: the same seed gives the same text on any number of ranks, whatever sampler is on;
stop strings end the text wherever tokens cut them, and are not printed; biases and refusals."""
import json
import os
import subprocess
import sys

import common

a, clock = common.arguments(), common.Clock()
MODEL = os.path.join(a.models, "m_q8_0.gguf")
BASE = ["run", "-m", MODEL, "-p", "Lily saw a big bird.", "-n", "40", "-c", "64", "--ignore-eos"]


def run(*options, ranks=1):
    return common.start(ranks, [a.coffer] + BASE + list(options) + (["--ranks", "1"] if ranks == 1 else []))


def refused(text, *options):
    r = subprocess.run([a.coffer] + BASE + ["--ranks", "1"] + list(options), capture_output=True)
    assert r.returncode == 2 and text.encode() in r.stderr, (options, r)


def seeds():
    count = 0
    for options in ("", "--temp 1.5 --top-k 0 --top-p 1 --min-p 0", "--typical 0.5 --xtc-probability 0.5 --top-k 100",
                    "--repeat-penalty 1.3 --frequency-penalty 0.5 --presence-penalty 0.5 --repeat-last-n -1",
                    "--dry-multiplier 2 --dry-allowed-length 1 --temp 0.2", "--mirostat 1", "--mirostat 2 --mirostat-ent 3",
                    "--dynatemp-range 0.5 --top-n-sigma 2 --samplers temperature;top_n_sigma;top_p"):
        one = run("--seed", "11", "--json", *options.split())
        want = [json.loads(one)[k] for k in ("ids", "text", "logits_xxh64")]
        ranks, layout = ((2, "layers"), (3, "tensor"))[0 if a.quick else count % 2]
        got = json.loads(run("--seed", "11", "--json", "--layout", layout, *options.split(), ranks=ranks))
        assert [got[k] for k in ("ids", "text", "logits_xxh64")] == want, (options, ranks, layout)
        count += 1
    assert json.loads(run("--seed", "12", "--json", *options.split()))["ids"] != want[0]
    return count


def stops():
    """A text of whole tokens is cut at every place: the stop string then begins and ends inside tokens."""
    whole = run("--temp", "0")[:-1]
    assert json.loads(run("--temp", "0", "--json"))["text"] == whole
    for at in range(3, min(len(whole) - 8, 40), 5):
        stop = whole[at:at + 7]
        if "\\" in stop or "\ufffd" in stop:
            continue
        want = whole[:whole.index(stop)]
        assert run("--temp", "0", "--stop", stop) == want + "\n", (whole, stop)
        got = json.loads(run("--temp", "0", "--json", "-r", "no such text", "-r", stop))
        assert got["text"] == want and len(got["ids"]) <= 40, (got, stop)
    assert run("--temp", "0", "--stop", whole[-3:] + "x") == whole + "\n"  # held back, and given out at the end


def biases():
    first = json.loads(run("--temp", "0", "--json"))["ids"][0]
    assert json.loads(run("--temp", "0", "--json", "-l", f"{first}-inf"))["ids"][0] != first
    assert json.loads(run("--json", "--logit-bias", "77+inf"))["ids"] == [77] * 40
    refused("--logit-bias: 99999 is not a token id below", "-l", "99999+1")
    refused("--logit-bias x", "-l", "x")


seeds_equal = seeds()
stops()
biases()
refused("--samplers: top_x is unknown", "--samplers", "top_k;top_x")
refused("option --mirostat: 3 is out of range", "--mirostat", "3")
refused("--stop: the text is empty", "--stop", "")
r = subprocess.run([a.coffer] + BASE + ["--ranks", "1", "-v", "--seed", "5", "--sampler-seq", "kt"], capture_output=True)
assert b"sampler seed 5, order logit_bias > top_k > temperature > draw\n" in r.stderr and b"mirostat_ent 5\n" in r.stderr, r
print(f"{seeds_equal} runs equal, {clock}")
