#!/usr/bin/env python3
"""cluster_test.py COFFER: what `coffer bench --cluster` prints and writes is complete and agrees with itself, with the simulation
and, for what passes between hosts, with a count by hand. Times themselves are not looked at."""
import csv, io, json, os, re, shutil, subprocess, sys, tempfile, unittest
import xml.etree.ElementTree as xml

coffer = os.path.abspath(sys.argv.pop(1))
drop = ("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_")
env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", COFFER_TEST_READ_MIB="8")
DIM = 128
WIRES = ("f32", "f16", "q8")
BYTES = {"f32": 4 * DIM, "f16": 2 * DIM}  # of one hidden row


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="coffer-cluster-")
        cls.model = cls.dir + "/model.gguf"
        env.update(TMPDIR=cls.dir, COFFER_CALIBRATION=cls.dir + "/rates.json")
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "4", "--dim", str(DIM), "--heads", "4", "--kv-heads", "2",
                        "--vocab", "500", "-o", cls.model], check=True, stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def bench(self, *words, ranks=2, hosts=2, status=0, model=None):
        p = subprocess.run([coffer, "bench", "-m", model or self.model, "--cluster", "-t", "1", "--ranks", str(ranks), *words],
                           env={**env, "COFFER_TEST_HOSTS": str(hosts)}, capture_output=True, text=True, timeout=200)
        self.assertEqual(p.returncode, status, p.stderr)
        return p.stdout if status == 0 else p.stderr

    def lines_of(self, ranks, hosts):
        layouts = {1: [], 2: ["tensor", "layers", "domain"]}.get(ranks, ["tensor", "layers"] + ["hybrid"] * (hosts > 1 or ranks > 3) + ["domain"])
        return [("tensor", "f32", True)] + [(x, w, False) for x in layouts for w in (WIRES if hosts > 1 else WIRES[:1])]

    def check(self, t, one, ranks, hosts):
        self.assertEqual(t["n_ranks"], 1 if t["alone"] else ranks)
        self.assertEqual(t["n_hosts"], hosts)
        self.assertTrue(0 < t["tps_min"] <= t["tps_median"] <= t["tps_max"])
        self.assertGreater(t["tps_predicted"], 0)
        self.assertTrue(0 < t["p50_s"] <= t["p99_s"])
        # A sequence's tokens are a step apart: the median gap cannot be longer than the slowest repetition's whole time.
        self.assertLess(t["p50_s"], t["n_gen"] * t["sequences"] / t["tps_min"])
        self.assertTrue(0 < t["roofline_share"])
        self.assertAlmostEqual(t["efficiency"] * t["n_ranks"] * one["tps_median"] / t["tps_median"], 1, places=5)
        self.assertEqual([r["rank"] for r in t["ranks"]], list(range(ranks)))
        for r in t["ranks"][:t["n_ranks"]]:
            self.assertTrue(0 <= r["wait_share"] <= 1)
            self.assertAlmostEqual(r["wait_share"] * (r["compute_s"] + r["exchange_s"] + r["wait_s"]), r["wait_s"], places=5)
        pairs = [(a, b) for a in range(hosts) for b in range(hosts) if a != b or ranks > hosts]  # with itself: its ranks with each other
        self.assertEqual([(x["from"], x["to"]) for x in t["links"]], pairs)
        for x in t["links"]:
            if t["alone"]:
                self.assertEqual(x["bytes_per_token"], 0)
                continue
            # Of a tensor group each token's embedding comes from the rank that has its part of the vocabulary: see below.
            if t["layout"] != "tensor":
                self.assertAlmostEqual(x["bytes_per_token"], x["bytes_per_token_predicted"], delta=1, msg=(t["layout"], t["wire"]))
            if x["from"] != x["to"]: self.assertGreater(x["bytes_per_token_with_envelopes"], x["bytes_per_token"])
            self.assertGreaterEqual(x["bytes_per_token_with_envelopes"], x["bytes_per_token"])
            if t["layout"] in ("layers", "hybrid") and hosts == 2 and ranks == 2 and t["wire"] in BYTES:
                # By hand: one hidden row to the second host, one back to the head.
                self.assertEqual(x["bytes_per_token"], BYTES[t["wire"]])

        measured, simulated = (sum(x[key] for x in t["links"]) for key in ("bytes_per_token", "bytes_per_token_predicted"))
        if not t["alone"]:
            self.assertAlmostEqual(measured, simulated, delta=2, msg=(t["layout"], t["wire"]))

    def test_ranks(self):
        for ranks, hosts in ((1, 1), (2, 2), (3, 1), (4, 2)):
            with self.subTest(ranks=ranks, hosts=hosts):
                r = json.loads(self.bench("-n", "6", "-b", "1,3", "-r", "2", "-o", "json", ranks=ranks, hosts=hosts))
                got = [(t["layout"], t["wire"], t["alone"], t["sequences"]) for t in r["tests"]]
                self.assertEqual(got, [(*x, b) for x in self.lines_of(ranks, hosts) for b in (1, 3)])
                one = {t["sequences"]: t for t in r["tests"] if t["alone"]}
                for t in r["tests"]:
                    self.check(t, one[t["sequences"]], ranks, hosts)
                self.assertEqual({t["efficiency"] for t in one.values()}, {1})

    def test_forms_and_plot(self):
        plot = self.dir + "/plot.svg"
        words = ("-n", "3", "-b", "1,2", "-r", "1", "--layout", "layers", "--wire", "f32,f16")
        rows = list(csv.DictReader(io.StringIO(self.bench(*words, "-o", "csv", "--svg", plot))))
        self.assertEqual([(x["layout"], x["wire"], x["alone"], x["sequences"]) for x in rows],
                         [(*k, b) for k in (("tensor", "f32", "1"), ("layers", "f32", "0"), ("layers", "f16", "0")) for b in ("1", "2")])
        for x in rows:
            for name, value in x.items():
                self.assertEqual(value in ("", None), name in ("wire_rms", "wire_most") and x["wire"] == "f32", name)
            if x["wire"] == "f16":
                self.assertTrue(0 < float(x["wire_rms"]) < 0.01 and 0 < float(x["wire_most"]), x)
            self.assertEqual(x["rank_wait_share"].count(";"), 1)
            self.assertLessEqual(float(x["p50_s"]), float(x["p99_s"]))
        self.assertEqual([x["link_bytes_per_token"] for x in rows[2:4]], 2 * ["0>1=512;1>0=512"])
        self.assertEqual([x["link_bytes_per_token_predicted"] for x in rows[2:4]], 2 * ["0>1=512;1>0=512"])
        svg = xml.parse(plot).getroot()
        self.assertEqual(svg.tag, "{http://www.w3.org/2000/svg}svg")
        texts = [t.text for t in svg.iter("{http://www.w3.org/2000/svg}text")]
        for label in ("rank 0 alone", "layers, wire f32", "layers, wire f16", "1", "2", "model.gguf"):
            self.assertIn(label, texts)
        lines = [p.get("points") for p in svg.iter("{http://www.w3.org/2000/svg}polyline") if p.get("stroke") != "#e3e6e9"]
        self.assertEqual([len(p.split()) for p in lines], [2, 2, 2])
        out = self.bench(*words)
        tables = [[line for line in t.splitlines() if line.startswith("|")] for t in out.split("\n\n")[1:]]
        self.assertEqual([len(t) for t in tables], [2 + 6, 2 + 8])
        for t in tables:
            self.assertEqual(len({line.count("|") for line in t}), 1, t)
        self.assertRegex(out, r"\| layers \| f16 \| 2 \| 2 \| \d[^\n]* \| [0-9.e-]+ \|\n")

    def test_all_forms_at_once(self):
        """One sweep, and its results in every form: the same figures."""
        files = [self.dir + "/all." + x for x in ("csv", "json", "svg")]
        out = self.bench("-n", "3", "-b", "1,2", "-r", "1", "--layout", "layers,tensor", "--wire", "f32", "--csv", files[0], "--json", files[1], "--svg", files[2])
        table = [float(line.split("|")[5]) for line in out.split("\n\n")[1].splitlines()[2:]]
        with open(files[0]) as f: rows = list(csv.DictReader(f))
        with open(files[1]) as f: tests = json.load(f)["tests"]
        self.assertEqual(len(table), 6)
        for form in (rows, tests):
            self.assertEqual(len(form), 6)
            for x, y in zip(table, form): self.assertAlmostEqual(x, float(y["tps_median"]), delta=0.006 + 1e-6 * x)
        self.assertTrue(os.path.getsize(files[2]) > 1000)
        missing = self.dir + "/missing.csv"
        self.bench("-n", "3", "-b", "1", "-r", "1", "--csv", missing, status=1, model="/no/such.gguf")
        self.assertFalse(os.path.exists(missing))
        self.assertIn("/nowhere/x.json", self.bench("-n", "3", "--json", "/nowhere/x.json", status=1))

    def test_passed_over(self):
        """What does not fit is no end of the sweep: three ranks cannot be 5 stages."""
        p = subprocess.run([coffer, "bench", "-m", self.model, "--cluster", "-t", "1", "--ranks", "3", "--layout", "hybrid,layers", "--stages",
                            "5", "-n", "2", "-b", "1", "-r", "1", "-o", "csv"], env=env, capture_output=True, text=True, timeout=100)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertRegex(p.stderr, "coffer: hybrid is passed over: .*stages")
        self.assertEqual([x["layout"] for x in csv.DictReader(io.StringIO(p.stdout))], ["tensor", "layers"])

    def test_wrong_lines(self):
        for words, says in ((["-p", "5"], "--cluster measures decoding"), (["--no-exchange"], "--no-exchange"), (["-n", "2,3"], "--cluster: one"),
                            (["-n", "0"], "--cluster: one|nothing"), (["--map", "left=0"], "--map"), (["--svg", "/nowhere/x.svg"], "/nowhere/x.svg"),
                            (["--wire", "f32,f8"], "f8")):
            said = self.bench(*words, status=1 if words[0] == "--svg" else 2)
            self.assertRegex(said, says)
        self.assertIn("one number of ranks", self.bench(ranks="1,2", status=2))
        p = subprocess.run([coffer, "bench", "-m", self.model, "--svg", "x.svg"], env=env, capture_output=True, text=True, timeout=20)
        self.assertEqual(p.returncode, 2)
        self.assertIn("--cluster", p.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)
