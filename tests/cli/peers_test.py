#!/usr/bin/env python3
"""peers_test.py COMPARE_PEERS: deploy/compare-peers with small scripts in place of coffer and its peers: medians, ratios,
turns, and peers that are missing or fail."""
import os
import subprocess
import sys
import tempfile
import unittest

script = os.path.abspath(sys.argv.pop(1))

# Each run notes its words and prints the next of its speeds.
PEER = """#!/bin/sh
echo "{name} $* $OMP_NUM_THREADS" >> {folder}/log
n=$(grep -c "^{name} " {folder}/log)
set -- {speeds}
shift $((n - 1))
printf '[{{"n_prompt":512,"n_gen":0,"avg_ts":%s}},{{"n_prompt":0,"n_gen":128,"avg_ts":%s}}]' ${{1%/*}} ${{1#*/}}
"""
COFFER = PEER.replace("printf '[", "printf '{{\"tests\":[").replace("avg_ts", "roofline_share\":0.9,\"tps_median").replace("]'", "]}}'")
BROKEN = "#!/bin/sh\necho no such type >&2\nexit 3\n"


class Peers(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = self.temporary.name
        self.model = os.path.join(self.folder, "m.gguf")
        open(self.model, "w").close()
        self.program("coffer", COFFER, "100/10 300/30 200/20")
        self.program("llama-bench", PEER, "100/25 100/25 90/5")
        self.program("ik-llama-bench", PEER, "50/40 50/40 50/40")

    def tearDown(self):
        self.temporary.cleanup()

    def program(self, name, text, speeds=""):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text.format(name=name, folder=self.folder, speeds=speeds))
        os.chmod(path, 0o755)

    def compare(self, *words, status=0):
        drop = ("COFFER", "LLAMA_BENCH", "IK_LLAMA_BENCH")
        env = {k: v for k, v in os.environ.items() if k not in drop}
        env["PATH"] = self.folder + os.pathsep + env["PATH"]
        p = subprocess.run([script, "--coffer", self.folder + "/coffer", "-m", self.model, "-t", "1", *words], env=env,
                           capture_output=True, text=True, timeout=100)
        self.assertEqual(p.returncode, status, p.stderr)
        return p.stdout, p.stderr

    def test_table(self):
        out, err = self.compare()
        self.assertIn("| file | threads | test | coffer | llama.cpp | ik_llama.cpp | ratio | roofline |", out)
        self.assertIn("| m.gguf | 1 | pp512 | 200.00 | 100.00 | 50.00 | 2.00 x | 90 % |", out)
        self.assertIn("| m.gguf | 1 | tg128 | 20.00 | 25.00 | 40.00 | 0.50 x | 90 % |", out)
        self.assertEqual(err, "")
        with open(self.folder + "/log") as f:
            lines = f.read().splitlines()
        self.assertEqual([x.split()[0] for x in lines], ["coffer", "llama-bench", "ik-llama-bench"] * 3)
        self.assertEqual(lines[1], f"llama-bench -m {self.model} -t 1 -p 512 -n 128 -r 1 -o json 1")
        self.assertIn("-rtr 1", lines[2])
        os.unlink(self.folder + "/log")
        self.compare("-r", "1", "--coffer-options", "--delay 8", "--llama-options=-fa 1", "--ik-llama-options=-fa 1")
        with open(self.folder + "/log") as f:
            lines = f.read().splitlines()
        self.assertEqual([" --delay 8 -m" in lines[0], " -fa 1 -m" in lines[1], " -fa 1 -m" in lines[2], "-rtr" in lines[2]], [True, True, True, False], lines)

    def test_missing_and_failing(self):
        os.unlink(self.folder + "/ik-llama-bench")
        self.program("dllama", BROKEN)
        out, err = self.compare()
        self.assertIn("| coffer | llama.cpp | ratio |", out)
        self.assertIn("ik_llama.cpp: not found (--ik-llama-bench PATH)", err)
        self.assertIn("distributed-llama: skipped", err)
        self.program("ik-llama-bench", BROKEN)
        os.unlink(self.folder + "/log")
        out, err = self.compare("-r", "1")
        self.assertIn("| pp512 | 100.00 | 100.00 | failed | 1.00 x |", out)
        self.assertIn("ik_llama.cpp: m.gguf, 1 threads: exit status 3: no such type", err)

    def test_no_peer(self):
        self.program("llama-bench", BROKEN)
        self.program("ik-llama-bench", "#!/bin/sh\necho no json\n")
        out, err = self.compare("-r", "2", status=1)
        self.assertIn("no peer was measured", err)
        self.assertEqual(err.count("llama.cpp: m.gguf"), 2, err)
        self.program("coffer", BROKEN)
        self.assertIn("coffer: m.gguf", self.compare(status=1)[1])

    def test_wrong_lines(self):
        for words, says in ((["-t", "0"], "not a list"), (["-t", "x"], "not a list"), (["-t", "100000"], "CPUs are at hand"),
                            (["-r", "0"], "positive"), (["-m", "/nowhere"], "/nowhere: no such file"),
                            (["--llama-bench", "/nowhere"], "/nowhere: no such program")):
            with self.subTest(words=words):
                self.assertIn(says, self.compare(*words, status=2)[1])


unittest.main()
