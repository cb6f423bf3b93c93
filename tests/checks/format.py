#!/usr/bin/env python3
"""format.py ROOT: every C file is as clang-format with the repository's .clang-format would leave it. Exit 77: skipped."""
import os
import shutil
import subprocess
import sys

from tree import files, verdict


def main():
    root = sys.argv[1]
    if not shutil.which("clang-format"):
        print("skipped: clang-format is not installed")
        return 77
    names = [name for name in files(root) if name.endswith((".c", ".h"))]
    command = ["clang-format", "--dry-run", "-Werror", "--style=file"]
    found = [name for name in names if subprocess.run([*command, name], cwd=root, capture_output=True).returncode]
    return verdict("C files", len(names), [f"{name}: run clang-format -i on it" for name in found])


sys.exit(main())
