#!/usr/bin/python3
"""The README's table of architectures and file types.

    table.py [--coffer build/coffer] [--ranks 1,2,3] [--types T,T] [--rows R,R] [--every N] [--check README.md]

Makes a small model of each by `coffer synth`, runs it on each of these numbers of ranks (every third of them in layout
domain, the others in tensor) and prints a Markdown table. "=": the same logits_xxh64 came out of all of them; else what
went wrong is printed and the exit status is 1. --every 4: only every fourth cell is run. --check: the table in that file
must be the one that comes out, for the types that it has."""
import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import families  # noqa: E402

SHAPE = 256, 8, 4, 512, 256  # whole super-blocks of 256 columns nearly everywhere
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs",
         "mxfp4", "iq3_s", "iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "q4_k_m", "q5_k_m")
ROWS = {"llama": "llama", "llama (Mixtral)": "mixtral", **{name: name for name in families.ARCHITECTURES[1:]}}


def types_of(coffer):
    """Those of TYPES that synth knows."""
    known = []
    for name in TYPES:
        command = [coffer, "synth", "--arch", "llama", "--layers", "1", "--dim", "256", "--vocab", "300", "--type", name, "-o", os.devnull]
        said = subprocess.run(command, capture_output=True, text=True).stderr
        known += [] if "unknown type" in said else [name]
    return known


def run(coffer, model, ranks, layout):
    env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    if ranks > 1:
        env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    start = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
    own = ["--layout", layout] if ranks > 1 else ["--ranks", "1"]
    done = subprocess.run([*start, coffer, "run", "-m", model, "--prompt-ids", ",".join(map(str, range(1, 40))), "-n", "3", "--temp",
                           "0", "--ignore-eos", "--json", "-t", "1", *own], capture_output=True, text=True, env=env, timeout=300)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("coffer", "[", "rank"))] or [done.stderr]
        raise RuntimeError(" / ".join(said)[:800])
    return json.loads(done.stdout)["logits_xxh64"]


def cell(coffer, options, ranks, model):
    """"=", or what went wrong."""
    made = subprocess.run([coffer, "synth", "-o", model, *options.split()], capture_output=True, text=True)
    if made.returncode:
        return made.stderr.strip()
    try:
        seen = {run(coffer, model, n, layout) for n, layout in zip(ranks, itertools.cycle(("tensor", "tensor", "domain")))}
    except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "=" if len(seen) == 1 else f"{len(seen)} different answers"


def types_in(path):
    """Those of the table in a file."""
    with open(path) as file:
        head = next(line for line in file if line.startswith("| architecture |"))
    return [name.strip().lower() for name in head.strip(" |\n").split("|")[1:]]


def table(coffer, ranks, types, rows, every):
    failed = []
    lines = [f"| architecture | {' | '.join(name.upper() for name in types)} |", "|---" * (len(types) + 1) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for row, (title, name) in enumerate(ROWS.items()):
            if rows and title not in rows:
                continue
            shape = families.options(name, *SHAPE) + " --layers 2 --vocab 320 --ctx 4096 --type "
            cells = [cell(coffer, shape + kind, ranks, os.path.join(folder, "m.gguf")) if (row + column) % every == 0 else "="
                     for column, kind in enumerate(types)]
            failed += [f"{title}, {kind}: {text}" for kind, text in zip(types, cells) if text != "="]
            lines.append(f"| {title} | {' | '.join(text if text == '=' else 'FAIL' for text in cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coffer", default="build/coffer")
    parser.add_argument("--ranks", default="1,2,3")
    parser.add_argument("--types", help="only these, separated by commas")
    parser.add_argument("--rows", default="", help="only these architectures, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="run only every N-th cell of each row and column")
    parser.add_argument("--check", help="a file whose table must be this one")
    arguments = parser.parse_args()
    if not set(filter(None, arguments.rows.split(","))) <= set(ROWS):
        parser.error(f"--rows: one of {', '.join(ROWS)}")
    coffer = os.path.abspath(arguments.coffer)
    types = arguments.types.split(",") if arguments.types else types_in(arguments.check) if arguments.check else types_of(coffer)
    lines, failed = table(coffer, [int(n) for n in arguments.ranks.split(",")], types,
                          [row for row in arguments.rows.split(",") if row], arguments.every)
    print("\n".join(lines))
    if arguments.check:
        with open(arguments.check) as file:
            known = file.read().splitlines()
        failed += [f"{arguments.check} lacks: {line}" for line in lines if line not in known]
    if failed:
        sys.exit("\n".join(failed))


main()
