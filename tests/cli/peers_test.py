#!/usr/bin/env python3
"""peers_test.py COMPARE_PEERS: deploy/compare-peers with small scripts in place of coffer and its peers: medians, ratios,
turns, and peers that are missing or fail."""
import os
import re
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
# Listens where it is told to, and notes with what words. (The port comes behind -p or --port.)
SERVER = """#!/bin/sh
echo "{name} $*" >> {folder}/log
exec python3 -c 'import socket, sys, time
w = sys.argv
s = socket.socket()
s.bind(("127.0.0.1", int(w[[i for i, x in enumerate(w) if x in ("-p", "--port")][0] + 1])))
s.listen()
time.sleep(60)' "$@"
"""
DLLAMA = """#!/bin/sh
[ "$1" = inference ] || exec {folder}/dworker "$@"
echo "{name} $*" >> {folder}/log
printf 'Evaluation\\n   nBatches: 32\\n    nTokens: 6\\n   tokens/s: 99.00 (1 ms/tok)\\nPrediction\\n    nTokens: 9\\n   tokens/s: 12.50 (80 ms/tok)\\n'
"""
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
        drop = ("COFFER", "LLAMA_BENCH", "IK_LLAMA_BENCH", "RPC_SERVER", "IK_RPC_SERVER", "DLLAMA")
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
        self.compare("-r", "1", "--coffer-options", "--delay 8", "--llama-options", "-rtr 1 -fa 1", "--ik-llama-options=-fa 1")
        with open(self.folder + "/log") as f:
            lines = f.read().splitlines()
        self.assertEqual([" --delay 8 " in lines[0], " -rtr 1 -fa 1 -m" in lines[1], " -fa 1 -m" in lines[2], "-rtr" in lines[2]], [True, True, True, False], lines)

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

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "one CPU")
    def test_several_ranks(self):
        """Peers get the same cores: in one process, as RPC servers, as root and worker. Nothing of theirs stays."""
        self.program("rpc-server", SERVER)
        self.program("dllama", DLLAMA)
        self.program("dworker", SERVER)
        for suffix in "mt":
            open(os.path.join(self.folder, "m." + suffix), "w").close()
        self.program("llama-bench", PEER, "100/25 100/8")
        out, err = self.compare("--ranks", "2,1", "-r", "1")
        self.assertIn("| coffer | llama.cpp | llama.cpp RPC | ik_llama.cpp | distributed-llama | ratio |", out)
        self.assertIn("| m.gguf | 2 x 1 | tg128 | 10.00 | 25.00 | 8.00 | 40.00 | 12.50 | 0.25 x |", out)
        self.assertIn("| m.gguf | 2 x 1 | pp512 | 100.00 | 100.00 | 100.00 | 50.00 |  | 1.00 x |", out)
        self.assertIn("| m.gguf | 1 | tg128 | 30.00 | failed |  | 40.00 | 12.50 | 0.75 x |", out) # its words are at their end
        self.assertIn("ik_llama.cpp RPC: no server found (--ik-rpc-server PATH)", err)
        with open(self.folder + "/log") as f:
            lines = f.read().splitlines()
        self.assertIn("bench --ranks 2 ", lines[0])
        self.assertIn(" -t 1 ", lines[0])
        self.assertIn(" -t 2 ", lines[1])
        ports = [x.split()[4] for x in lines if x.startswith("rpc-server -H 127.0.0.1 -p ") and x.endswith(" -t 1")]
        self.assertEqual(len(ports), 2, lines)
        asked = [re.search(r" --rpc 127.0.0.1:(\d+),127.0.0.1:(\d+) -ngl 999 ", x) for x in lines if " --rpc " in x]
        self.assertEqual([sorted(x.groups()) for x in asked], [sorted(ports)], lines)
        worker = [x for x in lines if x.startswith("dworker worker --port ")]
        self.assertEqual(len(worker), 1, lines)
        self.assertTrue(any(x.startswith("dllama inference") and x.endswith("--workers 127.0.0.1:" + worker[0].split()[3]) for x in lines), lines)
        self.assertEqual(subprocess.run(["pgrep", "-f", self.folder], capture_output=True, text=True).stdout.split(), [])
        self.program("rpc-server", BROKEN)
        out, err = self.compare("--ranks", "2", "-r", "1")
        self.assertIn("llama.cpp RPC: m.gguf, 2 x 1 threads: rpc-server does not listen", err)

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
