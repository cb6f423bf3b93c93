"""The files of a checkout that count: what git tracks or would track; without git, all but build folders."""
import os
import shutil
import subprocess


def files(root):
    """Paths relative to root, '/' between, sorted; only those that exist."""
    command = ["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"]
    names = []
    if shutil.which("git"):
        names = subprocess.run(command, capture_output=True).stdout.decode().split("\0")
    if names in ([], [""]):
        for folder, folders, here in os.walk(root):
            folders[:] = [f for f in folders if f not in (".git", "build")]
            names += [os.path.relpath(os.path.join(folder, name), root) for name in here]
    return sorted(name for name in names if name and os.path.isfile(os.path.join(root, name)))


def lines(root, name):
    """(number, line) of a text file; nothing of a binary one."""
    with open(os.path.join(root, name), "rb") as f:
        data = f.read()
    if b"\0" in data:
        return []
    return list(enumerate(data.decode("utf-8", "replace").splitlines(), 1))


def verdict(what, n_seen, found):
    """Prints what was found; the exit status. Having seen nothing is a failure too: then the check checks nothing."""
    for line in found:
        print(line)
    if not n_seen:
        print(f"{what}: nothing to check")
        return 1
    print(f"{what}: {n_seen} seen, {len(found)} wrong")
    return 1 if found else 0
