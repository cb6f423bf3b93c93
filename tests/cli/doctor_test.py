#!/usr/bin/env python3
"""doctor_test.py COFFER SICK: coffer doctor from outside. SICK is a library that makes a rank ill (sick.c): every illness is
found on that rank and on no other, and a rank that cannot answer keeps nobody waiting."""
import json, os, shutil, signal, subprocess, sys, tempfile, time, unittest

coffer, sick = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
CHECKS = ["rank", "program", "binding", "cores", "governor", "memory", "numa", "balancing", "huge pages", "memlock", "shm", "model", "clock", "link"]

def environment(**more):
    drop = ("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(drop)}, **more}

class Doctor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="coffer-doctor-")
        cls.model = cls.dir + "/model.gguf"
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "2", "--dim", "256", "--vocab", "500", "--seed", "1", "-o", cls.model],
                       check=True, stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def doctor(self, *words, ranks=2, status=0, program=coffer, **env):
        mpirun = [*MPIRUN, "-n", str(ranks)] if ranks else []
        p = subprocess.run([*mpirun, program, "doctor", "--json", *words], env=environment(**env), capture_output=True, timeout=60,
                           stdin=subprocess.DEVNULL)
        self.assertEqual(p.returncode, status, p.stderr.decode())
        got = json.loads(p.stdout)
        self.assertEqual(got["state"] == "fail", status == 1)
        return [{c["check"]: c for c in r["checks"]} for r in got["ranks"]], got

    def ill(self, illness, rank=1, **more):
        return self.doctor("-m", self.model, LD_PRELOAD=sick, SICK=illness, SICK_RANK=str(rank), **more)[0]

    def test_alone(self):
        ranks, got = self.doctor(ranks=0)
        self.assertEqual(len(ranks), 1)
        self.assertEqual(list(ranks[0]), CHECKS)
        self.assertEqual(got["ranks"][0]["links"], [])

    def test_every_rank_answers(self):
        for how in ([*MPIRUN, "-n", "3", coffer, "doctor"], [coffer, "doctor", "--ranks", "3"]):
            p = subprocess.run([*how, "-m", self.model, "--whole", "--json"], env=environment(), capture_output=True, timeout=60)
            self.assertEqual(p.returncode, 0, p.stderr)
            got = json.loads(p.stdout)
            for r in got["ranks"]:
                self.assertEqual([c["check"] for c in r["checks"]], CHECKS)
            self.assertEqual([link["to"] for link in got["ranks"][0]["links"]], [1, 2])
            for link in got["ranks"][0]["links"]:
                self.assertTrue(0 < link["latency_s"] < 1 and link["bytes_per_s"] > 1e6 and abs(link["clock_s"]) < 1, link)

    def test_table(self):
        p = subprocess.run([*MPIRUN, "-n", "2", coffer, "doctor", "-m", self.model], env=environment(), capture_output=True, timeout=60, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertRegex(p.stdout, r"(?m)^0-1 +model +ok +\d+ bytes, header [0-9a-f]{16}, samples of its content [0-9a-f]{16}$")  # equal rows are one
        self.assertRegex(p.stdout, r"(?m)^2 ranks: \d+ ok, \d+ warnings?, 0 failures$")

    def test_numa_forbidden(self):
        """What a container's seccomp profile does: seen because it is tried."""
        ranks = self.ill("numa")
        self.assertRegex(ranks[1]["numa"]["found"], "mbind: Operation not permitted.*move_pages: Operation not permitted")
        self.assertNotIn("not permitted", ranks[0]["numa"]["found"])

    def test_memlock(self):
        ranks = self.ill("memlock")
        self.assertRegex(ranks[1]["memlock"]["found"], "^0 MiB")
        self.assertNotRegex(ranks[0]["memlock"]["found"], "^0 MiB")

    def test_clock(self):
        ranks = self.ill("clock")
        self.assertEqual(ranks[1]["clock"]["state"], "warn")
        self.assertRegex(ranks[1]["clock"]["found"], r"^\+[45]\.\d+ s against rank 0")
        ranks = self.ill("clock", rank=0)
        self.assertRegex(ranks[1]["clock"]["found"], r"^-[45]\.\d+ s against rank 0")

    def test_one_core_for_all(self):
        """As Open MPI does with several hosts on one machine: all on core 0. Seen in the bindings, and in the time the core gives."""
        p, _ = self.doctor(LD_PRELOAD=sick, SICK="core")
        for rank, other in ((0, 1), (1, 0)):
            cores = p[rank]["cores"]
            self.assertEqual(cores["state"], "warn", cores)
            self.assertRegex(cores["found"], rf"^core \d+ also belongs to rank {other} ")
            share = float(cores["found"].split("gives ")[1].split(" %")[0])
            self.assertLess(share, 85)

    def wrapper(self, line):
        path = self.dir + "/wrapper"
        with open(path, "w") as f:
            f.write(f'#!/bin/bash\n{line}\nexec {coffer} "$@"\n')
        os.chmod(path, 0o755)
        return path

    def test_model_missing(self):
        program = self.wrapper('[ "$OMPI_COMM_WORLD_RANK" = 1 ] && set -- doctor --json -m /nowhere.gguf')
        ranks, _ = self.doctor("-m", self.model, ranks=3, status=1, program=program)
        self.assertEqual(ranks[1]["model"]["state"], "fail")
        self.assertRegex(ranks[1]["model"]["found"], r"/nowhere\.gguf: No such file")
        self.assertEqual([ranks[r]["model"]["state"] for r in (0, 2)], ["ok", "ok"])

    def test_model_differs(self):
        other = self.dir + "/other.gguf"
        shutil.copy(self.model, other)
        size = os.path.getsize(other)
        with open(other, "r+b") as f:  # one bit, behind the header
            f.seek(size // 2)
            byte = f.read(1)[0]
            f.seek(size // 2)
            f.write(bytes([byte ^ 1]))
        for more in ([], ["--whole"]):
            program = self.wrapper(f'[ "$OMPI_COMM_WORLD_RANK" = 1 ] && set -- doctor --json -m {other} {" ".join(more)}')
            ranks, _ = self.doctor("-m", self.model, *more, status=1, program=program)
            self.assertEqual((ranks[0]["model"]["state"], ranks[1]["model"]["state"]), ("ok", "fail"))
            self.assertIn("another", ranks[1]["model"]["advice"])

    def end(self, *words, limit=25, **env):
        """Status, stdout, stderr of a doctor that must end by itself."""
        began = time.time()
        p = subprocess.Popen([*MPIRUN, "--mca", "odls_base_sigkill_timeout", "0", "-n", "3", *words], env=environment(**env), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            out, err = p.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            self.fail(f"still there after {time.time() - began:.0f} s: {p.communicate()}")
        return p.returncode, out, err

    def test_stopped_rank(self):
        """Rank 1 stops in the middle: the table comes all the same, with rank 0's own findings, and names rank 1."""
        status, out, err = self.end(coffer, "doctor", "--timeout", "4", "--json", LD_PRELOAD=sick, SICK="stop", SICK_RANK="1")
        self.assertEqual(status, 1, err)
        self.assertRegex(err, r"coffer doctor: (rank 2 \([^)]*\): )?rank 1 \([^)]*\) gave no sign of life for 4 s")
        ranks = [{c["check"]: c for c in r["checks"]} for r in json.loads(out)["ranks"]]
        self.assertEqual([ranks[r]["rank"]["state"] for r in range(3)], ["ok", "fail", "ok"])
        self.assertRegex(ranks[1]["rank"]["found"], "no sign of life")
        self.assertEqual(ranks[0]["numa"]["state"], "ok")

    def test_rank_that_never_comes(self):
        """It hangs before MPI is up: nobody can say which one it is, but nobody waits for ever either."""
        program = self.wrapper('[ "$OMPI_COMM_WORLD_RANK" = 1 ] && kill -STOP $$')
        status, out, err = self.end(program, "doctor", "--timeout", "1")
        self.assertEqual(status, 1, err)
        self.assertRegex(err, r"coffer doctor: not all ranks came within the time limit")

    def test_usage(self):
        for words in (["--ranks", "x"], ["--whole"], ["more"], ["--no-such"]):
            p = subprocess.run([coffer, "doctor", *words], env=environment(), capture_output=True, timeout=20)
            self.assertEqual((p.returncode, p.stdout), (2, b""), words)

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)
