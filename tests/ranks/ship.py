#!/usr/bin/env python3
"""ship.py COFFER: --ship. Ranks that lack the model (a wrapper hides it from them) get what their slices need from rank 0: the
same ids and logits in every layout, no more than they need, what was there is not sent again, what was damaged is, an
interrupted run goes on where it ended, and what cannot be is said in one line."""
import glob, json, os, re, shutil, signal, struct, subprocess, sys, tempfile, time, unittest

coffer = os.path.abspath(sys.argv[1])
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "odls_base_sigkill_timeout", "0"]
LAYOUTS = ("tensor", "layers", "hybrid", "domain")
BLOCK = 256 * 1024
# Ranks named in HIDE look for the model where it is not. With HOSTS each of so many hosts (runs of ranks) has a cache of its own.
WRAPPER = """#!/bin/bash
rank=${OMPI_COMM_WORLD_RANK:-0}
[ -z "$HOSTS" ] || { export COFFER_TEST_HOSTS=$HOSTS; XDG_CACHE_HOME=$XDG_CACHE_HOME/$((rank * HOSTS / OMPI_COMM_WORLD_SIZE)); }
export XDG_CACHE_HOME
case ",$HIDE," in *,$rank,*) set -- "${@//$MODELS/$MODELS/none}" ;; esac
exec "$COFFER" "$@"
"""

def split(path, prefix, n):
    """A model file as a set of n (llama.cpp's form): keys in all of them, tensors dealt in order. Returns the first one's path."""
    with open(path, "rb") as f:
        data = f.read()
    at = 24
    def take(form):
        nonlocal at
        got, = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize(form)
        return got
    def text():
        nonlocal at
        length = take("Q")
        at += length
    def skip(kind):
        nonlocal at
        if kind == 8:
            text()
        elif kind == 9:
            element, count = take("I"), take("Q")
            for _ in range(count):
                skip(element)
        else:
            at += {0: 1, 1: 1, 2: 2, 3: 2, 7: 1, 10: 8, 11: 8, 12: 8}.get(kind, 4)
    version, n_tensors, n_keys = struct.unpack_from("<IQQ", data, 4)
    for _ in range(n_keys):
        text()
        skip(take("I"))
    keys, tensors = data[24:at], []
    for _ in range(n_tensors):
        begin = at
        text()
        for _ in range(take("I")):
            take("Q")
        take("I")
        tensors.append((data[begin:at], take("Q")))
    rest = data[-(-at // 32) * 32:]
    ends = [offset for _, offset in tensors[1:]] + [len(rest)]
    parts = [list(zip(tensors, ends))[i * n_tensors // n:(i + 1) * n_tensors // n] for i in range(n)]
    def key(name, form, kind, value):
        return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I" + form, kind, value)
    for i, part in enumerate(parts):
        head = struct.pack("<4sIQQ", b"GGUF", version, len(part), n_keys + 3) + keys
        head += key("split.no", "H", 2, i) + key("split.count", "H", 2, n) + key("split.tensors.count", "i", 5, n_tensors)
        first = part[0][0][1]
        head += b"".join(info + struct.pack("<Q", offset - first) for (info, offset), _ in part)
        with open(f"{prefix}-{i + 1:05d}-of-{n:05d}.gguf", "wb") as f:
            f.write(head + bytes(-len(head) % 32) + rest[first:part[-1][1]])
    return f"{prefix}-00001-of-{n:05d}.gguf"

class Ship(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="coffer-ship-")
        cls.models = cls.dir + "/models"
        os.mkdir(cls.models)
        cls.model = cls.synth("model.gguf", 1)
        cls.wrapper = cls.dir + "/wrapper"
        with open(cls.wrapper, "w") as f:
            f.write(WRAPPER)
        os.chmod(cls.wrapper, 0o755)
        cls.want = cls.answer(subprocess.run([coffer, *cls.words(cls.model)], env=cls.environment(), capture_output=True, check=True))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    @classmethod
    def synth(cls, name, seed, *more):
        path = f"{cls.models}/{name}"
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "6", "--dim", "512", "--heads", "8", "--kv-heads", "4", "--vocab", "4000", "--type",
                        "q8_0", "--seed", str(seed), *more, "-o", path], check=True, stderr=subprocess.DEVNULL)
        return path

    def setUp(self):
        self.cache = tempfile.mkdtemp(prefix="cache-", dir=self.dir)

    @classmethod
    def environment(cls, **more):
        drop = ("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        return {**clean, "COFFER": coffer, "MODELS": cls.models, **more}

    @staticmethod
    def words(model, *more):
        return ["run", "-m", model, "--prompt-ids", "1,5,9,301,77", "-n", "5", "--temp", "0", "--ignore-eos", "--json", *more]

    @staticmethod
    def answer(p):
        got = json.loads(p.stdout)
        return got["ids"], got["logits_xxh64"]

    def start(self, n, *more, hide="1", hosts="", model=None):
        # Equal shares: else they follow the measured bandwidths, and with them what a rank needs.
        env = self.environment(HIDE=hide, HOSTS=hosts, XDG_CACHE_HOME=self.cache, COFFER_TEST_EQUAL_RANKS="1")
        if "--layout" not in more: more = (*more, "--layout", "tensor")  # the default may leave a rank out: then it needs nothing
        return subprocess.Popen([*MPIRUN, "-n", str(n), self.wrapper, *self.words(model or self.model, "--ship", *more)], env=env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def ship(self, n, *more, want=None, **how):
        """Runs, compares, and returns {rank: (MB sent, MB in the cache, MB damaged)}."""
        p = self.start(n, *more, **how)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0, err.decode())
        got = json.loads(out)
        self.assertEqual((got["ids"], got["logits_xxh64"]), want or self.want)
        line = r"rank (\d+) host \S+: ([\d.]+) MB of the model sent, ([\d.]+) MB were in its cache(?:, ([\d.]+) MB there were damaged)?"
        return {int(r): (float(sent), float(there), float(damaged or 0)) for r, sent, there, damaged in re.findall(line, err.decode())}

    def fails(self, pattern, *more, status=1, **how):
        p = self.start(2, *more, **how)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, status, err.decode())
        self.assertRegex(err.decode(), pattern)

    def cached(self, name="model.gguf"):
        return glob.glob(f"{self.cache}/**/{name}", recursive=True)

    def test_every_layout(self):
        """Every rank but the first lacks the file; each is a host of its own."""
        for n in (2, 3, 4):
            for layout in LAYOUTS:
                with self.subTest(n=n, layout=layout):
                    self.setUp()
                    hide = ",".join(str(r) for r in range(1, n))
                    told = self.ship(n, "--layout", layout, hide=hide, hosts=str(n))
                    self.assertEqual(sorted(told), list(range(1, n)))
                    if layout == "layers":  # what the slices need, and hardly more: no layer twice
                        self.assertLess(sum(sent for sent, _, _ in told.values()), os.path.getsize(self.model) / 1e6 + 2 * n)
                    for path in self.cached():
                        self.assertEqual(os.path.getsize(path), os.path.getsize(self.model))
                    on_disk = sum(os.stat(path).st_blocks * 512 for path in self.cached())
                    self.assertLess(abs(on_disk / 1e6 - sum(sent for sent, _, _ in told.values())), 2)

    def test_one_host_fetches_once(self):
        """Two ranks of one host lack it: the lower one fetches for both."""
        told = self.ship(4, "--layout", "tensor", hide="2,3", hosts="2")
        self.assertEqual(list(told), [2])
        told = self.ship(3, hide="1,2")
        self.assertEqual(list(told), [1])

    def test_second_run_and_other_layouts(self):
        self.ship(2, "--layout", "layers")
        (sent, there, damaged), = self.ship(2, "--layout", "layers").values()
        self.assertEqual((sent, damaged), (0, 0))
        self.assertGreater(there, 10)
        (sent, more, _), = self.ship(2, "--layout", "tensor").values()  # what is still missing
        self.assertTrue(0 < sent and 0 < more, (sent, more, there))
        (sent, _, _), = self.ship(2, "--layout", "layers").values()
        self.assertEqual(sent, 0)

    def test_nobody_lacks_it(self):
        self.assertEqual(self.ship(2, hide=""), {})
        self.assertEqual(self.cached(), [])

    def test_self_started_and_bench(self):
        env = self.environment(HIDE="1", XDG_CACHE_HOME=self.cache, COFFER_TEST_READ_MIB="16")
        p = subprocess.run([coffer, *self.words(self.model, "--ranks", "2", "--ship")], env=env, capture_output=True, timeout=60)
        self.assertEqual(self.answer(p), self.want, p.stderr)
        # Two layouts one behind the other in one run: two rounds more.
        p = subprocess.run([*MPIRUN, "-n", "2", self.wrapper, "bench", "-m", self.model, "-p", "8", "-n", "4", "-r", "1", "--layout", "layers,tensor", "--ship",
                            "-o", "json"], env=env, capture_output=True, timeout=120)
        self.assertEqual(p.returncode, 0, p.stderr.decode())
        self.assertEqual(len(self.cached()), 1)

    def test_damaged_cache(self):
        self.ship(2)
        path, = self.cached()
        tensors = json.loads(subprocess.run([coffer, "inspect", self.model, "--json"], capture_output=True, check=True).stdout)["tensors"]
        middle = {t["name"]: t["offset"] + t["bytes"] // 2 for t in tensors}
        for at in (100, middle["blk.3.ffn_down.weight"], middle["blk.5.ffn_norm.weight"]):  # header; parts that every rank reads whole
            with open(path, "r+b") as f:
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 4]))
            (sent, _, damaged), = self.ship(2).values()
            self.assertTrue(0 < damaged <= 0.3 and sent >= damaged, (at, sent, damaged))
        with open(os.path.dirname(path) + "/map", "r+b") as f:  # a map of another length: nothing counts as there
            f.truncate(1000)
        (sent, there, damaged), = self.ship(2).values()
        self.assertTrue(sent > 10 and there == 0 and damaged == 0)
        os.truncate(path, 1000)
        (sent, _, damaged), = self.ship(2).values()
        self.assertTrue(sent > 10 and damaged > 10)

    def filled(self):
        """Blocks that the map speaks of."""
        for path in glob.glob(f"{self.cache}/**/map", recursive=True):
            with open(path, "rb") as f:
                words = f.read()
            return sum(h != 0 for h, in struct.iter_unpack("<Q", words[32:]))
        return 0

    def test_interrupted(self):
        """Killed in the middle of it: the next run goes on there. (A model that takes longer than for this test to get its turn
        on a busy core; a fast machine may be done first all the same: tried again.)"""
        model = self.synth("large.gguf", 1, "--layers", "12", "--dim", "1024", "--heads", "16", "--ffn", "4096", "--vocab", "8000")
        want = self.answer(subprocess.run([coffer, *self.words(model)], env=self.environment(), capture_output=True, check=True))
        self.ship(2, model=model, want=want)
        whole = self.filled()
        for attempt in range(10):
            shutil.rmtree(self.cache)
            self.setUp()
            p = self.start(2, model=model)
            while self.filled() < 10 and p.poll() is None:
                pass
            os.killpg(p.pid, signal.SIGKILL)
            for rank in subprocess.run(["pgrep", "-f", self.models + "/none"], capture_output=True, text=True).stdout.split():
                os.kill(int(rank), signal.SIGKILL)
            p.communicate()
            time.sleep(0.2)
            there = self.filled()
            if there < 0.95 * whole: break
        self.assertTrue(10 <= there < 0.95 * whole, (there, whole))
        (sent, found, damaged), = self.ship(2, model=model, want=want).values()
        os.unlink(model)
        self.assertEqual(damaged, 0)
        self.assertAlmostEqual(found, there * BLOCK / 1e6, delta=0.6)
        self.assertGreater(sent, 1)
        print(f"interrupted after {there} of {whole} blocks; then {sent} MB sent, {found} MB found")

    def test_model_changes(self):
        """Another file of the same name, size and header: what the cache holds of the old one is not taken for it."""
        first, other = self.synth("change.gguf", 1), self.synth("other.gguf", 2)
        self.ship(2, model=first)
        os.replace(other, first)
        want = self.answer(subprocess.run([coffer, *self.words(first)], env=self.environment(), capture_output=True, check=True))
        self.assertNotEqual(want, self.want)
        self.ship(2, model=first, want=want)

    def test_split_set(self):
        """The headers and the tensors of all three files of a set come, to files of the same names."""
        first = split(self.model, self.models + "/set", 3)
        self.ship(3, hide="1,2", hosts="3", model=first)
        self.assertEqual(sorted(os.path.basename(f) for f in self.cached("*.gguf")), sorted(2 * [f"set-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]))
        self.assertEqual([sent for sent, _, _ in self.ship(3, hide="1,2", hosts="3", model=first).values()], [0, 0])

    def test_what_cannot_be(self):
        hidden = re.escape(self.models + "/none/model.gguf")
        p = subprocess.run([*MPIRUN, "-n", "2", self.wrapper, *self.words(self.model)], capture_output=True, timeout=60,
                           env=self.environment(HIDE="1", XDG_CACHE_HOME=self.cache))
        self.assertEqual(p.returncode, 1)
        self.assertRegex(p.stderr.decode(), rf"rank 1 \([^)]*\): {hidden}: No such file or directory \(--ship sends there what it needs\)")
        self.fails(rf"coffer run: {hidden}: No such file or directory\n", hide="0,1")
        with open(self.dir + "/file", "w"):
            pass
        self.cache = self.dir + "/file"  # where a folder should be
        self.fails(r"rank 1 \([^)]*\): \S+/file/coffer: Not a directory")

    def test_full_disk(self):
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "ship", self.cache], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("tmpfs cannot be mounted here")
        try:
            self.fails(r"rank 1 \([^)]*\): \S+: the disk is full: [\d.]+ MB of the model are to come, [\d.]+ MB are free")
            subprocess.run(["mount", "-o", "remount,size=64m", self.cache], check=True)
            self.ship(2)
        finally:
            subprocess.run(["umount", "-l", self.cache], check=True)

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
