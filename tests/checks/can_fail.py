#!/usr/bin/env python3
"""can_fail.py: each check of this folder is shown a small tree that is right and must pass it, then one wrong thing
after the other, and must fail each."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOOD = "cc -O3 -ffp-contract=off -std=c17 -o node/CMakeFiles/a.dir/a.c.o -c node/a.c"
README = "```sh run\nbuild/coffer run -m x --json\n```\nUse `--json`, see [a](node/a.c).\n"
COFFER = """#!/bin/sh
case "$*" in
--help) echo '  run       generate' ;;
*--help) echo '  -m, --model FILE  x'; echo '  --json  y' ;;
man) i=0; while [ $i -lt 120 ]; do echo 'text'; i=$((i + 1)); done | sed '1s/.*/.TH COFFER 1/;2s/.*/.SH NAME/' ;;
esac
"""
TREE = {
    "proto/a.h": '#include <stdint.h>\n',
    "transport/a.c": '#include <mpi.h>\n#include "proto/a.h"\n',
    "node/a.c": '#include <numa.h>\n#include "transport/a.h"\nint a(void);\n',
    "coordinator/a.c": '#include "node/a.h"\n#include "coordinator/b.h"\n',
    "README.md": README,
    "compile_commands.json": json.dumps([{"file": "node/a.c", "command": GOOD}]),
    "coffer": COFFER,
}


def commands(gcc_flags):
    return json.dumps([{"file": "node/a.c", "command": gcc_flags}])


# check, file, its wrong content
WRONG = [
    ("rooms", "proto/a.h", '#include "transport/a.h"\n'),
    ("rooms", "transport/a.c", '#  include "node/a.h"\n'),
    ("rooms", "node/a.c", '#include "coordinator/a.h"\n'),
    ("rooms", "node/a.c", '#include <coordinator/a.h>\n'),
    ("rooms", "node/a.c", '#include "../coordinator/a.h"\n'),
    ("rooms", "node/a.c", '#include <mpi.h>\n'),
    ("rooms", "node/a.c", '#include HEADER\n'),
    ("rooms", "coordinator/a.c", '#include <immintrin.h>\n'),
    ("rooms", "coordinator/a.c", '#include <hwloc/helper.h>\n'),
    ("rooms", "transport/a.c", '#include <numaif.h>\n'),
    ("rooms", "proto/a.h", '#include <arm_neon.h>\n'),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("-ffp-contract=off ", ""))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("c17", "gnu17"))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("-std=c17 ", ""))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("-O3", "-Ofast"))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("-O3", "-O3 -ffast-math"))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("-O3", "-O3 -funsafe-math-optimizations"))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("-std=", "-ffp-contract=fast -std="))),
    ("arithmetic", "compile_commands.json", commands(GOOD.replace("node/CMake", "tests/CMake"))),
    ("arithmetic", "node/a.c", "#pragma STDC FP_CONTRACT ON\n"),
    ("arithmetic", "node/a.c", "#pragma omp parallel for reduction(+ : sum)\n"),
    ("arithmetic", "node/a.c", "__m512 r = _mm512_rsqrt14_ps(x);\n"),
    ("paths", "deploy/a", "cd /" + "work/main\n"),
    ("paths", "node/a.c", '#include "/' + 'root/x.h"\n'),
    ("paths", "README.md", "cmake -B /" + "tmp/b-x\n"),
    ("format", "node/a.c", "int  a( void ) ;\n"),
    ("man", "coffer", COFFER.replace(".SH NAME", '.so')),
    ("readme", "README.md", README.replace("--json", "--yaml")),
    ("readme", "README.md", README + "Use `--yaml`.\n"),
    ("readme", "README.md", README.replace("coffer run", "coffer walk")),
    ("readme", "README.md", README.replace("--json\n", "--json; false\n")),
    ("readme", "README.md", README.replace("sh run", "sh")),
    ("readme", "README.md", README + "[a](node/b.c)\n"),
]


def outcome(check, folder):
    arguments = {"arithmetic": [folder, folder], "readme": [folder, folder + "/coffer"], "man": [folder + "/coffer"]}.get(check, [folder])
    script = os.path.join(HERE, check)
    command = ["bash", script + ".sh"] if check == "man" else [sys.executable, script + ".py"]
    return subprocess.run(command + arguments, capture_output=True, text=True)


def write(folder, name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    if name == "coffer":
        os.chmod(path, 0o755)


def main():
    failures, skipped = [], set()
    with tempfile.TemporaryDirectory() as top:
        good = os.path.join(top, "good")
        for name, text in TREE.items():
            write(good, name, text)
        shutil.copy(os.path.join(HERE, "..", "..", ".clang-format"), good)
        for check in sorted({row[0] for row in WRONG}):
            done = outcome(check, good)
            if done.returncode == 77:
                skipped.add(check)
            elif done.returncode:
                failures.append(f"{check} fails a tree that is right:\n{done.stdout}{done.stderr}")
        for number, (check, name, text) in enumerate(WRONG):
            if check in skipped:
                continue
            bad = os.path.join(top, f"bad{number}")
            shutil.copytree(good, bad)
            write(bad, name, text)
            done = outcome(check, bad)
            if done.returncode != 1 or "Traceback" in done.stderr:
                failures.append(f"{check} answers {done.returncode} to {name}: {text!r}\n{done.stderr}")
    for line in failures:
        print(line)
    print(f"{len(WRONG)} wrong trees, {len(failures)} failures, skipped: {' '.join(sorted(skipped)) or 'none'}")
    return 1 if failures else 0


sys.exit(main())
