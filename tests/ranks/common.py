"""What the rank tests share: arguments, starting mpirun, and the models (made by `coffer synth`, never downloaded)."""
import argparse
import json
import os
import subprocess
import sys
import time

# name -> options of `coffer synth`. ffn 704 = 11 chunks, 1792 = 28 units dealt to 24 chunks (neither divides by ranks).
MODELS = {
    "m_q8_0": "--layers 4 --dim 256 --heads 8 --kv-heads 2 --ffn 704 --vocab 700 --type q8_0",
    "m_q4_0": "--layers 4 --dim 256 --heads 8 --kv-heads 2 --ffn 704 --vocab 700 --type q4_0 --untied",
    "m_q4_k": "--layers 4 --dim 256 --heads 8 --kv-heads 2 --ffn 1792 --vocab 650 --type q4_k_m",
    "m_f32": "--layers 4 --dim 256 --heads 8 --kv-heads 2 --ffn 704 --vocab 700 --type f32",
    "wide": "--layers 2 --dim 1024 --heads 16 --kv-heads 4 --ffn 2816 --vocab 1000 --type q8_0",
    "tiny": "--layers 2 --dim 64 --heads 2 --kv-heads 1 --ffn 128 --vocab 300 --type q8_0",
    "latent": "--arch deepseek2 --layers 3 --dim 256 --heads 4 --ffn 512 --expert-ffn 96 --vocab 700 --type q8_0",
    "odd": "--layers 3 --dim 48 --heads 3 --kv-heads 3 --ffn 200 --vocab 301 --type f32",
}
for _type in ("q8_0", "q4_0", "q4_k", "q6_k", "f32"):
    MODELS["s_" + _type] = f"--layers 3 --dim 256 --heads 4 --kv-heads 2 --ffn 512 --vocab 512 --type {_type}"
LARGE = "--layers 5 --dim 2048 --heads 32 --kv-heads 8 --ffn 5632 --vocab 32000 --type q8_0"  # 310 MB, for shares.py


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--coffer", required=True)
    p.add_argument("--sequences")
    p.add_argument("--models", required=True)
    p.add_argument("--quick", action="store_true", help="for slow builds: fewer combinations")
    p.add_argument("what", nargs="?")
    a = p.parse_args()
    a.coffer = os.path.abspath(a.coffer)
    return a


def synth(coffer, path, options, seed=1):
    arch = [] if "--arch" in options else ["--arch", "llama"]
    command = [coffer, "synth", *arch, "-o", path, "--seed", str(seed)] + options.split()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def environment(extra):
    env = dict(os.environ)
    for name in ("COFFER_ISA", "COFFER_TEST_ZERO_RANK"):
        env.pop(name, None)
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    # Open MPI leaks by design; what coffer itself leaks is seen by the tests with one rank, which start no MPI.
    return env, extra


def start(ranks, command, extra=None, timeout=300):
    """Runs command on `ranks` ranks (1: without mpirun). extra: environment. Returns stdout; exits with the story on
    failure."""
    env, extra = environment(extra or {})
    if ranks > 1:
        env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
        head = ["mpirun", "--oversubscribe", "-n", str(ranks)]
        for name in extra:
            head += ["-x", name]
        command = head + command
    env.update(extra)
    try:
        r = subprocess.run(command, env=env, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired as late:
        sys.exit(f"no end after {timeout} s: {extra} {' '.join(command)}\n{late.stdout}\n{late.stderr}")
    if r.returncode:
        sys.exit(f"exit {r.returncode}: {extra} {' '.join(command)}\n{r.stderr.decode(errors='replace')[-4000:]}")
    return r.stdout.decode(errors="replace")


class Runs:
    """Runs of one model and prompt that must all give the ids and logits of the first."""

    def __init__(self, a, model, n_prompt, n_vocab, n=10):
        self.a, self.model, self.reference, self.count = a, model, None, 0
        ids, x = [], 12345
        for _ in range(n_prompt):
            x = (x * 1103515245 + 12345) & 0x7FFFFFFF
            ids.append(str((x >> 8) % n_vocab))
        self.base = ["--prompt-ids", ",".join(ids), "-n", str(n), "--temp", "0", "--ignore-eos", "--json"]

    def run(self, ranks, *options, env=None, model=None):
        path = model or os.path.join(self.a.models, self.model + ".gguf")
        own = ["--ranks", "1"] if ranks == 1 else []
        r = json.loads(start(ranks, [self.a.coffer, "run", "-m", path] + self.base + own + list(options), env))
        assert len(r["plan"]["ranks"]) == ranks, r["plan"]
        if "--layout" in options:
            assert r["plan"]["layout"] == options[options.index("--layout") + 1], r["plan"]
        return r

    def check(self, ranks, *options, env=None):
        r = self.run(ranks, *options, env=env)
        got = (r["ids"], r["logits_xxh64"])
        self.count += 1
        if self.reference is None:
            self.reference = got
        elif got != self.reference:
            sys.exit(f"{self.model}: {ranks} ranks {' '.join(options)} {env or ''} gives {got}, not {self.reference}")


def isas(a):
    """Those of COFFER_ISA that can run here."""
    able = []
    for isa in ("scalar", "sse41", "avx", "avx2", "avx2_vnni", "avx512", "amx", "neon", "neon_dot", "vsx"):
        env, _ = environment({})
        r = subprocess.run([a.coffer, "run", "-m", os.path.join(a.models, "tiny.gguf"), "--prompt-ids", "1", "-n", "0",
                            "--ranks", "1"], env=dict(env, COFFER_ISA=isa), capture_output=True)
        if r.returncode == 0:
            able.append(isa)
        elif b"cannot run on this machine" not in r.stderr:
            sys.exit(f"COFFER_ISA={isa}: {r.stderr.decode(errors='replace')}")
    assert "scalar" in able
    return able


class Clock:
    def __init__(self):
        self.begin = time.time()

    def __str__(self):
        return f"{time.time() - self.begin:.1f} s"
