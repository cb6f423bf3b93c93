#!/usr/bin/python3
"""slurm_test.py COFFER BATCHFILE: starts a Slurm of three nodes on this machine (own key, ports, folders; nothing of it stays),
gives it the batch file of deploy/ as it is, and wants the answer of one rank; also of a coffer that starts mpirun in the allocation
itself and loses a rank, or a node. Then tasks that --mpi=pmix does not bring
together, and bindings that the doctor must see. Status 77: skipped, and why."""
import contextlib, glob, json, os, re, shlex, shutil, signal, socket, subprocess, sys, tempfile, time, unittest

coffer, batch = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "sinfo", "unshare")
CONF = """ClusterName=coffer
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.socket
CredType=cred/munge
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmctldPidFile={dir}/ctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/ctld.log
SlurmdLogFile={dir}/slurmd-%n.log
TmpFS={dir}/tmp
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=1000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=1000 State=UNKNOWN
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports

def environment(**more):
    drop = ("OMPI_", "PMIX_", "PMI_", "SLURM_", "COFFER_", "SBATCH_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(drop)}, **more}

class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="coffer-slurm-")
        os.chmod(cls.dir, 0o755)
        cls.processes = []
        cls.addClassCleanup(cls.tear_down)
        for name in ("state", "spool-n1", "spool-n2", "spool-n3", "tmp"):
            os.mkdir(f"{cls.dir}/{name}")
        with open(f"{cls.dir}/key", "wb") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write(os.urandom(1024))
        with open(f"{cls.dir}/slurm.conf", "w") as f:
            f.write(CONF.format(dir=cls.dir, host=socket.gethostname().split(".")[0], ports=free_ports(4)))
        # lo: Open MPI leaves it out, but between the nodes of this Slurm there may be nothing else.
        cls.env = environment(SLURM_CONF=f"{cls.dir}/slurm.conf", COFFER=coffer, MODEL=f"{cls.dir}/model.gguf", OMPI_MCA_btl_tcp_if_include="lo")
        files = [f"--{name}-file={cls.dir}/munge.{name}" for name in ("pid", "log", "seed")]
        cls.begin("munged", "--foreground", "--force", f"--key-file={cls.dir}/key", f"--socket={cls.dir}/munge.socket", *files)
        cls.until(lambda: os.path.exists(f"{cls.dir}/munge.socket"))
        cls.begin("slurmctld", "-D")
        cls.name_nodes()
        for n in ("n1", "n2", "n3"):
            cls.begin_node(n)
        cls.until_idle()
        subprocess.run([coffer, "synth", "--arch", "llama", "--layers", "4", "--dim", "256", "--heads", "4", "--kv-heads", "2", "--vocab", "1000",
                        "--seed", "1", "-o", cls.env["MODEL"]], check=True, stderr=subprocess.DEVNULL)

    @classmethod
    def name_nodes(cls, lost=None):
        """What the nodes know each other by. A lost one is where nobody can be (a broadcast address)."""
        with open(f"{cls.dir}/hosts", "w") as f:  # in place: it is mounted
            f.write("".join(f"{'127.255.255.255' if n == lost else '127.0.0.1'} {n}\n" for n in ("localhost", socket.gethostname(), "n1", "n2", "n3")))

    @classmethod
    def begin_node(cls, n):
        """With a name, a /dev/shm and a folder where PMIx meets of its own, as real nodes have."""
        private = f"mount -t tmpfs none {cls.dir}/tmp && mount -t tmpfs none /dev/shm && mount --bind {cls.dir}/hosts /etc/hosts && hostname {n}"
        cls.begin("unshare", "-m", "-u", "bash", "-c", f"{private} && exec slurmd -D -N {n}")

    @classmethod
    def until_idle(cls, seconds=30):
        cls.until(lambda: re.findall(r"(?m)^idle$", cls.tool("sinfo", "-h", "-N", "-o", "%T").stdout) == ["idle"] * 3, seconds)

    @classmethod
    def begin(cls, *words):
        log = open(f"{cls.dir}/out.log", "ab")
        cls.processes.append(subprocess.Popen(words, env=cls.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        log.close()

    @classmethod
    def tear_down(cls):
        for p in reversed(cls.processes):
            p.send_signal(signal.SIGTERM)
        for p in cls.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for pid in filter(str.isdigit, os.listdir("/proc")):  # a step's keeper outlives its slurmd, where the end of a job met it
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if cls.dir.encode() in f.read(): os.kill(int(pid), signal.SIGKILL)
        shutil.rmtree(cls.dir)

    @classmethod
    def until(cls, ready, seconds=30):
        end = time.time() + seconds
        while not ready():
            if time.time() > end:
                with open(f"{cls.dir}/out.log") as f:
                    raise AssertionError("Slurm did not come up:\n" + f.read()[-3000:])
            time.sleep(0.1)

    @classmethod
    def tool(cls, *words, limit=90):
        return subprocess.run(words, env=cls.env, cwd=cls.dir, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)

    def test_batch_file(self):
        words = ["--prompt-ids", "1,5,9,301,77", "-n", "6", "--temp", "0", "--ignore-eos", "--json"]
        want = json.loads(subprocess.run([coffer, "run", "-m", self.env["MODEL"], *words], env=environment(), capture_output=True, check=True).stdout)
        for layout in ("tensor", "layers"):
            p = self.tool("sbatch", "--wait", "--output=out", batch, *words, "--layout", layout)
            with open(self.dir + "/out") as f:
                out = f.read()
            self.assertEqual(p.returncode, 0, p.stdout + p.stderr + out)
            self.assertRegex(out, r"(?m)^4 ranks: \d+ ok, \d+ warnings?, 0 failures$")
            got = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
            self.assertEqual((got["ids"], got["logits_xxh64"]), (want["ids"], want["logits_xxh64"]))
            self.assertEqual([r["host"] for r in got["plan"]["ranks"]], ["n1", "n1", "n2", "n2"])

    def own_mpirun(self, harm, *words):
        """A job that starts coffer without srun, and is harmed in the middle: (what it says, is its answer that of one rank?)."""
        run = ["run", "-m", self.env["MODEL"], "-p", "Once", "-n", "4000", "-c", "4100", "--temp", "0", "--ignore-eos"]
        want = subprocess.run([coffer, *run], env=environment(), capture_output=True, check=True).stdout
        text, out = self.dir + "/own.text", self.dir + "/own"
        with open(self.dir + "/job", "w") as f:
            f.write(f"#!/bin/bash\nexport XDG_STATE_HOME={self.dir}\nexec {shlex.join([coffer, *run, '--layout', 'layers'])} > {text}\n")
        with contextlib.suppress(OSError):
            os.unlink(text)
        p = subprocess.Popen(["sbatch", "--wait", "--output=own", "--exclusive", "--mem=0", *words, self.dir + "/job"], env=self.env, cwd=self.dir,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.until(lambda: os.path.exists(text) and os.path.getsize(text) > 100)
        harm()
        status = p.wait(90)
        with open(out) as f, open(text, "rb") as answer:
            said = f.read()
            self.assertEqual((status, answer.read()), (0, want), said)
        return said

    def test_own_mpirun(self):
        """Without srun a run takes all hosts that are allocated, under a supervisor: a rank dies, and the answer is whole. Nobody has spoken of
        tasks, so Slurm counts as many as there are cores."""
        said = self.own_mpirun(lambda: os.kill(self.rank(1), signal.SIGKILL), "--nodes=2")
        start = r"(\nrank \d+ host n1 [^\n]*)+(\nrank \d+ host n2 [^\n]*)+"
        self.assertRegex(said, rf"(?s){start}\n.*; start 2 with \d+ ranks(?=\n).*{start}\n")
        self.assertEqual(said.count("\nrank "), 4 * self.numa_nodes())

    def test_lost_node(self):
        """Of three nodes one is gone, and Slurm does not know it yet: the others go on."""
        def lose():
            self.name_nodes("n3")
            for pid in self.all_of("n3"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            said = self.own_mpirun(lose, "--nodes=3", "--no-kill")
        finally:
            self.name_nodes()
            self.begin_node("n3")
        self.assertRegex(said, r"(?s)\nrank \d+ host n3 .*; start 2 with \d+ ranks; without host n3\n.*\nrank \d+ host n2 ")
        self.until_idle(60)

    @staticmethod
    def numa_nodes():
        return sum(bool(subprocess.check_output(["cat", path]).strip()) for path in glob.glob("/sys/devices/system/node/node[0-9]*/cpulist")) or 1

    def all_of(self, node):
        """All processes in a node's namespace of names."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    found.setdefault(os.readlink(f"/proc/{pid}/ns/uts"), []).append((int(pid), f.read().split(b"\0")))
        for members in found.values():
            if any(words[0].endswith(b"slurmd") and node.encode() in words for _, words in members): return [pid for pid, _ in members]
        self.fail(f"no {node}")

    def rank(self, n):
        """The pid of this rank of ours."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if f"OMPI_COMM_WORLD_RANK={n}".encode() in words and f"SLURM_CONF={self.dir}/slurm.conf".encode() in words: return int(pid)
        self.fail(f"no rank {n}")

    def test_model_missing(self):
        """The doctor ends the job before a run would."""
        env = dict(self.env)
        try:
            self.env["MODEL"] = "/nowhere.gguf"
            p = self.tool("sbatch", "--wait", "--output=missing", batch, "-p", "x")
        finally:
            self.env.update(env)
        with open(self.dir + "/missing") as f:
            out = f.read()
        self.assertNotEqual(p.returncode, 0)
        self.assertRegex(out, r"(?m)^0-3 +model +FAIL +/nowhere\.gguf: No such file")
        self.assertNotIn("coffer run:", out)

    def test_without_pmix(self):
        p = self.tool("srun", "--mpi=none", "-N", "2", "--ntasks-per-node", "1", coffer, "doctor")
        self.assertEqual(p.returncode, 2, p.stderr)
        self.assertIn("srun --mpi=pmix", p.stderr)

def why_not():
    if os.geteuid() != 0: return "not root"
    for program in PROGRAMS:
        if not shutil.which(program) and not shutil.which("/usr/sbin/" + program): return f"no {program}"
    if not any(f.startswith("mpi_pmix") for d in ("/usr/lib/x86_64-linux-gnu/slurm-wlm", "/usr/lib/aarch64-linux-gnu/slurm-wlm", "/usr/lib64/slurm")
               if os.path.isdir(d) for f in os.listdir(d)): return "Slurm has no PMIx"
    if subprocess.run(["unshare", "-m", "-u", "true"], stderr=subprocess.DEVNULL).returncode: return "namespaces are not allowed here"
    return None

if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin"
    reason = why_not()
    if reason:
        print("skipped:", reason)
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
