"""What passes between hosts as f16 or q8 (--wire): the ranks of this machine count as two hosts (COFFER_TEST_HOSTS).

f32 gives the bits of one rank; f16 and q8 give the same bits whenever the plan cuts hosts apart at the same place,
however many ranks a host has; all copies of the hidden state stay equal; logits and perplexity stay near those of f32;
and as many bytes travel as the types say. The figures are printed."""
import array
import os
import re
import subprocess
import sys

from common import Clock, Runs, arguments, environment, start

HOSTS = {"COFFER_TEST_HOSTS": "2", "COFFER_TEST_EQUAL_RANKS": "1"}
# Largest |logit - that of f32| over the largest |logit|, and the error that the senders report (rms; of a line's largest).
# The model has float matrices: with quantised ones any change, the smallest one too, lets activations fall on the other
# side when they are rounded, and moves the logits of a random model by a few percent.
BOUNDS = {"f16": (4e-3, 3e-4, 2.0 ** -11), "q8": (0.08, 7e-3, 1 / 253.9)}


def check(condition, what):
    if not condition:
        sys.exit(what)


def command(a, model, *options):
    return [a.coffer, "run", "-m", os.path.join(a.models, model + ".gguf"), "-t", "1", "--temp", "0", "--ignore-eos", *options]


def stderr_of(ranks, words, extra, fails=False):
    """Of a run on so many ranks: what it says on stderr."""
    env, _ = environment({})
    env.update(extra)
    head = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    r = subprocess.run(head + words, env=env, capture_output=True, timeout=120)
    text = r.stderr.decode(errors="replace")
    check((r.returncode != 0) == fails, f"exit {r.returncode}: {' '.join(words)}\n{text}")
    return text


def same_bits(a):
    """Layouts whose hosts are cut apart at the same layer: the same bits, whoever else is on a host; run after run."""
    exact = Runs(a, "m_q8_0", 100, 700, n=4)
    exact.check(1)
    for ranks, layout in ((3, "tensor"), (4, "hybrid"), (3, "domain")):
        exact.check(ranks, "--layout", layout, "--wire", "f32", env=HOSTS)
    few = Runs(a, "m_q8_0", 20, 700, n=2)  # by shares on three hosts, whole on one
    few.check(3, "--layout", "tensor")
    few.check(3, "--layout", "tensor", "--wire", "f32", env=dict(HOSTS, COFFER_TEST_HOSTS="3"))
    n = exact.count + few.count
    for wire, groups in (("f16", ((2, "layers", 4, "hybrid"), (3, "tensor", 3, "tensor"))),
                         ("q8", ((2, "hybrid", 4, "hybrid"), (3, "tensor", 3, "tensor"), (4, "domain", 4, "domain")))):
        for group in groups:
            runs = Runs(a, "m_q8_0", 100, 700, n=4)
            for ranks, layout in (group[:2], group[2:]):
                runs.check(ranks, "--layout", layout, "--wire", wire, env=HOSTS)
            check(runs.reference[1] != exact.reference[1], f"--wire {wire} has rounded nothing")
            n += runs.count
    for ranks, layout in ((4, "hybrid"), (3, "domain")):  # 48 columns, heads of 16: lines are no whole blocks
        odd = Runs(a, "odd", 100, 301, n=4)
        for _ in range(2):
            odd.check(ranks, "--layout", layout, "--wire", "q8", env=HOSTS)
        n += odd.count
    print(f"{n} runs agree")


def auto(a):
    """Whatever the planner takes: the same as when it is named."""
    for layout in ("tensor", "layers"):
        chosen = Runs(a, "m_q8_0", 100, 700, n=4)
        got = chosen.run(3, "--layout", layout, "--wire", "auto", env=HOSTS)
        plan, chosen.reference = got["plan"], (got["ids"], got["logits_xxh64"])
        check(plan["layout"] == layout and plan["wire"] in ("f32", "f16", "q8"), f"{plan}")
        chosen.check(3, "--layout", layout, "--wire", plan["wire"], env=HOSTS)
    print(f"--wire auto: {plan['wire']}")


def replicas(a):
    path = os.path.join(a.models, "m_q8_0.gguf")
    lines = []
    for ranks, hosts in ((2, 2), (3, 2), (4, 3)):
        lines.append(start(ranks, [a.replicas, path], {"COFFER_TEST_HOSTS": str(hosts)}, timeout=60).splitlines())
    exact = [[line for line in of_run if line.startswith("f32")] for of_run in lines]
    check(all(len(x) == 6 for x in lines) and exact[0] == exact[1] == exact[2], f"{lines}")
    text = stderr_of(3, [a.replicas, path, "spoil"], HOSTS, fails=True)
    check("rank 2 (" in text and "has another model" in text, f"a spoiled copy was not seen:\n{text}")
    print(f"{sum(map(len, lines))} batches left all copies equal")


def logits_of(a, wire, layout):
    """Of the token behind a prompt, and what the run says about its plan."""
    dump = os.path.join(a.models, f"wire-{wire}-{layout}.f32")
    plan = Runs(a, "m_f32", 40, 700, n=1).run(3, "--layout", layout, "--wire", wire, "--dump-logits", dump, env=HOSTS)["plan"]
    values = array.array("f")
    with open(dump, "rb") as f:
        values.frombytes(f.read())
    os.remove(dump)
    return values, plan


def errors(a):
    for layout in ("hybrid", "tensor"):
        exact, plan = logits_of(a, "f32", layout)
        check(plan["wire"] == "f32" and plan["wire_rms"] is None, f"{plan}")
        most = max(abs(x) for x in exact)
        for wire, (bound, rms, largest) in BOUNDS.items():
            got, plan = logits_of(a, wire, layout)
            error = max(abs(x - y) for x, y in zip(exact, got)) / most
            print(f"{layout}, {wire}: logits differ by {error:.5f} of the largest; rounding {plan['wire_rms']:.6f} rms, "
                  f"at most {plan['wire_most']:.6f}")
            check(0 < error <= bound, f"{layout}, {wire}: logits differ by {error} of the largest, more than {bound}")
            check(plan["wire"] == wire and 0 < plan["wire_rms"] < rms and 0 < plan["wire_most"] <= largest, f"{plan}")
    words = command(a, "m_q8_0", "--prompt-ids", "1,2,3", "-n", "2", "--layout", "hybrid", "--wire", "q8")
    text = stderr_of(2, words + ["--verbose"], HOSTS)
    check(re.search(r"wire q8, all: \d+ numbers rounded, error 0\.\d+ % \(rms\), at most 0\.3\d+ %", text), text)
    check("wire q8, hidden state: " in text, text)
    check("wire q8" not in stderr_of(2, words, {}), "an error on one host")


def perplexity(a):
    """Of the shipped model, on text that it was not trained on."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    words = [a.coffer, "perplexity", "-m", os.path.join(root, "deploy", "models", "stories.gguf"), "-f",
             os.path.join(root, "tests", "train", "heldout.txt"), "-c", "128", "-t", "1", "--layout", "tensor"]
    found = {}
    for wire in ("f32", "f16", "q8"):
        text = start(2, words + ["--wire", wire], HOSTS, timeout=120)
        found[wire] = float(re.search(r"Final estimate: PPL = ([\d.]+)", text).group(1))
    print("perplexity of the story model, sums of every layer between two hosts: "
          + ", ".join(f"{wire} {ppl:.4f}" for wire, ppl in found.items()))
    check(abs(found["f16"] / found["f32"] - 1) < 0.002 and abs(found["q8"] / found["f32"] - 1) < 0.02, f"{found}")


def payloads(a, ranks, wire, layout):
    """Bytes of payload between hosts."""
    ids = ",".join(str(i) for i in range(1, 71))
    text = stderr_of(ranks, command(a, "m_q8_0", "--prompt-ids", ids, "-n", "3", "--stats", "--layout", layout, "--wire", wire), HOSTS)
    return sum(int(n) for n in re.findall(r"\(another host\): \d+ messages, (\d+) bytes of payload", text))


def bytes_on_links(a):
    """Hidden rows of 256: 1024 bytes each as f32, 512 as f16, 8 x 36 as q8. 72 rows go there, 3 come back."""
    for ranks, layout, times, wire, row in ((2, "layers", 1, "f32", 1024), (2, "layers", 1, "f16", 512),
                                            (4, "hybrid", 2, "q8", 288)):
        n = payloads(a, ranks, wire, layout)
        check(n == times * 75 * row, f"{layout}, {wire}: {n} bytes between hosts, not {times} x 75 x {row}")
    n = {wire: payloads(a, 3, wire, "tensor") for wire in BOUNDS | {"f32": 0}}
    print(f"tensor, bytes between hosts: {n}")
    check(n["q8"] < n["f16"] < n["f32"], f"tensor: {n}")


def bench(a):
    r = start(2, [a.coffer, "bench", "-m", os.path.join(a.models, "m_q8_0.gguf"), "-p", "64", "-n", "2", "-r", "1", "-t", "1",
                  "--wire", "f32,q8", "--layout", "hybrid", "-o", "csv"], dict(HOSTS, COFFER_TEST_READ_MIB="8"))
    rows = [line.split(",") for line in r.splitlines()]
    at = [rows[0].index(name) for name in ("test", "wire", "wire_rms", "wire_most")]
    got = [[row[i] for i in at] for row in rows[1:]]
    check([x[:2] for x in got] == [["pp64", "f32"], ["tg2", "f32"], ["pp64", "q8"], ["tg2", "q8"]], r)
    check([bool(x[2]) and bool(x[3]) for x in got] == [False, False, True, True], r)


def wrong(a):
    text = stderr_of(1, command(a, "m_q8_0", "--prompt-ids", "1", "--wire", "q4"), {}, fails=True)
    check("--wire q4 is unknown; known: f32, f16, q8, auto" in text, text)


def main():
    a = arguments()
    a.replicas = os.path.abspath(a.what)
    clock = Clock()
    for part in (wrong, bench, bytes_on_links, auto, same_bits, errors, replicas, perplexity):
        part(a)
        print(f"{part.__name__}: {clock}", flush=True)


main()
