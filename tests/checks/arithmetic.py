#!/usr/bin/env python3
"""arithmetic.py ROOT BUILD: the law of one arithmetic (DESIGN, section 6) as far as a compiler's command line, a pragma
and a symbol table show it. Product files are those of the four rooms and what is generated for them.

 - every compile command: -std=c17 and -ffp-contract=off, and nothing that lets the compiler reorder or approximate;
 - no source turns it on again by pragma or attribute, and no OpenMP loop adds floats in an order of its own;
 - no function of libm that differs between machines is called (needs nm, or what $NM names; static libraries of
   BUILD)."""
import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

from tree import files, lines, verdict

ROOMS = ("proto", "transport", "node", "coordinator")
FORBIDDEN = {
    "-Ofast", "-ffast-math", "-funsafe-math-optimizations", "-fassociative-math", "-freciprocal-math", "-ffinite-math-only",
    "-fno-signed-zeros", "-fno-trapping-math", "-fcx-limited-range", "-fcx-fortran-rules", "-fsingle-precision-constant",
    "-mrecip", "-mdaz-ftz", "-march=native", "-mtune=native", "-ffp-contract=fast", "-ffp-contract=on",
}
IN_SOURCE = re.compile(r"#\s*pragma\s+(STDC\s+FP_CONTRACT\s+(ON|DEFAULT)|GCC\s+optimize|float_control|clang\s+fp\b)"
                       r"|__attribute__\s*\(\(\s*(__)?optimize|#\s*pragma\s+omp\b.*\breduction\b|_MM_SET_FLUSH_ZERO_MODE|_MM_SET_DENORMALS"
                       r"|_mm(256|512)?_(rcp|rsqrt)")
LIBM = re.compile(r"(exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|sin|cos|sincos|tan|sinh|cosh|tanh|asin|acos|atan|atan2|"
                  r"erf|erfc|cbrt|hypot|tgamma|lgamma)[fl]?$")


def check_commands(build):
    found, seen = [], 0
    with open(os.path.join(build, "compile_commands.json")) as f:
        commands = json.load(f)
    for entry in commands:
        words = entry.get("arguments") or shlex.split(entry["command"])
        output = words[words.index("-o") + 1] if "-o" in words else ""
        if output.split("/")[0] not in ROOMS:
            continue
        seen += 1
        name = os.path.basename(entry["file"])
        standards = [w for w in words if w.startswith("-std=")]
        if standards[-1:] != ["-std=c17"]:
            found.append(f"{name}: compiled with {standards or 'no -std'}, not -std=c17")
        if [w for w in words if w.startswith("-ffp-contract")][-1:] != ["-ffp-contract=off"]:
            found.append(f"{name}: compiled without -ffp-contract=off")
        found += [f"{name}: compiled with {w}" for w in words if w in FORBIDDEN or w.startswith("-mrecip=")]
    return found, seen


def check_sources(root):
    found = []
    for name in files(root):
        if not name.startswith(tuple(room + "/" for room in ROOMS)) or not name.endswith((".c", ".h", ".inc")):
            continue
        found += [f"{name}:{number}: {line.strip()}" for number, line in lines(root, name) if IN_SOURCE.search(line)]
    return found


def check_symbols(build):
    libraries = [path for room in ROOMS for path in glob.glob(os.path.join(build, room, "**", "*.a"), recursive=True)]
    nm = os.environ.get("NM", "nm")
    if not shutil.which(nm) or not libraries:
        print("no nm, or no libraries: calls of libm not checked")
        return []
    out = subprocess.run([nm, "-A", "-u", *libraries], capture_output=True, text=True, check=True).stdout
    called = (line.split() for line in out.splitlines() if line.split())
    return [f"{os.path.basename(words[0])} calls {words[-1]} of libm" for words in called if LIBM.match(words[-1])]


def main():
    root, build = sys.argv[1:3]
    found, seen = check_commands(build)
    return verdict("compile commands", seen, found + check_sources(root) + check_symbols(build))


sys.exit(main())
