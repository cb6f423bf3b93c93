#!/usr/bin/python3
"""faults.py COFFER HOSTS [--runs N] [--faults LIST] [--hosts H] [--model FILE] [--layout L] [-n TOKENS]: what a supervised run makes of
faults at random moments. Each run is the same answer on H hosts made of namespaces (HOSTS: the test bed's script), with one
fault at a random moment of it; then the text must be, byte for byte, that of an undisturbed run, the status 0, and nothing
may be left on any host. Prints a table: fault, runs, identical, and the seconds from the fault to the next new token (the
first text behind the restart): median and worst. Status 0 if all runs are as they must be, 1 if not, 77: skipped, and why.

    rank      SIGKILL of a rank            cut       every packet of a host is lost, silently
    orted     SIGKILL of a daemon          linkdown  a host's interface goes down
    mpirun    SIGKILL of mpirun            crash     a host is gone: its network, and all of its processes stand still
"""
import argparse, os, random, re, select, shutil, signal, statistics, subprocess, sys, tempfile, time

FAULTS = ("rank", "orted", "mpirun", "cut", "linkdown", "crash")
UNDO = {"cut": "mend", "linkdown": "linkup", "crash": "boot"}

def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("coffer")
    a.add_argument("bed")
    a.add_argument("--runs", type=int, default=20)
    a.add_argument("--faults", default=",".join(FAULTS))
    a.add_argument("--hosts", type=int, default=3)
    a.add_argument("--model")
    a.add_argument("--layout", default="hybrid")
    a.add_argument("-n", type=int, default=400, help="tokens of the answer")
    a.add_argument("--seed", type=int, default=1, help="of the random moments")
    a.add_argument("--limit", type=float, default=300, help="seconds for one run")
    a.add_argument("-v", action="store_true", help="show each run's stderr")
    return a.parse_args()

def why_not(o):
    if not os.access(o.bed, os.X_OK): return f"no test bed at {o.bed}"
    if os.geteuid() != 0: return "not root"
    for tool in ("ip", "tc", "nsenter", "unshare", "mpirun"):
        if not shutil.which(tool): return f"no {tool}"
    if subprocess.run(["unshare", "--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "true"], stderr=subprocess.DEVNULL).returncode:
        return "namespaces are not allowed here"
    return None

def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""

class Bed:
    """The hosts, and what runs on them. All of our processes carry MARK in their environment."""
    def __init__(self, o):
        self.o = o
        self.rank = os.path.basename(o.coffer)[:15]  # its processes are called so
        self.dir = tempfile.mkdtemp(prefix="coffer-faults-")
        self.mark = f"COFFER_TEST_MARK=faults-{os.getpid()}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_", "COFFER_"))}
        self.env = {**clean, **dict([self.mark.split("=")]), "HOSTS_STATE": f"/tmp/coffer-faults-{os.getpid()}", "HOSTS_NET": f"10.{200 + os.getpid() % 50}.9",
                    "XDG_STATE_HOME": self.dir, "OMPI_MCA_orte_tmpdir_base": self.dir + "/sessions"}
        os.mkdir(self.dir + "/sessions")
        self.names = [f"h{k + 1}" for k in range(o.hosts)]
        self.call("up", str(o.hosts), "--slots", "1")

    def call(self, *words):
        subprocess.run([self.o.bed, *words], env=self.env, check=True, stdout=subprocess.DEVNULL)

    def close(self):
        self.call("down")
        shutil.rmtree(self.dir)

    def processes(self):
        """(pid, name, environment) of each of ours that runs."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            environment = read(f"/proc/{pid}/environ").split(b"\0")
            state = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            if self.mark.encode() in environment and state and state[0] not in b"ZX":
                yield int(pid), read(f"/proc/{pid}/comm").strip().decode(), environment

    def pids(self, name, is_rank=False):
        return [pid for pid, comm, env in self.processes() if comm == name and is_rank == any(v.startswith(b"OMPI_COMM_WORLD_RANK=") for v in env)]

    def tidy(self):
        """After a run that was not as it must be: the next one begins clean."""
        for pid, _, _ in list(self.processes()):
            if pid != os.getpid() and b"COFFER_TEST_MARK" in read(f"/proc/{pid}/environ") and read(f"/proc/{pid}/comm").strip() in (self.rank.encode(), b"orted", b"mpirun"):
                try: os.kill(pid, signal.SIGKILL)
                except ProcessLookupError: pass
        for folder in ("/sessions", "/coffer"):
            shutil.rmtree(self.dir + folder, ignore_errors=True)
        os.mkdir(self.dir + "/sessions")

    def left(self):
        """What a run has left behind, once everything has had the time to end."""
        end = time.time() + 20
        while (alive := self.pids(self.rank, True) + self.pids("orted") + self.pids("mpirun")) and time.time() < end:
            time.sleep(0.1)
        left = [f"process {pid}" for pid in alive]
        for host in self.names:
            holder = read(f"{self.env['HOSTS_STATE']}/{host}.pid").decode().strip()
            left += [f"{host}:/dev/shm/{f}" for f in os.listdir(f"/proc/{holder}/root/dev/shm")]
        for folder, _, files in os.walk(self.dir + "/sessions"):
            left += [os.path.join(folder, f) for f in files]
        return left + (os.listdir(self.dir + "/coffer") if os.path.isdir(self.dir + "/coffer") else [])

class Run:
    def __init__(self, bed, model):
        o = bed.o
        self.bed, self.text, self.err, self.at, self.first = bed, b"", b"", None, None
        words = ["run", "-m", model, "-p", "Once upon a time", "-n", str(o.n), "-c", str(o.n + 64), "--ignore-eos", "--seed", "7", "--temp", "0.9", "--ranks", str(o.hosts), "--layout", o.layout]
        self.began = time.time()
        self.p = subprocess.Popen([o.bed, "run", os.path.abspath(o.coffer), *words], env=bed.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def pump(self, until=None):
        """Reads until this moment, or to the end: true if the end has come."""
        out, err = self.p.stdout.fileno(), self.p.stderr.fileno()
        streams = [out, err]
        while streams and (until is None or time.time() < until):
            if time.time() - self.began > self.bed.o.limit:
                self.p.kill()
                raise TimeoutError(f"no end in {self.bed.o.limit} s: {self.err.decode()}")
            for fd in select.select(streams, [], [], 0.05)[0]:
                got = os.read(fd, 65536)
                if not got:
                    streams.remove(fd)
                elif fd == err:
                    self.err += got
                else:
                    self.text += got
                    if self.at and self.first is None and re.search(rb"; start \d+ with", self.err):
                        self.first = time.time()
        return not streams

    def harm(self, fault):
        """Returns the host that is to be mended, or None. Waits for a process to be there."""
        bed = self.bed
        self.at = time.time()
        if fault in UNDO:
            host = random.choice(bed.names)
            bed.call(fault, host)
            return host
        while self.p.poll() is None and not (pids := bed.pids(bed.rank, True) if fault == "rank" else bed.pids(fault)):
            self.pump(time.time() + 0.05)
        self.at = time.time()
        if pids: os.kill(random.choice(pids), signal.SIGKILL)
        return None

def one(bed, fault, model, want, seconds):
    """Seconds to the next token, or None if the moment was too early or too late; raises what is wrong."""
    run = Run(bed, model)
    if run.pump(run.began + random.uniform(0.3, max(0.6, 0.9 * seconds))): return None
    host = run.harm(fault)
    try:
        run.pump()
    finally:
        if host: bed.call(UNDO[fault], host)
        run.p.wait()
    if bed.o.v: print(run.err.decode(), file=sys.stderr)
    if run.p.returncode or run.text != want:
        raise AssertionError(f"{fault}: status {run.p.returncode}, {len(run.text)} bytes of {len(want)}, {'the same' if want.startswith(run.text) else 'other'} text\n{run.err.decode()}")
    if left := bed.left():
        raise AssertionError(f"{fault}: left behind: {left}\n{run.err.decode()}")
    return run.first - run.at if run.first else None

def main():
    o = arguments()
    if reason := why_not(o):
        print("skipped:", reason)
        return 77
    random.seed(o.seed)
    bed = Bed(o)
    failed = 0
    try:
        model = o.model or bed.dir + "/model.gguf"
        if not o.model:
            subprocess.run([o.coffer, "synth", "--arch", "llama", "--layers", "4", "--dim", "256", "--vocab", "1000", "--seed", "1", "-o", model], check=True,
                           stderr=subprocess.DEVNULL)
        undisturbed = Run(bed, model)
        undisturbed.pump()
        if undisturbed.p.wait(): raise AssertionError(undisturbed.err.decode())
        seconds, want = time.time() - undisturbed.began, undisturbed.text
        print(f"undisturbed: {len(want)} bytes in {seconds:.1f} s on {o.hosts} hosts, 1 rank each\n\n| fault | runs | identical | median s | worst s |\n|---|---|---|---|---|", flush=True)
        for fault in o.faults.split(","):
            gaps, bad, tried = [], 0, 0
            while len(gaps) + bad < o.runs and tried < 3 * o.runs:
                tried += 1
                try:
                    gap = one(bed, fault, model, want, seconds)
                except (AssertionError, TimeoutError) as e:
                    print(e, file=sys.stderr, flush=True)
                    bed.tidy()
                    bad += 1
                    continue
                if gap is not None:
                    gaps.append(gap)
            figures = f"{statistics.median(gaps):.1f} | {max(gaps):.1f}" if gaps else "- | -"
            print(f"| {fault} | {len(gaps) + bad} | {len(gaps)} | {figures} |", flush=True)
            failed += bad + (not gaps)
    finally:
        bed.close()
    return 1 if failed else 0

if __name__ == "__main__":
    sys.exit(main())
