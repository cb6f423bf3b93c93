"""What the failure tests share: models made by `coffer synth`, runs under both kinds of launcher, and the rule that holds
for every run: it ends within LIMIT seconds and leaves no process and no file in /dev/shm behind."""
import contextlib, glob, os, re, shutil, signal, struct, subprocess, sys, tempfile, time, unittest

coffer = os.path.abspath(sys.argv[1])
LIMIT = 10  # seconds from the fault to the end
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
ENDLESS = ["--ignore-eos", "-n", "100000", "-c", "100000", "--temp", "0"]

def clean_environment():
    """Ours, without what would make coffer believe that a launcher has started it."""
    drop = ("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_", "ENVIRONMENT")
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)}

def read(path, mode="r"):
    with open(path, mode) as f:
        return f.read()

class Case(unittest.TestCase):
    """Every process that a test starts carries MARK in its environment, so that orphans are found wherever they hang."""
    shape = ["--layers", "4", "--dim", "256"]  # of the models

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="coffer-failures-")
        cls.shm = tempfile.mkdtemp(prefix="coffer-failures-", dir="/dev/shm")  # Open MPI's, so that its leftovers are known as ours
        os.mkdir(cls.dir + "/sessions")
        cls.model = cls.synth("model.gguf")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)
        shutil.rmtree(cls.shm)

    @classmethod
    def synth(cls, name, *words):
        path = os.path.join(cls.dir, name)
        subprocess.run([coffer, "synth", "--arch", "llama", *cls.shape, "--vocab", "1000", "--seed", "1", *words, "-o", path], check=True,
                       stderr=subprocess.DEVNULL)
        return path

    def setUp(self):
        self.mark = f"COFFER_TEST_MARK={os.getpid()}-{self.id()}"
        self.env = {**clean_environment(), **dict([self.mark.split("=", 1)])}
        self.env["OMPI_MCA_orte_tmpdir_base"], self.env["OMPI_MCA_btl_vader_backing_directory"] = self.dir + "/sessions", self.shm
        self.env["XDG_STATE_HOME"] = self.dir  # of supervisors' journals
        self.shm_before = self.in_shm()

    def tearDown(self):
        end = time.time() + 5
        while self.alive() and time.time() < end:
            time.sleep(0.05)
        left = self.alive()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.assertEqual(left, [], "orphans")
        left = self.left_files()
        for path in left:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        if not self.launcher_killed:
            self.assertEqual(left, [], "left files")

    launcher_killed = False  # then nobody is left to clean up behind Open MPI

    def left_files(self):
        """What our runs left behind: Open MPI's shared memory and session directories."""
        left = glob.glob(self.shm + "/*") + glob.glob(self.dir + "/sessions/ompi.*/pid.*")
        return left + sorted(self.in_shm() - self.shm_before)

    @staticmethod
    def in_shm():
        """What lies in /dev/shm under our name; tests that run beside this one have their own folders and files there."""
        return {f for f in glob.glob("/dev/shm/*coffer*") if not os.path.basename(f).startswith(("coffer-failures-", "coffer-test-"))}

    def alive(self, *names):
        """Our processes that run, of these programs (any if none is named)."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if self.mark.encode() not in read(f"/proc/{pid}/environ", "rb").split(b"\0"):
                    continue
                if read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] in "ZX":
                    continue
                if not names or read(f"/proc/{pid}/comm").strip() in names:
                    found.append(int(pid))
        return found

    def path(self, name, data):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def script(self, name, text):
        path = self.path(name, text.encode())
        os.chmod(path, 0o755)
        return path

    def rank_pid(self, rank):
        for pid in self.alive("coffer"):
            with contextlib.suppress(OSError):
                if f"OMPI_COMM_WORLD_RANK={rank}".encode() in read(f"/proc/{pid}/environ", "rb").split(b"\0"):
                    return pid
        self.fail(f"no rank {rank}")

    def command(self, *words, ranks=1, how="own", model=None, prompt=("-p", "Once upon")):
        """how: own (the user's mpirun), self (coffer starts it), or program: a path that stands for coffer."""
        base = ["run", "-m", model or self.model, *prompt, *words]
        if ranks == 1 and how == "own":
            return [coffer, *base]
        if how == "self":
            return [coffer, *base, "--ranks", str(ranks)]
        return [*MPIRUN, "-n", str(ranks), coffer if how == "own" else how, *base]

    def start(self, *words, stdout=subprocess.PIPE, **more):
        return subprocess.Popen(self.command(*words, **more), env=self.env, stdin=subprocess.DEVNULL, stdout=stdout,
                                stderr=subprocess.PIPE)

    def run_to_end(self, *words, limit=LIMIT, **more):
        return self.end(self.start(*words, **more), limit)

    def end(self, p, limit=LIMIT):
        """(status, stdout, stderr) of a run that must end by itself."""
        try:
            out, err = p.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            for pid in self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.fail(f"still there after {limit} s: {p.communicate()[1]}")
        return p.returncode, out or b"", err.decode(errors="replace")

    def wait_for_text(self, p, n=64):
        """Until n bytes of text are there: the run is in the middle of generation."""
        text = b""
        while len(text) < n:
            got = os.read(p.stdout.fileno(), 4096)
            self.assertTrue(got, "the text ended early")
            text += got
        return text

    def wait_for_line(self, p, pattern):
        """Until stderr holds a line like that."""
        text = b""
        while not re.search(pattern.encode(), text, re.MULTILINE):
            got = os.read(p.stderr.fileno(), 4096)
            self.assertTrue(got, text)
            text += got

    def fails(self, status, pattern, *words, **more):
        got, out, err = self.run_to_end(*words, **more)
        self.assertEqual(got, status, err)
        self.assertRegex(err, pattern)
        self.assertNotRegex(err, r"(rank \d+ \([^)]*\)): \1", "names the same rank twice")
        return out, err

SAMPLED = ["--temp", "0.9", "--seed", "7", "--repeat-penalty", "1.2", "--dry-multiplier", "0.5", "--xtc-probability", "0.3"]
LONG = ["--layout", "tensor", "--ignore-eos", "-n", "300", "-c", "400"]

class Supervised(Case):
    """Runs with a journal, which their tests leave behind. The model is slow enough (300 tokens are a third of a second) for something
    to befall a run that has been seen to be in its middle."""
    shape = ["--layers", "8", "--dim", "512"]

    def setUp(self):
        super().setUp()
        self.addCleanup(shutil.rmtree, self.dir + "/coffer", ignore_errors=True)

def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
