"""Shares are real: every rank's slice matters, memory is split and not copied, and so is the work."""
import os
import re
import subprocess
import sys
import tempfile

import common

RANKS = 4
MB = 1e6


def every_slice_matters(a):
    for layout in ("tensor", "hybrid", "domain"):
        runs = common.Runs(a, "m_q8_0", 30, 700)
        answers = [runs.run(RANKS, "--layout", layout, "-t", "1")]
        for rank in range(RANKS):
            zero = {"COFFER_TEST_ZERO_RANK": str(rank)}
            if layout == "domain" and rank == RANKS - 1:
                continue  # TEMPORAL holds the cache and no weights
            answers.append(runs.run(RANKS, "--layout", layout, "-t", "1", env=zero))
        hashes = [r["logits_xxh64"] for r in answers]
        assert len(set(hashes)) == len(hashes), f"{layout}: zeroing one rank's slice changes nothing: {hashes}"


def stats(a, model, ranks):
    """What `run --stats` says of each rank: resident memory (anonymous and huge, from /proc, read by the rank itself) and
    bytes of weights and cache."""
    own = ["--ranks", "1"] if ranks == 1 else []
    command = [a.coffer, "run", "-m", model, "--prompt-ids", "1,2,3,4,5,6,7,8", "-n", "8", "--temp", "0", "--ignore-eos",
               "-t", "1", "--stats", "-c", "512", "--layout", "tensor"] + own
    if ranks > 1:
        command = ["mpirun", "--oversubscribe", "-n", str(ranks)] + command
    env, _ = common.environment({})
    r = subprocess.run(command, env=env, capture_output=True, timeout=200)
    text = r.stderr.decode(errors="replace")
    memory = [float(x) * 2**20 for x in re.findall(r"resident ([0-9.]+) MiB", text)]
    held = sum(int(x) for x in re.findall(r"(?:PREFRONTAL|_HEMI|TEMPORAL) +\d+ +(\d+)", text))
    if r.returncode or len(memory) != ranks or not held:
        sys.exit(f"exit {r.returncode}, {len(memory)} figures for {ranks} ranks:\n{text[-4000:]}")
    return memory, held


def memory_is_split(a, model):
    (one,), one_held = stats(a, model, 1)
    many, many_held = stats(a, model, RANKS)
    print("resident MB:", f"{one / MB:.0f} on one rank;", [f"{m / MB:.0f}" for m in many])
    assert one > 0.9 * one_held, "one rank's memory is less than what it holds"
    assert sum(many) <= 1.1 * one + RANKS * 128 * MB, "four ranks need more than 1.1 x one rank + 128 MB each"
    assert many_held <= 1.02 * one_held, f"slices of {many_held} bytes for a model of {one_held}"
    assert max(many) < 0.5 * one + 128 * MB, "one rank of four holds more than its share"


def work_is_split(a, model):
    """CPU time of every rank within 25 % of the mean; the best of several runs, because a busy machine spoils one."""
    runs = common.Runs(a, "large", 16, 32000, n=24)
    best = None
    for _ in range(3):
        r = runs.run(RANKS, "--layout", "tensor", "-t", "1", "-c", "512", model=model)
        seconds = [rank["compute_s"] for rank in r["timings"]["ranks"]]
        mean = sum(seconds) / RANKS
        off = max(abs(s - mean) / mean for s in seconds)
        print("compute s:", [f"{s:.3f}" for s in seconds], f"farthest from the mean {100 * off:.0f} %")
        best = off if best is None else min(best, off)
        if best <= 0.25:
            return
    sys.exit(f"compute time of a rank is {100 * best:.0f} % off the mean in the best of three runs")


def main():
    a, clock = common.arguments(), common.Clock()
    every_slice_matters(a)
    print(f"every slice matters, {clock}")
    if a.quick:
        return
    with tempfile.TemporaryDirectory(dir=a.models) as folder:
        model = os.path.join(folder, "large.gguf")
        common.synth(a.coffer, model, common.LARGE)
        memory_is_split(a, model)
        work_is_split(a, model)
    print(f"done, {clock}")


main()
