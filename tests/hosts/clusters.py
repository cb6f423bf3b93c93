#!/usr/bin/env python3
"""clusters.py COFFER [N...]: 2, 3 and 4 (or N) hosts of deploy/testbed/hosts with one rank and with two, over several kinds
of links, in every layout: the same ids and the same logits_xxh64 as one rank, and every rank on the host it should be on.
Prints a table with milliseconds per token; on a machine with fewer cores than ranks they mean little. Status 77: skipped,
and why."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
hosts = os.path.join(here, "../../deploy/testbed/hosts")
LAYOUTS = ("tensor", "layers", "hybrid", "domain")
LINKS = ("", "--delay 0.1ms --rate 1gbit", "--delay 1ms --rate 100mbit", "--delay 0.1ms --loss 0.5")
PER_HOST = (1, 2)


def environment(state):
    drop = ("OMPI_", "PMIX_", "PMI_", "SLURM_", "COFFER_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(drop)}, "HOSTS_STATE": state}


def run(command, env):
    p = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    try:
        return json.loads(p.stdout)
    except ValueError:
        return f"status {p.returncode}: '{p.stdout[-200:]}', {p.stderr[-500:]}"


def wrong_with(got, want, layout, n_hosts, per_host):
    if isinstance(got, str):
        return got
    if [got["ids"], got["logits_xxh64"]] != [want["ids"], want["logits_xxh64"]]:
        return "another answer"
    placed = [r["host"] for r in got["plan"]["ranks"]]
    expected = [f"h{h + 1}" for h in range(n_hosts) for _ in range(per_host)]
    if placed != expected or got["plan"]["layout"] != layout:
        return f"{got['plan']['layout']} on {placed}"
    return None


def main():
    coffer, failed = os.path.abspath(sys.argv[1]), 0
    check = subprocess.run([hosts, "check"], capture_output=True, text=True)
    reason = check.stdout.strip() if check.returncode == 77 else None if shutil.which("mpirun") else "no mpirun"
    if reason:
        print("skipped:", reason)
        return 77
    with tempfile.TemporaryDirectory(prefix="coffer-clusters-") as folder:
        env, model = environment(folder + "/bed"), folder + "/model.gguf"
        subprocess.run([coffer, *"synth --arch llama --layers 8 --dim 256 --heads 8 --kv-heads 4 --vocab 1000 --seed 1 -o".split(), model],
                       check=True, stderr=subprocess.DEVNULL)
        command = [coffer, "run", "-m", model, "--prompt-ids", "1,5,9,301,77", "-n", "12", "--temp", "0", "--ignore-eos", "--json"]
        want = run(command, env)
        print("| hosts x ranks | link | " + " | ".join(LAYOUTS) + " |\n|---|---|" + "---|" * len(LAYOUTS), flush=True)
        for n_hosts in [int(n) for n in sys.argv[2:]] or (2, 3, 4):
            for link in LINKS:
                subprocess.run([hosts, "up", str(n_hosts), "--slots", str(max(PER_HOST)), *link.split()], env=env, check=True,
                               stdout=subprocess.DEVNULL)
                try:
                    for per_host in PER_HOST:
                        cells = []
                        for layout in LAYOUTS:
                            mpirun = [hosts, "run", "mpirun", "-n", str(n_hosts * per_host), "--map-by", f"ppr:{per_host}:node"]
                            got = run([*mpirun, *command, "--layout", layout], env)
                            wrong = wrong_with(got, want, layout, n_hosts, per_host)
                            failed += bool(wrong)
                            cells.append(f"FAILED: {wrong}" if wrong else f"= {1000 / got['timings']['decode_tps']:.0f} ms")
                        print(f"| {n_hosts} x {per_host} | {link or 'none'} | " + " | ".join(cells) + " |", flush=True)
                finally:
                    subprocess.run([hosts, "down"], env=env, check=True)
    print(f"{failed} wrong" if failed else "all as expected")
    return 1 if failed else 0


sys.exit(main())
