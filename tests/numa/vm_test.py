#!/usr/bin/env python3
"""vm_test.py COFFER [MACHINE...]: coffer run on machines with several NUMA nodes, which deploy/testbed/numa-vm boots (QEMU,
no KVM). Each line of the table is one run inside; outside, one rank on this machine says what must come out: the same ids,
the same logits bit for bit (there with the scalar kernels, here with the best ones), each rank on the node expected, every
page on its node, and nobody killed for want of memory. Without names: all machines of machines.py, about ten minutes.
Status 77: skipped, and why."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
bed = os.path.join(here, "../../deploy/testbed")
sys.path.insert(0, here)
from machines import MACHINES, MODELS  # noqa: E402

# In the guest: try NAME COMMAND... leaves NAME.out, NAME.err and NAME.status; $run is coffer with the model's options.
LIBRARY = """
export COFFER_ISA=scalar OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
try() { local name=$1; shift; "$@" >$dir/$name.out 2>$dir/$name.err; echo $? >$dir/$name.status; }
hosts() { %(bed)s/hosts "$@"; }
"""
KILLED = "oom-kill|Out of memory|invoked oom"


class Bench:
    def __init__(self, coffer, folder):
        self.coffer, self.folder, self.wanted, self.failed = coffer, folder, {}, 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), errors="replace") as f:
            return f.read()

    def command(self, model):
        return [self.coffer, "run", "-m", self.path(model + ".gguf"), "--prompt-ids", "1,5,9,301,77", "--temp", "0",
                "--ignore-eos", "--json", *MODELS[model]["run"].split()]

    def reference(self, model):
        """What one rank on this machine computes."""
        if model not in self.wanted:
            subprocess.run([self.coffer, "synth", *MODELS[model]["synth"].split(), "--seed", "1", "-o", self.path(model + ".gguf")],
                           check=True, stderr=subprocess.DEVNULL)
            p = subprocess.run(self.command(model), check=True, capture_output=True)
            self.wanted[model] = json.loads(p.stdout)
        return self.wanted[model]

    def boot(self, machine):
        """Runs all of a machine's lines in one guest."""
        script = [f"dir={self.folder}", LIBRARY % {"bed": bed}]
        for name, what in machine["runs"].items():
            run = " ".join(self.command(what.get("model", "tiny")))
            script.append(f"coffer={self.coffer} run='{run}'")
            script.append(what["before"] if "before" in what else "")
            script.append(f"try {name} " + what["run"])
        script.append(f"dmesg | grep -E '{KILLED}' >$dir/killed; true")
        with open(self.path("script"), "w") as f:
            f.write("\n".join(script) + "\n")
        p = subprocess.run([bed + "/numa-vm", "--rw", self.folder, "--timeout", "500", *machine["options"].split(), "--", "bash",
                            self.path("script")], capture_output=True, text=True)
        return [] if p.returncode == 0 else [f"the guest ended with status {p.returncode}", (p.stdout + p.stderr)[-1500:]]

    def judge(self, name, what):
        """What is wrong with one run."""
        status, said, wrong = int(self.read(name + ".status")), self.read(name + ".err"), []
        wrong += [f"stderr lacks '{text}'" for text in what.get("says", ()) if text not in said]
        refused = what.get("refused")
        if status and "may_refuse" in what:
            refused = 1
            if what["may_refuse"] not in said:
                wrong.append(f"stderr lacks '{what['may_refuse']}'")
        if refused is not None:
            if status != refused:
                wrong.append(f"status {status}, not {refused}")
            if " GiB, " in said:
                wrong.append("it has loaded the model first")
        elif status:
            wrong.append(f"status {status}")
        else:
            got, want = json.loads(self.read(name + ".out")), self.reference(what.get("model", "tiny"))
            ranks = got["plan"]["ranks"]
            wrong += [f"{key} is {got[key]}, not {want[key]}" for key in ("ids", "logits_xxh64") if got[key] != want[key]]
            for key, wanted in (("node", what["nodes"]), ("host", what.get("hosts"))):
                if wanted is not None and [r[key] for r in ranks] != wanted:
                    wrong.append(f"{key}s are {[r[key] for r in ranks]}, not {wanted}")
            if min(r["local_percent"] for r in ranks) < 100:
                wrong.append(f"local: {[r['local_percent'] for r in ranks]} %")
        return wrong + [said[-1000:]] if wrong else []

    def try_machine(self, name):
        machine = MACHINES[name]
        for what in machine["runs"].values():
            self.reference(what.get("model", "tiny"))
        print(f"== {name}: {machine['options']}", flush=True)
        wrong = self.boot(machine)
        if wrong:
            self.say(name, wrong)
            return
        for run, what in machine["runs"].items():
            self.say(run, self.judge(run, what))
        if self.read("killed"):
            self.say(name, ["killed for want of memory:", self.read("killed")])

    def say(self, name, wrong):
        self.failed += bool(wrong)
        print("\n        ".join(["FAILED  " + name] + wrong) if wrong else "ok      " + name, flush=True)


def main():
    coffer, names = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(MACHINES)
    check = subprocess.run([bed + "/numa-vm", "check"], capture_output=True, text=True)
    reason = check.stdout.strip() if check.returncode == 77 else None if shutil.which("mpirun") else "no mpirun"
    if reason:
        print("skipped:", reason)
        return 77
    with tempfile.TemporaryDirectory(prefix="coffer-vm-") as folder:
        bench = Bench(coffer, folder)
        for name in names:
            bench.try_machine(name)
    print(f"{bench.failed} wrong" if bench.failed else "all as expected")
    return 1 if bench.failed else 0


sys.exit(main())
