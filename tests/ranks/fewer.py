"""Without -t the planner may run fewer threads than cores. On a machine that is described as having twice as many cores as there
are, and more, threads that meet wait for each other: so ranks with a tiny model run fewer, say why, and give the same bits as with
any -t. What is said to run is what each rank's engine counts."""
import json
import os
import re
import subprocess
import tempfile

import common

a, clock = common.arguments(), common.Clock()
CORES = 2 * max(2, os.cpu_count())  # of each rank
NOTE = rf"coffer: not used: (\d+) of the {CORES} cores of rank 0.*predicted ([\d.]+) tokens/s, with all ([\d.]+); a run with -t {CORES} uses them"


def run(ranks, *options, command="run"):
    env, _ = common.environment({})
    env.update(HWLOC_SYNTHETIC=f"numa:1 core:{CORES * ranks} pu:1", COFFER_CALIBRATION="", COFFER_TEST_READ_MIB="4",
               ASAN_OPTIONS="detect_leaks=0:" + env.get("ASAN_OPTIONS", ""))
    words = [a.coffer, command, "-m", path, *options]
    words += ["--prompt-ids", "3,5,7,9,11", "-n", "8", "--temp", "0", "--ignore-eos", "--json"] if command == "run" else []
    head = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
    p = subprocess.run(head + words + (["--ranks", "1"] if ranks == 1 else []), env=env, capture_output=True, text=True, timeout=250)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout), p.stderr


def threads(r):
    return [k["threads"] for k in r["plan"]["ranks"]]


def main():
    want = None
    for ranks in (1, 2):
        for layout in ("auto", "tensor") if ranks > 1 else ("auto",):
            r, said = run(ranks, "--layout", layout, "--verbose")
            want = want or r["logits_xxh64"]
            assert r["logits_xxh64"] == want, (ranks, layout)
            n = threads(r)
            assert len(n) == ranks and len(set(n)) == 1 and 0 < n[0] < CORES, (n, said)
            note = re.search(NOTE, said)
            assert note and int(note[1]) == CORES - n[0] and float(note[2]) > float(note[3]), said
            # The table has all threads, fewer, and the best of them marked; the figures behind the run are the best one's.
            assert re.search(rf"^\* .*, {n[0]} threads?\b", said, re.M), said
            assert re.search(r"^  .* hosts? +[\d.]+ ", said, re.M), said
            assert re.search(rf"^ +0 +\S+ +0 +{n[0]} ", said, re.M), said
            print(f"{ranks} ranks of {CORES} cores, {layout}: {n} threads")
        for t in (1, 2, CORES):
            r, said = run(ranks, "-t", str(t))
            assert r["logits_xxh64"] == want and threads(r) == ranks * [t], (r, said)
            assert not re.search(NOTE, said), said
    r, said = run(1, "-p", "4", "-n", "2", "-r", "1", "-o", "json", command="bench")  # measures what it is told: all
    assert {t["n_threads"] for t in r["tests"]} == {CORES} and "not used" not in said, said


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.gguf")
    common.synth(a.coffer, path, common.MODELS["tiny"])
    main()
print(clock)
