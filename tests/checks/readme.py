#!/usr/bin/env python3
"""readme.py ROOT COFFER: what README.md shows is so. Three things:

 - every option in a line that calls coffer stands in that command's --help, and every option in inline code in some --help;
 - every link into the tree leads somewhere;
 - every block that opens with "```sh run" works as written: the blocks run in their order in one empty folder where
   build/coffer is COFFER, each with `bash -euo pipefail`. "```sh" alone is shown, not run.

A machine with fewer cores than a block has ranks, or root, would be refused by mpirun: Open MPI is told otherwise here."""
import os
import re
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.M | re.S)
CALL = re.compile(r"(?:^|[\s(|])(?:build/)?coffer ([a-z]+)\b([^\n|]*)")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
FOREIGN = {"--mpi", "--oversubscribe", "--hostfile", "--preset", "--prefix", "--map-by", "--bind-to", "--install", "--help", "--version", "--ik-llama-options", "--rpc-server", "--dllama", "--no-kill"}
LIMIT = 120  # seconds for one block


def helps(coffer):
    listing = subprocess.run([coffer, "--help"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^  ([a-z]+) ", listing, re.M)
    options = {}
    for name in names:
        text = subprocess.run([coffer, name, "--help"], capture_output=True, text=True, check=True).stdout
        options[name] = set(OPTION.findall(text))
    return options


def check_options(text, options):
    found, seen = [], 0
    code = "\n".join(m.group(3) for m in BLOCK.finditer(text) if m.group(1) == "sh").replace("\\\n", " ")
    for command, rest in CALL.findall(code):
        if command not in options:
            if command not in ("man", "help"):
                found.append(f"coffer {command}: no such command")
            continue
        rest = re.sub(r"'[^']*'|\"[^\"]*\"|\s#.*|\s--\s.*", " ", rest)  # behind --: options of another command
        for option in OPTION.findall(rest):
            seen += 1
            if option not in options[command]:
                found.append(f"coffer {command} {option}: not in its --help")
    known = set().union(*options.values()) | FOREIGN
    for inline in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", inline):
            seen += 1
            if option not in known:
                found.append(f"`{inline}`: no command has {option}")
    print(f"options: {seen} seen")
    return found if seen else ["README.md shows no option at all"]


def check_links(text, root):
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    print(f"links: {len(links)} seen")
    return [f"link to {link}: not there" for link in links if not os.path.exists(os.path.join(root, link))]


def run_blocks(text, coffer):
    blocks = [m.group(3) for m in BLOCK.finditer(text) if m.group(1) == "sh" and m.group(2).strip() == "run"]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1", COFFER_TEST_READ_MIB="16")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "build"))
        os.symlink(os.path.abspath(coffer), os.path.join(folder, "build", "coffer"))
        for block in blocks:
            try:
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, timeout=LIMIT,
                                      stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
                status, says = done.returncode, done.stderr[-600:]
            except subprocess.TimeoutExpired:
                status, says = "none", f"ran longer than {LIMIT} s"
            if status != 0:
                found.append(f"exit status {status} of this block:\n{block}{says}")
    print(f"blocks: {len(blocks)} run")
    return found if blocks else ["README.md has no block to run"]


def main():
    root, coffer = sys.argv[1:3]
    with open(os.path.join(root, "README.md"), encoding="utf-8") as f:
        text = f.read()
    found = check_options(text, helps(coffer)) + check_links(text, root) + run_blocks(text, coffer)
    for line in found:
        print(line)
    return 1 if found else 0


sys.exit(main())
