"""What Kubernetes' MPI Operator makes of an MPIJob, so that a template can run without a cluster: which pods there are, with
which names, keys, environment and files. Facts from kubeflow/mpi-operator v0.8 (pkg/controller/mpi_job_controller.go and
build/base) and from the kubelet (hosts, volumes). Who runs the pods is an engine: namespaces (mpijob_test.py) or podman
(containers_test.py); it has start(pod), execute(pod, words), processes(pod), log() and bed. JobTests is what both must show."""
import json, os, re, subprocess, time

OPEN_MPI = {"K_MPI_JOB_ROLE": "launcher", "OMPI_MCA_orte_keep_fqdn_hostnames": "true", "OMPI_MCA_orte_default_hostfile": "/etc/mpi/hostfile",
            "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10", "NVIDIA_VISIBLE_DEVICES": "", "NVIDIA_DRIVER_CAPABILITIES": ""}
UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

def size(quantity):
    number, unit = re.fullmatch(r"(\d+)([KMG]i)?", str(quantity)).groups()
    return int(number) * UNITS[unit or ""]

def clean_environment(**more):
    drop = ("OMPI_", "PMIX_", "PMI_", "SLURM_", "COFFER_", "HOSTS_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(drop)}, **more}

def words_in(story):
    return len(re.findall(r"\b[a-z]+\b", story))

class Pod:
    """One container: name, address, words (command and arguments), user, capabilities added, environment, readiness probe's
    port or None, memory limit or None, mounts: (path in the container, folder or file of this machine, read-only) and
    shares of memory: (path, bytes)."""
    def __init__(self, name, address, spec, folders, env):
        container, = spec["containers"]
        security = container.get("securityContext", {})
        self.name, self.address, self.env = name, address, {**{e["name"]: e["value"] for e in container.get("env", [])}, **env}
        self.words = container["command"] + container["args"]
        self.user = security["runAsUser"]
        self.capabilities = security.get("capabilities", {}).get("add", [])
        self.port = container.get("readinessProbe", {}).get("tcpSocket", {}).get("port")
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        self.memory = size(limit) if limit else None
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        self.mounts, self.shares = [], []
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                assert volume["emptyDir"]["medium"] == "Memory"
                self.shares.append((mount["mountPath"], size(volume["emptyDir"]["sizeLimit"])))
            else:
                source = folders[volume["persistentVolumeClaim"]["claimName"]]
                self.mounts.append((mount["mountPath"], source, mount.get("readOnly", False) or volume["persistentVolumeClaim"].get("readOnly", False)))

class Job:
    """The pods of an MPIJob. folder: where its files are written; claims: claim's name -> folder; addresses: of the workers
    and, last, of the launcher."""
    NAMESPACE = "default"

    def __init__(self, job, folder, claims, addresses):
        self.job, self.spec, self.folder, self.name = job, job["spec"], folder, job["metadata"]["name"]
        assert self.spec.get("mpiImplementation", "OpenMPI") == "OpenMPI"
        replicas = {k: v["template"]["spec"] for k, v in self.spec["mpiReplicaSpecs"].items()}
        n = self.spec["mpiReplicaSpecs"]["Worker"]["replicas"]
        assert self.spec["mpiReplicaSpecs"]["Launcher"]["replicas"] == 1 and len(addresses) == n + 1
        env = {**OPEN_MPI, "OMPI_MCA_orte_set_default_slots": str(self.spec["slotsPerWorker"])}
        self.workers = [Pod(f"{self.name}-worker-{i}", addresses[i], replicas["Worker"], claims, {"K_MPI_JOB_ROLE": "worker"}) for i in range(n)]
        self.launcher = Pod(f"{self.name}-launcher", addresses[n], replicas["Launcher"], claims, env)
        self.waits = self.spec.get("launcherCreationPolicy") == "WaitForWorkersReady"
        secret, config = self.write_secret(), self.write_config()
        for pod in self.workers + [self.launcher]:
            pod.mounts += [(self.spec["sshAuthMountPath"], secret, True), ("/etc/hosts", self.write_hosts(pod), False)]
        self.launcher.mounts.append(("/etc/mpi", config, True))

    def full_name(self, pod):
        return f"{pod.name}.{self.name}.{self.NAMESPACE}.svc"

    def write(self, name, text, mode=0o644):
        path = f"{self.folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def publish(self, volume, names):
        """As the kubelet lays out secrets and maps: root's, links to a folder with a date, in a folder open to all."""
        folder = f"{self.folder}/{volume}"
        os.symlink("..2026_01_01", folder + "/..data")
        for name in names:
            os.symlink(f"..data/{name}", f"{folder}/{name}")
        os.chmod(folder, 0o1777)
        return folder

    def write_secret(self):
        """A key of P-521 in the old form, under RSA's name; readable by all, for sshAuthMountPath is not root's."""
        assert self.spec["sshAuthMountPath"] != "/root/.ssh", "the operator's modes are others there"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-m", "PEM", "-N", "", "-C", "", "-f", self.folder + "/key"], check=True)
        with open(self.folder + "/key") as private, open(self.folder + "/key.pub") as public:
            data = {"id_rsa": private.read(), "id_rsa.pub": public.read()}
        for name, text in {**data, "authorized_keys": data["id_rsa.pub"]}.items():
            self.write("secret/..2026_01_01/" + name, text)
        return self.publish("secret", ("id_rsa", "id_rsa.pub", "authorized_keys"))

    def write_config(self):
        names = [self.full_name(pod) for pod in self.workers]
        self.write("config/..2026_01_01/hostfile", "".join(f"{name} slots={self.spec['slotsPerWorker']}\n" for name in names), 0o444)
        self.write("config/..2026_01_01/discover_hosts.sh", "#!/bin/sh\n" + "".join(f"echo {name}\n" for name in names), 0o555)
        return self.publish("config", ("hostfile", "discover_hosts.sh"))

    def write_hosts(self, pod):
        """The kubelet's lines, then what the cluster's name server would answer."""
        lines = ["127.0.0.1 localhost", f"{pod.address} {self.full_name(pod)}.cluster.local {pod.name}"]
        lines += [f"{p.address} {self.full_name(p)} {self.full_name(p)}.cluster.local" for p in self.workers + [self.launcher]]
        return self.write(f"hosts-{pod.name}", "".join(line + "\n" for line in lines))

    def run(self, engine):
        """Workers, then (as the policy says) what launches on them: a function of the words behind the template's."""
        for pod in self.workers:
            engine.start(pod)
        end = time.time() + 60
        while self.waits and not all(engine.bed.answers(pod) for pod in self.workers):
            assert time.time() < end, "workers do not become ready: " + engine.log()
            time.sleep(0.1)

class Bed:
    """Hosts of deploy/testbed/hosts for the pods' networks: h1 ... hN, N workers and the launcher."""
    def __init__(self, hosts, folder, n):
        self.hosts, self.state, self.n = hosts, folder + "/bed", n
        net = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self.env = clean_environment(HOSTS_STATE=self.state, HOSTS_NET=net)
        self.addresses = [f"{net}.{k}" for k in range(1, n + 1)]

    def call(self, *words, **more):
        return subprocess.run([self.hosts, *words], env=self.env, stdin=subprocess.DEVNULL, **{"capture_output": True, "text": True, "timeout": 200, **more})

    def up(self):
        p = self.call("up", str(self.n))
        assert p.returncode == 0, p.stderr

    def host_of(self, pod):
        return f"h{self.addresses.index(pod.address) + 1}"

    def process_of(self, pod):
        with open(f"{self.state}/{self.host_of(pod)}.pid") as f:
            return f.read().strip()

    def answers(self, pod):
        """The readiness probe's question, asked from outside the pod."""
        return self.call("run", "bash", "-c", f": <>/dev/tcp/{pod.address}/{pod.port}").returncode == 0

class JobTests:
    """Mixed into a TestCase that has job and engine, with the story model as /models/model.gguf."""
    def launch(self, *more, instead=None):
        """The launcher's words, or with other ones in place of coffer run ..., and more behind them."""
        words = self.job.launcher.words
        if instead:
            words = words[:words.index("coffer") + 1] + list(instead)
        p = self.engine.execute(self.job.launcher, [*words, *more])
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr + self.engine.log())
        return p

    def test_as_it_is(self):
        """The story model tells a story."""
        self.assertGreater(words_in(self.launch().stdout), 20)

    def test_same_answer(self):
        words = self.job.launcher.words
        options = words[words.index("/etc/mpi/hostfile") + 1:] + ["--temp", "0", "--json"]
        want = json.loads(self.engine.execute(self.job.workers[0], ["coffer", "run", *options]).stdout)
        for layout in ("tensor", "layers"):
            got = json.loads(self.launch("--temp", "0", "--json", "--layout", layout).stdout)
            self.assertEqual((got["ids"], got["logits_xxh64"]), (want["ids"], want["logits_xxh64"]), layout)
            self.assertGreater(len(got["ids"]), 20)
            self.assertEqual([r["host"] for r in got["plan"]["ranks"]], [p.name for p in self.job.workers for _ in range(self.job.spec["slotsPerWorker"])])

    def test_doctor(self):
        """In place of coffer run, as the template's comment says."""
        out = self.launch(instead=["doctor", "--hostfile", "/etc/mpi/hostfile", "-m", "/models/model.gguf"]).stdout
        self.assertRegex(out, r"(?m)^4 ranks: \d+ ok, \d+ warnings?, 0 failures$")
        self.assertRegex(out, r"(?m)^0-3 +model +ok")
        self.assertRegex(out, r"(?m)^0-3 +numa +ok .* mbind: works")
        self.assertRegex(out, r"(?m)^0-3 +shm +ok +102[34] MiB")

    def tearDown(self):
        """A run that has ended leaves no process behind."""
        for pod in self.job.workers:
            end = time.time() + 20
            while (left := [n for n in self.engine.processes(pod) if n in ("coffer", "orted")]) and time.time() < end:
                time.sleep(0.2)
            self.assertEqual(left, [], pod.name)
