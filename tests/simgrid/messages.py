#!/usr/bin/env python3
"""messages.py: SimGrid counts the messages of up to 64 ranks, and they are those that `coffer simulate` foretells.

The whole engine runs under SimGrid's smpirun (engine.c), with real numbers in its messages; what passes between which ranks is
read from SimGrid's own record of all MPI calls (its time-independent trace), not from coffer's books. Of two runs, one of which
makes some tokens more, the difference is what those tokens send. Compared with it are

  - `coffer simulate` for the same plan: messages a token, to the message; bytes a token in all and between hosts: what SimGrid
    saw is more by the envelopes around the payload, at least 1 and at most ENVELOPE bytes a message;
  - the engine's own books (--stats), link by link: the same number of messages on each, no link more or less.

What does not count: control messages (heartbeats, credits, farewells: a tag of their own). What is known to differ: the batch
that rank 0 sends to each other rank is no message of the simulation; and the embedding's row comes from that one rank whose
vocabulary has the token, which nobody knows beforehand: there each of N sends an N-th of it to all who want it.

Times mean little here: ranks look for messages every 10 us, and sleep up to half a millisecond. They are printed, and not compared."""
import argparse
import collections
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

TOKENS, FEW, ENVELOPE = 3, 2, 128
os.environ["COFFER_TEST_EVEN_HEAD"] = "1"  # both sides, whatever their links are said to be
ENVELOPE_TAG, PIECE_TAG = 1, 2  # transport/internal.h
SEND = re.compile(r"^(\d+) isend (\d+) (\d+) (\d+) ", re.M)
LINK = re.compile(r"(\d+) -> (\d+)(?: \(another host\))?: (\d+) messages, (\d+) bytes of payload")
ROW = re.compile(r"^(?:coffer: )?((?:PREFRONTAL|LEFT_HEMI|RIGHT_HEMI|TEMPORAL) +\d+-\d+ +0?.*\[.*)$", re.M)
MEMBER = re.compile(r"(\d+):\[(\d+),(\d+)\)")
MODELS = {
    "deep": "--layers 64 --dim 64 --heads 2 --kv-heads 1 --ffn 128 --vocab 600 --type q4_0",
    "wide": "--layers 16 --dim 256 --heads 8 --kv-heads 4 --ffn 1024 --vocab 1200 --type q4_0",
}
# model, ranks, hosts, layout, options
CASES = [("deep", 64, 16, "layers", []), ("wide", 64, 16, "hybrid", ["--stages", "16"]), ("wide", 16, 4, "tensor", [])]
MANY = [*CASES, ("wide", 64, 4, "hybrid", ["--stages", "4"]), ("wide", 64, 1, "hybrid", ["--stages", "8"]),
        ("wide", 64, 16, "domain", [])]
PLATFORM = """<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="cluster" prefix="host" suffix="" radical="0-{last}" speed="1Gf" bw="1.25GBps" lat="25us"
    loopback_bw="5GBps" loopback_lat="1us"/>
</platform>
"""
# One thread; no time passes while a rank computes; asking what time it is takes 10 us, so that polling comes to an end.
CONFIG = ["smpi/privatization:no", "smpi/simulate-computation:no", "smpi/test:0", "smpi/wtime:1e-5",
          "contexts/stack-size:1024", "tracing:yes", "tracing/smpi:yes", "tracing/smpi/format:TI", "tracing/filename:trace"]


def output(command, **more):
    r = subprocess.run(command, capture_output=True, text=True, errors="replace", **more)
    if r.returncode:
        sys.exit(f"exit {r.returncode}: {' '.join(command)}\n{r.stderr[-4000:]}")
    return r.stdout


def simulated_run(a, folder, case, tokens):
    """(rows of the plan, {(from, to): [messages, bytes]} as SimGrid saw it, {(from, to): messages} by coffer's books, seconds
    of virtual time)."""
    model, ranks, hosts, layout, more = case
    with open(os.path.join(folder, "platform.xml"), "w") as f:
        f.write(PLATFORM.format(last=hosts - 1))
    with open(os.path.join(folder, "hosts"), "w") as f:
        f.writelines(f"host{r * hosts // ranks}\n" for r in range(ranks))
    command = [a.smpirun, "-quiet", "-wrapper", a.engine, "-np", str(ranks), "-platform", "platform.xml", "-hostfile", "hosts",
               *(f"--cfg={c}" for c in CONFIG), a.rank, "run", "-m", model + ".gguf", "-p", "Once", "-n", str(tokens), "-c", "64",
               "--temp", "0", "--ignore-eos", "-t", "1", "--exchange", "messages", "--stats", "--verbose", "--timeout", "3600",
               "--layout", layout, *more]
    env = dict(os.environ, OMPI_COMM_WORLD_SIZE=str(ranks), COFFER_TEST_EQUAL_RANKS="1")
    p = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         errors="replace", start_new_session=True)  # a group of its own: smpirun leaves its child behind
    try:
        out = p.communicate(timeout=600)[0]
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        sys.exit(f"no end after 600 s: {' '.join(command)}\n{p.communicate()[0][-4000:]}")
    clock = re.search(r"^simulated: ([0-9.]+) s$", out, re.M)
    if p.returncode or not clock:
        sys.exit(f"exit {p.returncode}: {' '.join(command)}\n{out[-4000:]}")
    seen = collections.defaultdict(lambda: [0, 0])
    with open(os.path.join(folder, "trace")) as f:
        names = f.read().split()
    assert len(names) == ranks, names
    for name in names:
        with open(os.path.join(folder, name)) as f:
            for sender, to, tag, size in SEND.findall(f.read()):
                if int(tag) in (ENVELOPE_TAG, PIECE_TAG):
                    link = seen[int(sender), int(to)]
                    link[0] += int(tag) == ENVELOPE_TAG
                    link[1] += int(size)
        os.unlink(os.path.join(folder, name))
    books = collections.Counter({(int(m[0]), int(m[1])): int(m[2]) for m in LINK.findall(out)})
    return ROW.findall(out), seen, books, float(clock.group(1))


def members(rows, domain):
    """The ranks that hold something of a domain of layer 0."""
    row = next(r for r in rows if re.match(domain + r" +0-", r))
    return {int(rank) for rank, first, last in MEMBER.findall(row) if first != last}


def told_of_batches(rows):
    """The ranks to which rank 0 sends each batch: those that hold something."""
    return {int(rank) for row in rows for rank, first, last in MEMBER.findall(row) if first != last} - {0}


def embeddings_not_sent(rows):
    """Messages with an N-th of the embedding's row each, less those of the one rank that has it."""
    owners, holders = members(rows, "PREFRONTAL"), members(rows, "LEFT_HEMI") | members(rows, "RIGHT_HEMI")
    receivers = {len(holders - {owner}) for owner in owners}
    assert len(receivers) == 1, "how many receive the row depends on the token"
    return (len(owners) - 1) * receivers.pop()


def compare(a, folder, case):
    model, ranks, hosts, layout, more = case
    name = f"{layout} on {ranks} ranks of {hosts} hosts{' ' if more else ''}{' '.join(more)}"
    here = ["-m", model + ".gguf", "--ranks", str(ranks), "--hosts", str(hosts), "--threads", "1", "--bandwidth", "10", "-c", "64",
            "--layout", layout, *more]
    rows = ROW.findall(output([a.coffer, "plan", *here], cwd=folder))
    s = json.loads(output([a.coffer, "simulate", *here, "-b", "1", "-p", "0", "-o", "json"], cwd=folder))["simulations"][0]
    (rows_a, seen_a, books_a, time_a), (rows_b, seen_b, books_b, time_b) = (
        simulated_run(a, folder, case, FEW + n) for n in (0, TOKENS))
    if not rows or rows_a != rows or rows_b != rows:
        sys.exit(f"{name}: the plan is not the one that `coffer plan` makes:\n" + "\n".join([*rows, "--", *rows_a]))
    links = {k: [y - x for x, y in zip(seen_a[k], seen_b[k])] for k in seen_b}
    wrong = [f"{f} -> {t}: SimGrid saw {links.get((f, t), [0])[0]} messages, coffer counted {books_b[f, t] - books_a[f, t]}"
             for f, t in sorted(set(links) | set(books_b))
             if links.get((f, t), [0])[0] != books_b[f, t] - books_a[f, t]]
    between = [v for (f, t), v in links.items() if f * hosts // ranks != t * hosts // ranks]
    messages, size = (sum(v[i] for v in links.values()) / TOKENS for i in (0, 1))
    far, far_size = (sum(v[i] for v in between) / TOKENS for i in (0, 1))
    want = s["messages_per_token"] - embeddings_not_sent(rows) + len(told_of_batches(rows))
    if messages != want:
        wrong.append(f"{messages} messages a token, simulated {want}")
    for what, n, got, foretold in (("", messages, size, s["bytes_per_token"]),
                                   (" between hosts", far, far_size, s["bytes_between_hosts_per_token"])):
        if not n <= got - foretold <= ENVELOPE * n:
            wrong.append(f"{got} bytes{what} a token in {n} messages, simulated {foretold} of payload")
    print(f"{name}: SimGrid saw {messages:g} messages a token, simulated {want:g}; {size:.0f} bytes, {far_size:.0f} of them between "
          f"hosts, simulated {s['bytes_per_token']:.0f} and {s['bytes_between_hosts_per_token']:.0f} of payload; "
          f"{1e3 * (time_b - time_a) / TOKENS:.2f} ms of virtual time{': DIFFERENT' if wrong else ''}", flush=True)
    for line in wrong[:20]:
        print(f"    {line}", flush=True)
    return not wrong


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--coffer", required=True)
    for name in ("--smpirun", "--engine", "--rank"):
        p.add_argument(name)
    p.add_argument("--case", type=int, action="append", help="only this one, from 0")
    p.add_argument("--many", action="store_true", help="more layouts of 64 ranks")
    a = p.parse_args()
    if not a.smpirun or not os.path.exists(a.smpirun):
        print("skipped: there is no smpirun (Debian's libsimgrid-dev), or there was none when the build was configured, or it is "
              "one with sanitizers")
        sys.exit(77)
    a.coffer, a.engine, a.rank = map(os.path.abspath, (a.coffer, a.engine, a.rank))
    with tempfile.TemporaryDirectory() as folder:
        for name, options in MODELS.items():
            output([a.coffer, "synth", "--arch", "llama", "-o", name + ".gguf", "--seed", "1", *options.split()], cwd=folder)
        results = [compare(a, folder, c) for i, c in enumerate(MANY if a.many else CASES) if a.case is None or i in a.case]
    sys.exit(False in results)


main()
