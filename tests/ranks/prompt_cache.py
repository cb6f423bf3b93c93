"""Prompt caches: what a run writes is the same file for every number of ranks and layout; whoever reads it goes on with the
same bits as a run without; wrong files are refused, and a failed write leaves the old file and no other."""
import json
import os
import resource
import subprocess
import sys
import tempfile

import common

N = 150  # two pages of 64 and a part of one
IDS = [(i * i * 31 + i * 7) % 600 + 3 for i in range(N + 60)]
WAYS = ((1, "tensor"), (2, "tensor"), (3, "tensor"), (2, "layers"), (3, "domain"), (2, "domain"), (4, "hybrid"))
a, clock = common.arguments(), common.Clock()
count = 0


def command(model, ids, *options):
    return [a.coffer, "run", "-m", os.path.join(a.models, model + ".gguf"), "--prompt-ids", ",".join(map(str, ids)), "-n", "5",
            "--temp", "0", "--ignore-eos", "--json", "-t", "1", *options]


def run(ranks, layout, model, ids, *options):
    global count
    count += 1
    own = ["--ranks", "1"] if ranks == 1 else []
    r = json.loads(common.start(ranks, command(model, ids, "--layout", layout, *own, *options)))
    return r["ids"], r["logits_xxh64"]


def refused(pattern, path, model="m_q4_k", ids=IDS[:N], status=1, **more):
    r = subprocess.run(command(model, ids, "--ranks", "1", "--prompt-cache", path), capture_output=True, **more)
    text = r.stderr.decode(errors="replace")
    assert r.returncode == status and pattern in text and path in text, (r.returncode, pattern, text)


def bad_files(folder, good):
    bad, other = os.path.join(folder, "bad"), os.path.join(folder, "other.gguf")
    with open(good, "rb") as f:
        data = f.read()
    for name, content, pattern in (
            ("text", b"Once upon a time" * 100, "is not a prompt cache of coffer"), ("nothing", b"", "is not a prompt cache"),
            ("cut", data[:-5000], "truncated?"), ("head only", data[:128], "truncated?"), ("token", data[:160] + b"\x55" + data[161:], "its head"),
            ("key", data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "page 0 does not match"), ("version", data[:8] + b"\x09" + data[9:], "of version 9")):
        with open(bad, "wb") as f:
            f.write(content)
        refused(pattern, bad)
    refused("belongs to another model", good, model="m_q8_0")
    refused("not a regular file", folder)
    common.synth(a.coffer, other, common.MODELS["m_q4_k"], seed=2)  # the same in all but the weights
    r = subprocess.run(command("m_q4_k", IDS[:N], "--ranks", "1", "--prompt-cache", good, "-m", other), capture_output=True)
    assert r.returncode == 1 and b"belongs to another model" in r.stderr, r


def failed_writes(folder, good):
    with open(good, "rb") as f:
        before = f.read()
    names = sorted(os.listdir(folder))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))  # a full disk, as far as pwrite is concerned
    env = dict(os.environ, PYTHONWARNINGS="ignore")
    refused("cannot write", good, ids=IDS[:N + 50], preexec_fn=lambda: (limit(), __import__("signal").signal(25, 1)), env=env)
    with open(good, "rb") as f:
        assert f.read() == before and sorted(os.listdir(folder)) == names, os.listdir(folder)
    refused("cannot write beside", os.path.join(folder, "nowhere", "cache"))


with tempfile.TemporaryDirectory() as folder:
    for model in ("m_q4_k",) if a.quick else ("m_q4_k", "m_f32", "latent"):
        first, want, longer, shorter, good = None, *(run(1, "tensor", model, ids) for ids in (IDS[:N], IDS, IDS[:90])), ""
        for i, (ranks, layout) in enumerate(WAYS if model == "m_q4_k" and not a.quick else WAYS[1:2] + WAYS[4:5]):
            path = os.path.join(folder, f"{model}-{i}")
            assert run(ranks, layout, model, IDS[:N], "--prompt-cache", path) == want, (ranks, layout, "writes")
            with open(path, "rb") as f:
                content = f.read()
            first, good = first or content, good or path
            assert content == first, (ranks, layout, "writes another file")
            for ids, expected in ((IDS[:N], want), (IDS, longer), (IDS[:90], shorter)):
                assert run(ranks, layout, model, ids, "--prompt-cache", good, "--prompt-cache-ro") == expected, (ranks, layout, len(ids))
            with open(good, "rb") as f:
                assert f.read() == first, "--prompt-cache-ro wrote"
    # A longer prompt takes the file over; with --prompt-cache-all it holds what was generated, too.
    path = os.path.join(folder, "all")
    ids, _ = run(2, "layers", "m_q4_k", IDS[:N], "--prompt-cache", path, "--prompt-cache-all")
    r = subprocess.run(command("m_q4_k", IDS[:N] + ids, "--ranks", "1", "--prompt-cache", path), capture_output=True)
    assert b"holds 154 of the 155 tokens" in r.stderr, r.stderr
    assert json.loads(r.stdout)["logits_xxh64"] == run(1, "tensor", "m_q4_k", IDS[:N] + ids)[1]
    good = os.path.join(folder, "m_q4_k-0")
    bad_files(folder, good)
    os.remove(os.path.join(folder, "bad"))
    failed_writes(folder, good)
print(f"{count} runs equal, {clock}")
