#!/usr/bin/env python3
"""calibrate_test.py COFFER: what `coffer calibrate` prints is complete and of the right size, for 1 to 3 ranks on one or two
"hosts"; the host's file of kernel rates is renewed; a file is read past the page cache, or it is said why not."""
import json, os, shutil, subprocess, sys, tempfile, unittest

coffer = os.path.abspath(sys.argv.pop(1))
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
drop = ("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_")
env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", COFFER_TEST_READ_MIB="16")
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "IQ2_XXS", "MXFP4"]


class Calibrate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="coffer-calibrate-")
        cls.model = cls.dir + "/model.gguf"
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "2", "--dim", "256", "--heads", "8", "--kv-heads", "2", "--vocab",
                        "500", "-o", cls.model], check=True, stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def calibrate(self, *words, ranks=0, status=0, seconds="0.002", **more):
        start = [*MPIRUN, "-n", str(ranks)] if ranks else []
        p = subprocess.run([*start, coffer, "calibrate", "--seconds", seconds, *words], capture_output=True, text=True, timeout=120,
                           env={**env, "COFFER_CALIBRATION": self.dir + "/rates.json", **more}, stdin=subprocess.DEVNULL)
        self.assertEqual(p.returncode, status, p.stderr)
        return p.stdout if status == 0 else p.stderr

    def check_rank(self, r, threads):
        self.assertEqual(r["threads"], threads)
        self.assertGreater(r["bandwidth"], 1e8)
        self.assertEqual(len(r["noise"]), 8)
        self.assertEqual(r["noise"], sorted(r["noise"]))
        self.assertGreaterEqual(r["noise"][0], 1)
        self.assertTrue(0 < r["step_s"] < 1)
        self.assertGreater(r["memory_free"], 1 << 26)
        self.assertEqual(r["huge_page"] % 4096, 0)
        for k in r["kernels"]:
            self.assertGreater(k["attention"], 1e6)
            self.assertGreater(k["between"], 1e6)
            for t in TYPES:
                self.assertGreater(k["rates"][t], 1e6, (k["isa"], t))
                self.assertTrue(1e5 < k["one_row"][t], (k["isa"], t))
                self.assertTrue(1e5 < k["eight_rows"][t], (k["isa"], t))

    def test_ranks_and_hosts(self):
        for ranks, hosts in ((1, 1), (2, 2), (3, 2)):
            with self.subTest(ranks=ranks):
                r = json.loads(self.calibrate("--json", "-t", "1", "-m", self.model, ranks=ranks, COFFER_TEST_HOSTS=str(hosts)))
                self.assertEqual([x["rank"] for x in r["ranks"]], list(range(ranks)))
                for x in r["ranks"]:
                    self.check_rank(x, 1)
                    self.assertEqual(len(x["kernels"]), 1)
                # "Hosts" of one machine: the first rank on a node looks how fast it reads while the others rest.
                self.assertTrue(ranks == 1 or r["ranks"][0]["alone"] >= 1, r["ranks"][0])
                self.assertIsNone(r["ranks"][-1]["alone"])
                pairs = [(a, b) for a in range(ranks) for b in range(a + 1, ranks)]
                self.assertEqual([(x["from"], x["to"]) for x in r["links"]], pairs)
                # Ranks are dealt to "hosts" in order: of three the first two share one.
                self.assertEqual([x["same_host"] for x in r["links"]], [] if ranks == 1 else [False] if ranks == 2 else [True, False, False])
                for x in r["links"]:
                    self.assertEqual([s["bytes"] for s in x["one_way"]], [8, 16384, 1 << 20])
                    self.assertTrue(all(0 < s["seconds"] < 5 and 0 < s["both_ways_s"] < 5 for s in x["one_way"]))
                    self.assertEqual(x["latency_s"], x["one_way"][0]["seconds"])
                    self.assertAlmostEqual(x["bytes_per_s"] * x["one_way"][2]["seconds"] / (1 << 20), 1, places=5)
                self.assertEqual([h["first_rank"] for h in r["hosts"]], [0] if ranks == 1 else [0, 1] if ranks == 2 else [0, 2])
                for h in r["hosts"]:
                    if "refused" in h["file"]:
                        self.assertIn(self.model, h["file"]["refused"])
                    else:
                        self.assertTrue(0.7 * os.path.getsize(self.model) < h["file"]["bytes"] < os.path.getsize(self.model), h)
                        self.assertGreater(h["file"]["bytes_per_s"], 0)

    def test_described(self):
        """What --describe writes is what --cluster reads, with the figures that were measured."""
        path = self.dir + "/cluster.json"
        for ranks, hosts in ((1, 1), (3, 2)):
            r = json.loads(self.calibrate("--json", "-t", "1", "--describe", path, ranks=ranks, COFFER_TEST_HOSTS=str(hosts)))
            with open(path) as f:
                d = json.load(f)
            nodes = [n for h in d["hosts"] for n in h["nodes"]]
            self.assertEqual((len(d["hosts"]), len(nodes)), (hosts, ranks))
            for rank, node in zip(r["ranks"], nodes):
                self.assertEqual(node["cores"], 1)
                self.assertAlmostEqual(node["bandwidth_gbs"] / (1e-9 * rank["bandwidth"]), 1, places=3)
                self.assertLess(node["memory_gib"] * 0.95 * (1 << 30), 1.001 * rank["memory_free"])
                rates = {name.upper(): 1e9 * v for name, v in d["hosts"][0]["gmacs_per_core"].items()}
                self.assertAlmostEqual(rates["Q4_0"] / r["ranks"][0]["kernels"][0]["rates"]["Q4_0"], 1, places=3)
            if hosts == 2:
                if r["ranks"][0]["node"] == r["ranks"][1]["node"]:  # of the first host's two ranks each has half of it
                    self.assertLess(nodes[0]["memory_gib"], 0.6 * nodes[2]["memory_gib"])
                apart = [x for x in r["links"] if not x["same_host"]]
                for h in d["hosts"]:
                    self.assertAlmostEqual(h["latency_us"] / min(1e6 * x["latency_s"] for x in apart), 1, places=3)
                    self.assertAlmostEqual(h["gbit"] * 117e6 / max(x["bytes_per_s"] for x in apart), 1, places=2)
                self.assertAlmostEqual(d["inside"]["latency_us"] / min(1e6 * x["latency_s"] for x in r["links"] if x["same_host"]), 1, places=3)
            p = subprocess.run([coffer, "plan", "-m", self.model, "--cluster", path], capture_output=True, text=True, env=env)
            self.assertEqual(p.returncode, 0, p.stderr)
            self.assertIn("predicted: ", p.stdout)
            for word in "read bandwidth", "instruction set", "multiply-adds per second", "latency between", "bandwidth between":
                self.assertNotIn("assumed: " + word, p.stdout)
        with open(path) as f:
            before = f.read()
        self.calibrate("--describe", path, "-m", self.dir + "/nowhere.gguf", "--ranks", "2", status=1)
        with open(path) as f:
            self.assertEqual(f.read(), before)
        said = self.calibrate("--describe", self.dir + "/nowhere/x", "--ranks", "2", status=1)
        self.assertIn("--describe: " + self.dir + "/nowhere/x: No such file or directory", said)

    def test_rates_are_renewed(self):
        """What was kept before is gone, even if it was better; every type has its line; a start then finds them."""
        path = self.dir + "/rates.json"
        isa = json.loads(self.calibrate("--json", "-t", "1"))["ranks"][0]["kernels"][0]["isa"]
        with open(path, "w") as f:
            json.dump({f"{isa}, 1 threads, Q4_0": 1e17, "scalar, 99 threads, Q4_0": 5.0}, f)
        r = json.loads(self.calibrate("--json", "-t", "1", ranks=2))
        self.assertEqual(r["rates_file"], path)
        with open(path) as f:
            kept = json.load(f)
        self.assertNotIn("scalar, 99 threads, Q4_0", kept)
        tables = [x["kernels"][0] for x in r["ranks"]]
        for isa in {k["isa"] for k in tables}:  # ranks may choose other tables, where AMX has lost against AVX-512 for some type
            same = [k for k in tables if k["isa"] == isa]
            for t in TYPES:
                for key, rows in (("rates", ""), ("one_row", ", one row"), ("eight_rows", ", 8 rows")):
                    best = max(k[key][t] for k in same)
                    self.assertAlmostEqual(kept[f"{isa}, 1 threads, {t}{rows}"] / best, 1, places=5)
            self.assertEqual(len([name for name in kept if name.startswith(f"{isa}, 1 threads, attention")]), 1)
            best = max(k["between"] for k in same)
            self.assertAlmostEqual(kept[f"{isa}, 1 threads, between products"] / best, 1, places=5)
        self.assertFalse([name for name in kept if kept[name] == 1e17], kept)

    def test_bench_keeps_the_best(self):
        """What bench measures of products lies in the file, unless something better does: that then counts."""
        path = self.dir + "/bench.json"

        def bench():
            p = subprocess.run([coffer, "bench", "-m", self.model, "--ranks", "1", "-t", "1", "-p", "64", "-n", "0", "-r", "1", "-o", "json"],
                               capture_output=True, text=True, timeout=120, env={**env, "COFFER_CALIBRATION": path, "COFFER_ISA": "scalar"}, stdin=subprocess.DEVNULL)
            self.assertEqual(p.returncode, 0, p.stderr)
            with open(path) as f:
                return json.loads(p.stdout)["tests"][0]["tps_predicted"], json.load(f)
        _, kept = bench()
        many = {name: rate for name, rate in kept.items() if any(name.endswith(", " + t) for t in TYPES)}
        self.assertTrue(many, kept)
        slow, _ = bench()
        with open(path, "w") as f:
            json.dump({**kept, **{name: 1e17 for name in many}}, f)
        fast, kept = bench()
        self.assertTrue(all(kept[name] == 1e17 for name in many), kept)
        self.assertGreater(fast, 1.5 * slow)

    def test_all_tables(self):
        r = json.loads(self.calibrate("--json", "--isa", "all", "-t", "1", seconds="0.001"))
        names = [k["isa"] for k in r["ranks"][0]["kernels"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("scalar", names)
        self.assertGreater(len(names), 1, "this machine has more than the scalar table")
        self.check_rank(r["ranks"][0], 1)
        chosen = json.loads(self.calibrate("--json", "-t", "1", COFFER_ISA="scalar"))["ranks"][0]["kernels"]
        self.assertEqual([k["isa"] for k in chosen], ["scalar"])

    def test_refused(self):
        """Where a file cannot be read past the page cache that is said, and the rest is there."""
        shm = f"/dev/shm/coffer-test-{os.getpid()}.gguf"  # of this name the tests of failures, beside us, know that it is not theirs
        shutil.copy(self.model, shm)
        try:
            out = self.calibrate("-m", shm, "-t", "1")
        finally:
            os.unlink(shm)
        self.assertRegex(out, r"\| - \| O_DIRECT is refused: .*coffer-test-|MiB past the page cache")

    def test_tables(self):
        out = self.calibrate("-m", self.model, ranks=2)
        tables = [[line for line in t.splitlines() if line.startswith("|")] for t in out.split("\n\n")]
        tables = [t for t in tables if t]
        self.assertEqual([len(t) for t in tables][0], 2 + 2)
        self.assertEqual([len(t) for t in tables][2:], [2 + 1, 2 + 1])
        for t in tables:
            self.assertEqual(len({line.count("|") for line in t}), 1, t)
        for t in TYPES:
            self.assertRegex(out, rf"\| {t} \| \d+\.\d\d \| \d+\.\d\d \|")
        self.assertRegex(out, r"\| attention \| \d")
        self.assertRegex(out, r"\| floats between products \| \d")

    def test_wrong_lines(self):
        for words, says in ((["--isa", "avx9"], "--isa avx9 is unknown"), (["more"], "unexpected argument more"), (["--map", "left=x"], "left"),
                            (["-t", "-1"], "threads")):
            self.assertRegex(self.calibrate(*words, status=2), says)
        self.assertIn("/nowhere.gguf", self.calibrate("-m", "/nowhere.gguf", status=1))
        self.assertIn("/nowhere.gguf", self.calibrate("-m", "/nowhere.gguf", status=1, ranks=2))


if __name__ == "__main__":
    unittest.main(verbosity=1)
