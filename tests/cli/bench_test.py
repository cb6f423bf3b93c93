#!/usr/bin/env python3
"""bench_test.py COFFER: what `coffer bench` prints parses, is complete and positive; wrong lines end with status 2. Times
themselves are not looked at."""
import csv
import glob
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

coffer = os.path.abspath(sys.argv.pop(1))
drop = ("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_")
env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", ASAN_OPTIONS="detect_leaks=0",
           COFFER_TEST_READ_MIB="16")


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = cls.folder.name
        env["TMPDIR"] = cls.dir
        cls.model = os.path.join(cls.dir, "with, comma.gguf")
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "3", "--dim", "128", "--heads", "4", "--kv-heads", "2",
                        "--vocab", "500", "-o", cls.model], check=True, stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def bench(self, *words, status=0, model=True):
        own = ["-m", self.model] if model else []
        p = subprocess.run([coffer, "bench", *own, *words], env=env, capture_output=True, text=True, timeout=200)
        self.assertEqual(p.returncode, status, p.stderr)
        self.assertEqual(glob.glob(self.dir + "/coffer-bench*"), [], "left a file")
        return p.stdout if status == 0 else p.stderr

    def test_json(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                r = json.loads(self.bench("-p", "20,70", "-n", "5", "-b", "1,3,4", "-d", "0,65", "-r", "3", "-ub", "32", "--ranks",
                                          str(ranks), "--layout", "tensor,layers,domain", "-o", "json"))
                want = [(layout, p, n, d, b) for layout in ("tensor", "layers", "domain") for d in (0, 65)
                        for p, n, b in ((20, 0, 1), (70, 0, 1), (0, 5, 1), (0, 5, 3), (0, 5, 4))]
                got = [(t["layout"], t["n_prompt"], t["n_gen"], t["depth"], t["sequences"]) for t in r["tests"]]
                self.assertEqual(got, want)
                self.assertEqual(r["n_ctx"], 135)
                for t in r["tests"]:
                    self.check(t, ranks)

    def check(self, t, ranks):
        tokens = t["n_prompt"] + t["n_gen"] * t["sequences"]
        s = t["seconds"]
        self.assertEqual(len(s), 3)
        self.assertEqual(s, sorted(s))
        for name, seconds in (("tps_min", s[2]), ("tps_median", s[1]), ("tps_max", s[0])):
            self.assertAlmostEqual(t[name] * seconds / tokens, 1, places=5)
        self.assertEqual([k["rank"] for k in t["ranks"]], list(range(ranks)))
        self.assertEqual((t["n_ranks"], t["n_threads"]), (ranks, t["ranks"][0]["threads"]))
        for k in t["ranks"]:
            self.assertGreater(k["bandwidth_gbps"], 0)
            self.assertGreater(k["compute_s"], 0)
            self.assertGreaterEqual(k["exchange_s"], 0)
            self.assertGreaterEqual(k["wait_s"], 0)
            self.assertLess(k["compute_s"] + k["exchange_s"] + k["wait_s"], 1.5 * max(s) + 0.05)
        self.check_links(t, ranks)
        if t["n_prompt"]:
            self.assertIsNone(t["read_gbps"])
        self.assertGreater(t["roofline_share"], 0)
        self.assertGreater(t["tps_predicted"], 0)
        if not t["n_prompt"]:
            bandwidth = sum(k["bandwidth_gbps"] for k in t["ranks"])
            self.assertGreater(t["read_gbps"], 0)
            self.assertGreater(t["roofline_share"] * bandwidth / t["read_gbps"], 0.9999)  # or more, where products take longer
        self.assertEqual((t["kv_type"], t["n_ubatch"]), ("f16", 32))
        most = {"tensor": 1, "layers": ranks, "domain": min(ranks, 2)}[t["layout"]]
        units = -(-t["n_prompt"] // 32) or t["sequences"]
        self.assertEqual(t["batches"], min(most, units))

    def check_links(self, t, ranks):
        self.assertEqual([(k["from"], k["to"]) for k in t["links"]], [(a, b) for a in range(ranks) for b in range(a + 1, ranks)])
        for k in t["links"]:
            self.assertEqual([x["bytes"] for x in k["one_way"]], [8, 16384, 1 << 20])
            self.assertTrue(all(1e-8 < x["seconds"] < 10 for x in k["one_way"]), k)

    LISTS = ("-p", "20", "-n", "3", "-b", "2", "-pg", "40,5", "-pg", "3,2", "-d", "0", "-d", "65", "-r", "3", "-ub", "32", "-t", "1,2", "--layout", "tensor,layers")

    def test_lists(self):
        """Numbers of ranks, threads, layouts and depths; one run of its own for each number of ranks, one result."""
        r = json.loads(self.bench(*self.LISTS, "--ranks", "1,2", "-o", "json"))
        self.assertEqual(r["n_ctx"], 110)
        got = [(t["n_ranks"], t["n_threads"], t["layout"], t["test"]) for t in r["tests"]]
        self.assertEqual(got, [(ranks, threads, layout, test + depth) for ranks in (1, 2) for threads in (1, 2)
                               for layout in ("tensor", "layers") for depth in ("", " @ d65")
                               for test in ("pp20", "tg3 x 2", "pp40+tg5", "pp3+tg2")])
        for t in r["tests"]:
            self.check(t, t["n_ranks"])

    def test_two_sides_of_the_roof(self):
        """A token that is read is as much work as one that is written; many at once are bounded by products, not by memory."""
        one, token, many = json.loads(self.bench("-p", "1", "-n", "1", "-b", "1,256", "-ub", "256", "-r", "1", "--ranks", "1", "-o", "json"))["tests"]
        limit = [t["roofline_share"] * t["seconds"][0] for t in (one, token, many)]
        self.assertTrue(0.95 < limit[0] / limit[1] < 1.05, limit)
        self.assertGreater(limit[2], 1.5 * many["read_gbps"] * many["seconds"][0] / many["ranks"][0]["bandwidth_gbps"])

    def test_prompt_and_answer(self):
        """What a test of both may take at best is what the two may take; without a warm-up nobody knows what each reads."""
        words = ("-p", "40", "-n", "30", "-pg", "40,30", "-r", "2", "-o", "json")
        for ranks in (1, 2):
            one, other, both = json.loads(self.bench(*words, "--ranks", str(ranks)))["tests"]
            limit = [t["roofline_share"] * (t["seconds"][0] + t["seconds"][1]) / 2 for t in (one, other, both)]
            self.assertTrue(0.98 < limit[2] / (limit[0] + limit[1]) < 1.05, limit)  # the answer sees the prompt's keys
            self.assertTrue(0.9 < 70 / both["tps_predicted"] / (40 / one["tps_predicted"] + 30 / other["tps_predicted"]) < 1.1, (one, other, both))
        self.assertIsNone(json.loads(self.bench(*words, "--no-warmup"))["tests"][2]["roofline_share"])

    def test_lists_in_every_form(self):
        words = ("-p", "9", "-n", "3", "-pg", "4,2", "-r", "1", "-t", "2,1", "--ranks", "2,1")
        lines = self.bench(*words, "-o", "jsonl").splitlines()
        want = [("2", "2"), ("2", "1"), ("1", "2"), ("1", "1")]
        self.assertEqual([(str(t["n_ranks"]), str(t["n_threads"])) for t in (json.loads(line)["test"] for line in lines)],
                         [w for w in want for _ in range(3)])
        rows = list(csv.DictReader(io.StringIO(self.bench(*words, "-o", "csv"))))
        self.assertEqual([(x["ranks"], x["threads"], x["test"]) for x in rows],
                         [(*w, test) for w in want for test in ("pp9", "tg3", "pp4+tg2")])
        self.assertEqual([x["rank_wait_s"].count(";") for x in rows], 6 * [1] + 6 * [0])
        for x in rows:
            self.assertRegex(x["link_s"], r"^0-1(:[0-9.e-]+){3}$" if x["ranks"] == "2" else "^$")
            self.assertEqual((x["kv_type"], x["n_ubatch"]), ("f16", "9"))
        tables = [[line for line in t.splitlines() if line.startswith("|")] for t in self.bench(*words).split("\n\n")[1:]]
        self.assertEqual([len(t) for t in tables], [2 + 12, 2 + 6, 2 + 1, 2 + 18])
        for t in tables:
            self.assertEqual(len({line.count("|") for line in t}), 1)

    def test_models(self):
        """Several models take turns, each with all numbers of ranks; every line says whose it is."""
        other = os.path.join(self.dir, "other.gguf")
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "2", "--dim", "64", "--heads", "4", "--vocab", "300", "-o", other],
                       check=True, stderr=subprocess.DEVNULL)
        names = ["with, comma.gguf", "other.gguf", "with, comma.gguf"]
        words = ("-m", other, "-m", self.model, "-p", "5", "-n", "2", "-r", "1", "-t", "1", "--ranks", "2,1")
        want = [(name, ranks, test) for name in names for ranks in (2, 1) for test in ("pp5", "tg2")]
        size = {name: self.tensor_bytes(os.path.join(self.dir, name)) for name in names}
        files = [os.path.join(self.dir, "turns." + x) for x in ("csv", "json")]
        out = self.bench(*words, "--csv", files[0], "--json", files[1])
        with open(files[0]) as f: rows = list(csv.DictReader(f))
        self.assertEqual([(r["model"], int(r["ranks"]), r["test"]) for r in rows], want)
        with open(files[1]) as f: whole = json.load(f)
        self.assertNotIn("model", whole)
        self.assertEqual([(t["model"], t["n_ranks"], t["test"]) for t in whole["tests"]], want)
        self.assertEqual([t["model_bytes"] for t in whole["tests"]], [size[name] for name, _, _ in want])
        self.assertEqual([int(r["model_bytes"]) for r in rows], [size[name] for name, _, _ in want])
        tables = [[line for line in t.splitlines() if line.startswith("|")] for t in out.split("\n\n")[1:]]
        self.assertEqual([len(t) for t in tables], [2 + 12, 2 + 9, 2 + 3, 2 + 18])
        for t in tables:
            self.assertEqual(len({line.count("|") for line in t}), 1)
            self.assertEqual([x for i, x in enumerate(line.split("|")[1].strip() for line in t[2:]) if not i or x != t[1 + i].split("|")[1].strip()], names)
        lines = [json.loads(line) for line in self.bench(*words[:4], *words[4:-2], "--ranks", "1", "-o", "jsonl").splitlines()]
        self.assertEqual([x["test"]["model"] for x in lines], [name for name in names for _ in "ab"])
        for more, says in ((("--cluster",), "of --cluster there is one"), (("--synthetic", "llama-15m"), "of --synthetic there is one")):
            self.assertRegex(self.bench("-m", other, "-n", "2", *more, status=2), "other.gguf: a second model; " + says)
        p = subprocess.run(["mpirun", "--oversubscribe", "-n", "2", coffer, "bench", "-m", self.model, "-m", other], env=env, capture_output=True,
                           text=True, timeout=200)
        self.assertNotEqual(p.returncode, 0)
        self.assertEqual(p.stderr.count("a second model; under a launcher"), 1, p.stderr)

    def tensor_bytes(self, path):
        return json.loads(self.bench("-m", path, "-p", "1", "-n", "0", "-r", "1", "--ranks", "1", "-o", "json", model=False))["model_bytes"]

    def test_links(self):
        """Every two ranks are probed, not only rank 0 and another."""
        words = ("-p", "0", "-n", "2", "-r", "1", "-t", "1", "--ranks", "4")
        self.check_links(json.loads(self.bench(*words, "-o", "json"))["tests"][0], 4)
        pairs = re.findall(r"^\| 4 \| (\d) - (\d) \| [^|]+ \|(?: [0-9]+\.[0-9] \|){3}$", self.bench(*words), re.M)
        self.assertEqual(pairs, [(str(a), str(b)) for a in range(4) for b in range(a + 1, 4)])

    def test_micro_batches(self):
        r = json.loads(self.bench("-p", "300", "-n", "3", "-b", "1,4", "-r", "1", "--ranks", "2", "--layout", "layers,tensor",
                                  "--micro-batches", "3", "-o", "json"))
        self.assertEqual([t["batches"] for t in r["tests"]], [3, 1, 3, 3, 1, 3])

    def test_many_layouts(self):
        """A rank may still be at the end of one layout when the plan of the next one arrives."""
        layouts = 10 * ["layers", "tensor"]
        r = json.loads(self.bench("-p", "300", "-n", "0", "-r", "1", "--ranks", "2", "--layout", ",".join(layouts), "-o", "json"))
        self.assertEqual([t["batches"] for t in r["tests"]], 10 * [2, 1])
        self.assertIn("micro-batches", self.bench("--micro-batches", "65", status=2))

    def test_bytes_are_those_of_the_model(self):
        """A decode step reads every matrix once: with an empty cache that is the file less its head and norms."""
        t = json.loads(self.bench("-p", "0", "-n", "2", "-b", "1,2", "-r", "1", "--ranks", "1", "-o", "json"))["tests"]
        size = os.path.getsize(self.model)
        for k in t:
            read = k["read_gbps"] * 1e9 * k["seconds"][0] / k["n_gen"]
            self.assertTrue(0.8 * size < read < 1.1 * size, (read, size))

    def test_files_beside_the_table(self):
        """With several numbers of ranks, too: one file of all; and what auto has taken is told from what was named."""
        files = [os.path.join(self.dir, "beside." + x) for x in ("csv", "json")]
        out = self.bench("-p", "8", "-n", "4", "-r", "1", "--ranks", "1,2", "--layout", "layers,auto", "--csv", files[0], "--json", files[1])
        with open(files[0]) as f: rows = list(csv.DictReader(f))
        with open(files[1]) as f: tests = json.load(f)["tests"]
        self.assertEqual([(r["ranks"], r["test"]) for r in rows], [(n, t) for n in "12" for _ in "ab" for t in ("pp8", "tg4")])
        self.assertEqual([t["layout"] for t in tests], [r["layout"] for r in rows])
        self.assertEqual([r["layout"].startswith("auto: ") for r in rows], 2 * [False, False, True, True])
        table = [float(line.split("|")[5]) for line in out.split("\n\n")[1].splitlines()[2:]]
        self.assertEqual(len(table), len(tests))
        for x, t in zip(table, tests): self.assertAlmostEqual(x, t["tps_median"], delta=0.006 + 1e-6 * x)

    def test_csv(self):
        columns = None
        for ranks, words in ((1, ()), (2, ("--layout", "tensor,layers"))):
            with self.subTest(ranks=ranks):
                rows = list(csv.reader(io.StringIO(self.bench("-p", "9", "-n", "3", "-b", "1,2", "-r", "2", "--ranks", str(ranks), *words,
                                                              "-o", "csv"))))
                columns = columns or rows[0]
                self.assertEqual(rows[0], columns)
                self.assertEqual(len(rows), 1 + 3 * ranks)
                for row in rows[1:]:
                    self.assertEqual(len(row), len(columns))
                    r = dict(zip(columns, row))
                    self.assertEqual(r["model"], "with, comma.gguf")
                    self.assertEqual(r["ranks"], str(ranks))
                    for name in ("tps_median", "tps_min", "tps_max", "bandwidth_gbps"):
                        self.assertGreater(float(r[name]), 0)
                    self.assertEqual(r["read_gbps"] == "", r["n_gen"] == "0")
                    self.assertGreater(float(r["roofline_share"]), 0)
                    for name in ("rank_bandwidth_gbps", "rank_compute_s", "rank_exchange_s", "rank_wait_s"):
                        self.assertEqual(len([float(x) for x in r[name].split(";")]), ranks)

    def test_markdown(self):
        out = self.bench("-p", "8", "-n", "2", "-b", "1,2", "-r", "1", "--ranks", "2", "--no-warmup")
        tables = [[line for line in t.splitlines() if line.startswith("|")] for t in out.split("\n\n")[1:]]
        self.assertEqual([len(t) for t in tables], [2 + 3, 2 + 2, 2 + 1, 2 + 6])
        for t in tables:
            self.assertEqual(len({line.count("|") for line in t}), 1)
        self.assertRegex(out, r"\| tg2 x 2 \| [1-9][0-9.]* \|")

    def test_json_lines(self):
        words = ("-p", "8", "-n", "2", "-b", "1,2", "-r", "1", "--ranks", "2", "--layout", "tensor,layers,tensor")
        lines = [json.loads(line) for line in self.bench(*words, "-o", "jsonl").splitlines()]
        self.assertEqual([(x["test"]["layout"], x["test"]["test"]) for x in lines],
                         [(layout, test) for layout in ("tensor", "layers", "tensor") for test in ("pp8", "tg2", "tg2 x 2")])
        whole = json.loads(self.bench(*words, "-o", "json"))
        self.assertEqual({*lines[0]} - {"test"}, {*whole} - {"tests"})
        self.assertEqual({*lines[0]["test"]}, {*whole["tests"][0]})

    def test_delay(self):
        """Every test waits, and no longer takes part in the time."""
        words = ("-p", "4", "-n", "2", "-r", "1", "--ranks", "1")
        begin = time.monotonic()
        self.bench(*words)
        middle = time.monotonic()
        tests = json.loads(self.bench(*words, "--delay", "4", "-o", "json"))["tests"]
        self.assertGreater(time.monotonic() - middle, 4 + (middle - begin) / 2)
        self.assertTrue(len(tests) == 2 and all(s < 2 for t in tests for s in t["seconds"]))

    def test_lines_come_as_tests_end(self):
        """A reader of the first line stops the bench: what is printed by then is whole."""
        for ranks, forms in (("1", ("md", "csv", "json")), ("2", ("json",)), ("1,2", ("json",))):
            for form in forms:
                with self.subTest(ranks=ranks, form=form):
                    p = subprocess.Popen([coffer, "bench", "-m", self.model, "-p", "0", "-n", "1,500", "-r", "100", "--ranks", ranks, "-o",
                                          form], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    out = ""
                    while "tg1" not in out:
                        line = p.stdout.readline()
                        self.assertTrue(line, p.stderr.read() if p.poll() else out)
                        out += line
                    p.send_signal(signal.SIGINT)
                    rest, err = p.communicate(timeout=120)
                    self.assertEqual(p.returncode, 130, err)
                    out += rest
                    self.assertNotIn("tg500", out)
                    if form == "json":
                        self.assertEqual([t["test"] for t in json.loads(out)["tests"]], ["tg1"])

    def test_ended_within_a_repetition(self):
        """Ctrl-C does not wait for the end of a repetition; an mpirun of one's own kills a second later, and all is written then."""
        kept, printed, wrapper = (os.path.join(self.dir, name) for name in ("ended.csv", "printed", "wrapper"))
        with open(wrapper, "w") as f:  # mpirun forwards little of what is printed in its last second
            f.write(f'#!/bin/sh\n[ "$OMPI_COMM_WORLD_RANK" = 0 ] && exec "$@" >{printed}\nexec "$@"\n')
        os.chmod(wrapper, 0o755)
        mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", wrapper]
        words = [coffer, "bench", "-m", self.model, "-t", "1", "-p", "0", "-n", "1,60000", "-r", "1", "--no-warmup", "-o", "json", "--csv", kept]
        for head, tail, status in ([], ["--ranks", "1"], 130), (mpirun, [], 1):
            with open(printed, "w") as f:
                p = subprocess.Popen(head + words + tail, env=env, stdout=f, stderr=subprocess.PIPE, text=True)
            out = ""
            while "tg1" not in out:
                time.sleep(0.1)
                self.assertIsNone(p.poll())
                with open(printed) as f:
                    out = f.read()
            time.sleep(0.5)
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=120)
            self.assertEqual(p.returncode, status, err)
            with open(printed) as f:
                self.assertEqual([t["test"] for t in json.load(f)["tests"]], ["tg1"])
            with open(kept) as f:
                self.assertEqual([r["test"] for r in csv.DictReader(f)], ["tg1"])
            os.unlink(kept)

    def test_ended_before_other_layouts(self):
        """After Ctrl-C no other layout, wire type or number of threads is loaded."""
        words = ["-p", "0", "-n", "1,60000", "-r", "1", "--no-warmup", "-o", "json", "-t", "1,2"]
        for ranks, layouts in ("1", "tensor,layers"), ("2", "tensor,layers,tensor"):
            p = subprocess.Popen([coffer, "bench", "-m", self.model, "--ranks", ranks, "--layout", layouts, "--no-exchange", *words], env=env,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            out = p.stdout.readline() + p.stdout.readline()
            self.assertIn("tg1", out)
            p.send_signal(signal.SIGINT)
            rest, err = p.communicate(timeout=120)
            self.assertEqual(p.returncode, 130, err)
            self.assertEqual([t["test"] for t in json.loads(out + rest)["tests"]], ["tg1"])
            self.assertEqual(len(re.findall("^rank 0 host", err, re.M)), 1, err)

    def test_no_exchange(self):
        for ranks, layouts in ((1, "tensor"), (2, "tensor,layers"), (3, "tensor,domain")):
            r = json.loads(self.bench("-p", "70", "-n", "5", "-r", "2", "-ub", "32", "--ranks", str(ranks), "--layout", layouts,
                                      "--no-exchange", "-o", "json"))
            got = [(t["layout"], t["test"].split(" ")[0], t["exchange"]) for t in r["tests"]]
            self.assertEqual(got, [(layout, test, exchange) for layout in layouts.split(",") for exchange in ((True, False) if ranks > 1 else (True,))
                                   for test in ("pp70", "tg5")])
            for t in r["tests"]:
                self.assertEqual("not a result" in t["test"], not t["exchange"])
                self.assertGreater(t["tps_median"], 0)

    def test_exchange(self):
        for way in ("auto", "window", "messages"):
            self.bench("-p", "8", "-n", "2", "-r", "1", "--ranks", "2", "--exchange", way)
        self.assertIn("--exchange pigeons is unknown", self.bench("--exchange", "pigeons", status=2))

    def test_synthetic(self):
        for ranks in ("1", "2"):
            r = json.loads(self.bench("--synthetic", "llama-15m:q4_0", "-p", "4", "-n", "2", "-r", "1", "--ranks", ranks, "-o", "json",
                                      model=False))
            self.assertEqual(r["model"], "llama-15m:q4_0")
            self.assertEqual([t["n_ranks"] for t in r["tests"]], 2 * [int(ranks)])
        kept = os.path.join(self.dir, "kept.gguf")
        words = ("--synthetic", "llama-15m", "-m", kept, "-p", "4", "-n", "0", "-r", "1", "--ranks", "1")
        self.bench(*words, model=False)
        before = os.stat(kept).st_mtime_ns
        self.bench(*words, model=False)
        self.assertEqual(os.stat(kept).st_mtime_ns, before)
        self.assertRegex(self.bench("--synthetic", "llama-15m", "--ranks", "1", status=2), r"has 3 layers of 128, but")
        self.assertIn("smollm2-135m", self.bench("--synthetic", "gpt-5", model=False, status=2))
        os.unlink(kept)

    def test_wrong_lines(self):
        for words, says in ((["-b", "0"], "--sequences: 0 is out of range"), (["-b", "1025"], "out of range"),
                            (["-b", "600", "-ub", "512"], r"out of range \(1 to 512\)"), (["-b", "1,,2"], "not a list"),
                            (["-b", "1,"], "not a list"), (["-b", ""], "not a list"), (["-p", "-1"], "not a list"), (["-n", "4x"], "not a list"),
                            (["-d", "99999999999999999999"], "out of range"), (["-b", ",".join("1" * 17)], "more than 16"),
                            (["-p", "0", "-n", "0"], "nothing to measure"), (["-o", "xml"], "md, csv, json, jsonl"), (["-r", "0"], "out of range"),
                            (["-c", "5"], "--ctx-size 5 is less than"), (["--layout", "tensor,foo"], "--layout foo is unknown"),
                            (["--layout", "tensor,"], "unknown"), (["--synthetic", "llama-9b"], "llama-9b"), (["--synthetic", "llama-1b:q9"], "q9"),
                            (["-t", "1,x"], "not a list"), (["-t", "5000"], "out of range"), (["-pg", "5"], "no list of pairs"),
                            (["-pg", "5,0"], "out of range"), (["--map", "left=x"], "left"), (["word"], "unexpected argument"), (["--numa", "x"], "--numa x")):
            for ranks in ("1", "2"):
                with self.subTest(words=words, ranks=ranks):
                    said = self.bench(*words, "--ranks", ranks, status=2)
                    self.assertRegex(said, says)
                    self.assertEqual(len(said.splitlines()), 1, said)
        self.assertRegex(self.bench("--ranks", "1,x", status=2), "not a list")
        self.assertRegex(self.bench("--ranks", "1,1025", status=2), "out of range")
        self.assertRegex(self.bench(status=2, model=False), "no model")
        self.assertRegex(self.bench("-m", "/nowhere.gguf", status=1, model=False), re.escape("/nowhere.gguf"))

    def test_own_launcher(self):
        """One line of rank 0 for all; --synthetic needs no file, and makes none here."""
        head = ["mpirun", "--oversubscribe", "-n", "2", coffer, "bench"]
        p = subprocess.run([*head, "-m", self.model, "-p", "4", "-n", "2", "-r", "1", "-t", "1,2", "-o", "json"], env=env, capture_output=True, text=True,
                           timeout=200)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual([(t["n_ranks"], t["n_threads"]) for t in json.loads(p.stdout)["tests"]], [(2, 1), (2, 1), (2, 2), (2, 2)])
        p = subprocess.run([*head, "-m", self.model, "--ranks", "1,2"], env=env, capture_output=True, text=True, timeout=200)
        self.assertNotEqual(p.returncode, 0)
        self.assertEqual(p.stderr.count("--ranks 1,2: the launcher has chosen"), 1, p.stderr)
        words = [*head, "--synthetic", "llama-15m", "-p", "4", "-n", "2", "-r", "1", "-o", "json"]
        p = subprocess.run(words, env=env, capture_output=True, text=True, timeout=200)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(json.loads(p.stdout)["model"], "llama-15m")
        p = subprocess.run([*words, "-m", self.dir + "/none.gguf"], env=env, capture_output=True, text=True, timeout=200)
        self.assertNotEqual(p.returncode, 0)
        self.assertEqual(p.stderr.count("makes no file"), 1, p.stderr)


unittest.main()
