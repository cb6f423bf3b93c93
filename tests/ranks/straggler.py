"""A rank that is held up while it works, by somebody else on its machine, is named at the end of a run, of one prompt or of many, and
behind an answer of a chat.
The rank is stopped for 20 of every 24 ms from the moment on when all ranks have loaded, so that what was measured of it at the
start was another one's speed. A machine that is busy with something else may hide it: then it is tried again."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import common

ATTEMPTS = 4
a = common.arguments()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def hold_up(pid, launcher, said):
    """To the end, or to that of the first answer of a talk."""
    while launcher.poll() is None and "[150 tokens" not in said():
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.02)
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.004)
        except ProcessLookupError:
            return


RUN = ["run", "--prompt-ids", "3,5,7,9"]
MANY = ["run", "--prompts"]
CHAT = ["chat", "--chat-template", "chatml"]


def run(path, n, slow, command):
    env, _ = common.environment({})
    env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    words = [a.coffer, *command, "-m", path, "-n", "150", "--temp", "0", "--ignore-eos", "-t", "1", "--layout", "tensor"]
    with tempfile.TemporaryFile("w+") as out:
        p = subprocess.Popen(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(n), *words], env=env, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=out, text=True)
        if command is CHAT:
            p.stdin.write("Hello\nAgain\n")
        p.stdin.close()
        p.stdin = None
        p.stdout.read(1)  # the first of the answer
        said = lambda: os.pread(out.fileno(), 1 << 20, 0).decode()
        hold_up(children(p.pid)[slow], p, said)
        p.communicate(timeout=120)
        assert p.returncode == 0, said()
        return said()


def main():
    named = re.compile(r"coffer: rank (\d+) \(\S+ node \d+\): ([\d.]+) x slower than predicted")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        common.synth(a.coffer, path, "--layers 6 --dim 1024 --heads 16 --kv-heads 4 --ffn 4096 --vocab 650 --type q8_0")
        prompts = os.path.join(folder, "prompts.jsonl")
        with open(prompts, "w") as f:
            f.write('{"prompt": [3], "n_predict": 1}\n' + '{"prompt": [3, 5, 7, 9]}\n' * 4)
        for n, slow, command in ((2, 1, RUN), (3, 2, RUN), (2, 1, MANY + [prompts]), (2, 1, CHAT)):
            for _ in range(ATTEMPTS):
                said = run(path, n, slow, command)
                found = named.findall(said)
                if len(found) == 1 and int(found[0][0]) == slow:  # and not of the second answer, too
                    break
            else:
                sys.exit(f"{command[0]}: rank {slow} of {n} was held up, and this was said:\n{said}")
            print(f"{command[0]}, rank {slow} of {n}: {found[0][1]} x slower")


main()
