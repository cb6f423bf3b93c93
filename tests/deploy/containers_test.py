#!/usr/bin/python3
"""containers_test.py DEPLOY [BASE]: builds the image of deploy/templates/Dockerfile as it stands, runs in it what its comment
says, and then the MPIJob: pods are containers of that image with the template's user, privileges, memory and volumes, under
docker's rules for mbind (mpi_operator.py has the operator's part). The image debian:12 is made by debootstrap, for there may be
no registry; everything lies in a folder that is gone afterwards (4 GB, TMPDIR or /var/tmp). BASE: a root directory that
debootstrap made before. It compiles all of Coffer and takes minutes, so it is in the preset testbed. Status 77: skipped, and why."""
import json, os, re, resource, shlex, shutil, subprocess, sys, tempfile, time, unittest

from mpi_operator import Bed, Job, JobTests, clean_environment, words_in

deploy = os.path.abspath(sys.argv[1])
POLICY = ["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]  # docker: with SYS_NICE only
CONF = """[containers]
seccomp_profile = "{folder}/seccomp.json"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{folder}"]
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
"""

def repositories():
    """(address, suite) of Debian 12 as this machine's apt has them, the suite itself first."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages"]
    p = subprocess.run(targets, capture_output=True, text=True)
    found = sorted({tuple(line.split()[:2]) for line in p.stdout.splitlines() if re.fullmatch(r"\S+ bookworm\S* main Debian", line)}, key=lambda r: len(r[1]))
    return found if found and found[0][1] == "bookworm" else [("http://deb.debian.org/debian", "bookworm")]

def make_base(folder):
    """A root directory of Debian 12 that reaches packages in the way of this machine."""
    if len(sys.argv) > 2:
        return sys.argv[2]
    sources, base = repositories(), folder + "/base"
    with open(folder + "/debootstrap.log", "w") as log:
        if subprocess.run(["debootstrap", "--variant=minbase", "bookworm", base, sources[0][0]], stdout=log, stderr=log).returncode:
            return None
    with open(base + "/etc/apt/sources.list", "w") as f:
        f.write("".join(f"deb {address} {suite} main\n" for address, suite in sources))
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
    with open(base + "/etc/apt/apt.conf.d/90machine", "w") as f:
        f.write("".join(line + "\n" for line in settings.splitlines() if re.match(r"Acquire::(https?|Retries|Check-)", line)))
    return base

class Podman:
    """podman with storage, locks and settings in a folder of their own."""
    def __init__(self, folder):
        self.folder, self.group, self.runs = folder, f"coffer-containers-{os.getpid()}", 0
        self.env = clean_environment(CONTAINERS_CONF=folder + "/containers.conf")
        with open("/usr/share/containers/seccomp.json") as f:
            profile = json.load(f)
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name not in POLICY]
        caps = {"caps": ["CAP_SYS_NICE"]}
        profile["syscalls"] += [{"names": POLICY, "action": "SCMP_ACT_ALLOW", "args": [], "includes": caps, "excludes": {}},
                                {"names": POLICY, "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [], "includes": {}, "excludes": caps}]
        with open(folder + "/seccomp.json", "w") as f:
            json.dump(profile, f)
        open(folder + "/resolv.conf", "w").close()
        # podman asks for more than what this process has, which takes SYS_RESOURCE.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.limits = [f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4096:4096"]

    def use(self, runtime):
        with open(self.folder + "/containers.conf", "w") as f:
            f.write(CONF.format(folder=self.folder, runtime=runtime))

    def call(self, *words, limit=200, **more):
        own = ["--root", self.folder + "/store", "--runroot", self.folder + "/run", "--tmpdir", self.folder + "/tmp", "--storage-driver", "vfs"]
        more = {"capture_output": True, "text": True, **more}
        return subprocess.run(["podman", *own, *words], env=self.env, stdin=subprocess.DEVNULL, timeout=limit, **more)

    def start(self, name, options, image, words=()):
        return self.call("run", "--detach", "--name", name, "--pull=never", "--cgroup-parent", "/" + self.group, *self.limits, *options, image, *words)

    def run(self, options, image, words=()):
        """Waits, then reads the log: what a container prints at its end may not reach a terminal that podman attaches."""
        self.runs += 1
        name = f"{self.group}-{self.runs}"
        p = self.start(name, options, image, words)
        if p.returncode == 0:
            status, logs = self.call("wait", name), self.call("logs", name)
            p = subprocess.CompletedProcess(words, int(status.stdout), logs.stdout, logs.stderr)
        self.call("rm", "-f", "-t", "0", name)
        return p

    def why_not(self):
        """Finds a runtime that works on this machine (crun wants cgroups of one version, for one)."""
        for runtime in ("crun", "runc"):
            self.use(runtime)
            p = self.run(["--network", "none"], "docker.io/library/debian:12", ["true"])
            if p.returncode == 0:
                return None
        return "podman starts no container here: " + p.stderr.strip()

    def end(self):
        self.call("rm", "-a", "-f", "-t", "0")
        with open("/proc/mounts") as f:
            for path in [line.split()[1] for line in f if self.folder in line]:
                subprocess.run(["umount", "-l", path])
        for place, folders, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if f"/{self.group}" in place:
                os.rmdir(place)
        shutil.rmtree(self.folder)

class Image(unittest.TestCase):
    """What the Dockerfile's comment promises of the image."""
    FAST = ["--network", "none", "--cap-add", "SYS_NICE", "--shm-size", "1g"]

    def inside(self, options, *words):
        p = podman.run(options, "coffer", words)
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)
        return p.stdout

    def test_doctor(self):
        out = self.inside(self.FAST)
        self.assertRegex(out, r"(?m)^\d+ ranks?: \d+ ok, \d+ warnings?, 0 failures$")
        self.assertRegex(out, r"(?m) numa +ok .* mbind: works")
        self.assertRegex(out, r"(?m) shm +ok +102[34] MiB")

    def test_doctor_without_options(self):
        """What it says then is the reason for the options."""
        out = podman.run(["--network", "none"], "coffer").stdout
        self.assertRegex(out, r"(?m) numa .* mbind: Operation not permitted")
        self.assertRegex(out, r"(?m) shm +\w+ +6[234] MiB")

    def test_command_of_the_comment(self):
        with open(deploy + "/templates/Dockerfile") as f:
            line = re.search(r"(?m)^#   docker (run .*)$", f.read())[1]
        words = shlex.split(line.replace("$PWD", podman.folder + "/models"))
        self.assertEqual(words[:2], ["run", "--rm"])
        at = words.index("coffer")
        p = podman.run(["--network", "none", *words[2:at]], "coffer", words[at + 1:])
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertGreater(words_in(p.stdout), 20)

    def test_ranks(self):
        """Of the model that the image holds itself; the image's own user starts mpirun."""
        words = ["coffer", "run", "-p", "Once upon a time", "-n", "40", "--temp", "0", "--json"]
        one, two = (json.loads(self.inside(self.FAST, *words, "--ranks", n)) for n in "12")
        self.assertEqual((two["ids"], two["logits_xxh64"]), (one["ids"], one["logits_xxh64"]))
        self.assertEqual((len(one["plan"]["ranks"]), len(two["plan"]["ranks"])), (1, 2))
        self.assertEqual(self.inside(self.FAST, "id", "-un").strip(), "coffer")

class Engine:
    """Pods as containers: network of the bed, the rest as podman gives it. Each worker has cores of its own, as the kubelet's
    static policy gives them, where there are enough."""
    def __init__(self, bed, workers):
        self.bed, self.names = bed, [f"{podman.group}-worker-{i}" for i in range(workers)]
        self.cores = sorted(os.sched_getaffinity(0))

    def options(self, pod):
        k, n = self.bed.addresses.index(pod.address), len(self.names)
        options = ["--hostname", pod.name, "--network", f"ns:/proc/{self.bed.process_of(pod)}/ns/net", "--user", str(pod.user)]
        if k < n <= len(self.cores):
            options += ["--cpuset-cpus", ",".join(map(str, self.cores[k::n]))]
        if pod.memory:
            options += ["--memory", str(pod.memory)]
        for capability in pod.capabilities:
            options += ["--cap-add", capability]
        for path, source, read_only in [*pod.mounts, ("/etc/resolv.conf", podman.folder + "/resolv.conf", True)]:
            options += ["-v", f"{source}:{path}" + (":ro" if read_only else "")]
        for path, n_bytes in pod.shares:
            options += ["--mount", f"type=tmpfs,destination={path},tmpfs-size={n_bytes},tmpfs-mode=1777"]
        for name, value in pod.env.items():
            options += ["--env", f"{name}={value}"]
        # podman puts added privileges in force for users, too; Kubernetes' runtimes only allow them.
        return [*options, "--entrypoint", json.dumps(["setpriv", "--inh-caps=-all", "--ambient-caps=-all"])]

    def start(self, pod):
        name = self.names[self.bed.addresses.index(pod.address)]
        p = podman.start(name, self.options(pod), "coffer", pod.words)
        assert p.returncode == 0, p.stderr

    def execute(self, pod, words):
        return podman.run(self.options(pod), "coffer", words)

    def processes(self, pod):
        p = podman.call("top", self.names[self.bed.addresses.index(pod.address)], "comm")
        assert p.returncode == 0 and "sshd" in p.stdout.split(), p.stdout + p.stderr
        return p.stdout.split()

    def log(self):
        logs = [podman.call("logs", name) for name in self.names]
        return "".join(p.stdout + p.stderr for p in logs)

class MpiJob(JobTests, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import yaml
        with open(deploy + "/templates/mpijob.yaml") as f:
            template = yaml.safe_load(f)
        folder = podman.folder + "/job"
        os.mkdir(folder)
        workers = template["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"]
        bed = Bed(deploy + "/testbed/hosts", folder, workers + 1)
        bed.up()
        cls.addClassCleanup(bed.call, "down")
        cls.engine = Engine(bed, workers)
        cls.addClassCleanup(podman.call, "rm", "-a", "-f", "-t", "0")
        cls.job = Job(template, folder, {"models": podman.folder + "/models"}, bed.addresses)
        cls.job.run(cls.engine)

def why_not():
    if os.geteuid():
        return "not root"
    for program in ("podman", "debootstrap", "apt-get", "mpirun", "ssh-keygen"):
        if not shutil.which(program):
            return f"no {program} (deploy/bootstrap testbed installs what is needed)"
    try:
        import yaml
    except ImportError:
        return "no python3-yaml"
    check = subprocess.run([deploy + "/testbed/hosts", "check"], capture_output=True, text=True)
    return check.stdout.strip() if check.returncode else None

def make_image():
    """The reason why it cannot be made here, or None; a Dockerfile that does not build is an error."""
    base = make_base(podman.folder)
    if not base:
        return "debootstrap reaches no Debian packages"
    podman.use("runc")
    tar = podman.folder + "/base.tar"
    subprocess.run(["tar", "-C", base, "-cf", tar, "."], check=True)
    imported = podman.call("import", tar, "docker.io/library/debian:12")
    os.remove(tar)
    if imported.returncode:
        sys.exit("podman import: " + imported.stderr)
    reason = podman.why_not()
    if reason:
        return reason
    begin = time.time()
    options = ["--isolation", "chroot", "--pull=never", "--layers=false", *podman.limits]
    p = podman.call("build", *options, "-f", deploy + "/templates/Dockerfile", "-t", "coffer", deploy + "/..", limit=3000)
    if p.returncode:
        sys.exit("podman build fails:\n" + p.stdout[-3000:] + p.stderr[-3000:])
    print(f"image built in {time.time() - begin:.0f} s", flush=True)
    return None

def main():
    global podman
    reason = why_not()
    if not reason:
        podman = Podman(tempfile.mkdtemp(prefix="coffer-containers-", dir=os.environ.get("TMPDIR", "/var/tmp")))
        try:
            os.chmod(podman.folder, 0o755)
            os.mkdir(podman.folder + "/models")
            shutil.copy(deploy + "/models/stories.gguf", podman.folder + "/models/model.gguf")
            reason = make_image()
            if not reason:
                return unittest.main(argv=sys.argv[:1], verbosity=2, exit=False).result.wasSuccessful()
        finally:
            podman.end()
    print("skipped:", reason)
    return None

if __name__ == "__main__":
    passed = main()
    sys.exit(77 if passed is None else 0 if passed else 1)
