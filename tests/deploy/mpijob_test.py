#!/usr/bin/python3
"""mpijob_test.py COFFER DEPLOY OPENSSH: plays Kubernetes' MPI Operator (mpi_operator.py) with the MPIJob of deploy/templates on
two workers and a launcher made of namespaces. The root directory of each is this machine's, covered by memory and made into the
image by what the Dockerfile does behind its packages; in them run the template's own words, as its user, with sshd and keys.
OPENSSH: a folder with usr/sbin/sshd, for machines without one. Status 77: skipped, and why."""
import os, re, shutil, subprocess, sys, tempfile, unittest

from mpi_operator import Bed, Job, JobTests

coffer, deploy, openssh = (os.path.abspath(word) for word in sys.argv[1:4])
PREPARE = """set -eu
name=$1 base=$2 user=$3 coffer=$4 openssh=$5 script=$6
hostname "$name"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay image -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
for d in proc sys dev; do mount --rbind "/$d" "$d"; done
sed -i "/^coffer:/d; /^[^:]*:[^:]*:$user:/d" etc/passwd etc/group
sed -i "/^coffer:/d" etc/shadow etc/gshadow
rm -rf srv/coffer
if [ ! -x usr/sbin/sshd ]; then
  cp "$openssh/usr/sbin/sshd" usr/sbin
  find "$openssh/usr/lib" "$openssh/lib" -name 'libwrap.so*' -exec cp -d {} usr/lib \\; 2>/dev/null || :
fi
cp "$coffer" usr/local/bin/coffer
chroot . bash -e -c "$script"
"""
MOUNT = """set -eu
cd "$1/root"
[ -e ".$2" ] || mkdir -p ".$2"
mount --bind "$3" ".$2"
[ "$4" = rw ] || mount -o remount,bind,ro ".$2"
"""

def script_of_image():
    """What the Dockerfile runs last: user and configuration, no packages."""
    with open(deploy + "/templates/Dockerfile") as f:
        text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", f.read()))
    script = re.findall(r"(?m)^RUN (.*)$", text)[-1]
    assert "useradd" in script and "apt-get" not in script
    return script

class Engine:
    """Pods as hosts of the bed, each with a root directory of its own."""
    PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def __init__(self, folder, bed):
        self.bed, self.out, self.base, self.started = bed, folder + "/pods.log", bed.state + "/tmp", []

    def shell(self, pod, script, *words):
        p = self.bed.call("exec", self.bed.host_of(pod), "bash", "-c", script, pod.name, *words)
        assert p.returncode == 0, f"{pod.name}: {p.stdout}{p.stderr}"

    def prepare(self, pod):
        self.shell(pod, PREPARE, pod.name, self.base, str(pod.user), coffer, openssh, script_of_image())
        for path, source, read_only in pod.mounts:
            self.shell(pod, MOUNT, self.base, path, source, "ro" if read_only else "rw")
        for path, n_bytes in pod.shares:
            self.shell(pod, 'mount -t tmpfs -o "size=$1,mode=1777" share "$2"', str(n_bytes), f"{self.base}/root{path}")

    def command(self, pod, words):
        """As in a container: the pod's user, nothing of this environment, no privilege but those added, and these not in force."""
        bounding = ",".join(["-all", *("+" + c.lower() for c in pod.capabilities)])
        env = {"PATH": self.PATH, "HOME": "/srv/coffer", "HOSTNAME": pod.name, **pod.env}
        return ["exec", self.bed.host_of(pod), "chroot", self.base + "/root", "setpriv", f"--reuid={pod.user}", f"--regid={pod.user}", "--clear-groups",
                "--inh-caps=-all", f"--bounding-set={bounding}", "env", "-C", "/srv/coffer", "-i", *(f"{k}={v}" for k, v in env.items()), *words]

    def start(self, pod):
        with open(self.out, "ab") as log:
            self.started.append(subprocess.Popen([self.bed.hosts, *self.command(pod, pod.words)], env=self.bed.env, stdin=subprocess.DEVNULL,
                                                 stdout=log, stderr=log))

    def end(self):
        self.bed.call("down")
        for p in self.started:
            p.wait(30)

    def execute(self, pod, words):
        return self.bed.call(*self.command(pod, words))

    def processes(self, pod):
        pids, names = self.bed.call("pids", self.bed.host_of(pod)).stdout.split(), []
        for pid in pids:
            try:
                with open(f"/proc/{pid}/comm") as f:
                    names.append(f.read().strip())
            except OSError:
                pass
        return names

    def log(self):
        with open(self.out) as f:
            return f.read()[-3000:]

class MpiJob(JobTests, unittest.TestCase):
    def test_worker_is_lost(self):
        """Last of all, by its name: the machine of a worker is gone. The other one goes on, and the answer is that of one rank."""
        words = self.job.launcher.words + ["-n", "3000", "-c", "4000", "--ignore-eos", "--temp", "0", "--layout", "tensor"]
        alone = words[:2] + words[words.index("/etc/mpi/hostfile") + 1:]
        want = self.engine.execute(self.job.workers[0], alone).stdout
        bed, lost = self.engine.bed, self.job.workers[1]
        with subprocess.Popen([bed.hosts, *self.engine.command(self.job.launcher, words)], env=bed.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as p:
            begun = os.read(p.stdout.fileno(), 40)
            self.assertEqual(bed.call("crash", bed.host_of(lost)).returncode, 0)
            rest, said = p.communicate(timeout=120)
        said = said.decode()
        self.assertEqual(p.returncode, 0, said)
        self.assertEqual((begun + rest).decode(), want)
        self.assertRegex(said, r"(?m)^coffer: .*coffer-worker-1", said)

    @classmethod
    def setUpClass(cls):
        import yaml
        with open(deploy + "/templates/mpijob.yaml") as f:
            template = yaml.safe_load(f)
        cls.folder = tempfile.mkdtemp(prefix="coffer-mpijob-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        os.chmod(cls.folder, 0o755)
        os.mkdir(cls.folder + "/models")
        shutil.copy(deploy + "/models/stories.gguf", cls.folder + "/models/model.gguf")
        bed = Bed(deploy + "/testbed/hosts", cls.folder, template["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"] + 1)
        bed.up()
        cls.engine = Engine(cls.folder, bed)
        cls.addClassCleanup(cls.engine.end)
        cls.job = Job(template, cls.folder, {"models": cls.folder + "/models"}, bed.addresses)
        for pod in cls.job.workers + [cls.job.launcher]:
            cls.engine.prepare(pod)
        cls.job.run(cls.engine)

def why_not():
    check = subprocess.run([deploy + "/testbed/hosts", "check"], capture_output=True, text=True)
    if check.returncode:
        return check.stdout.strip()
    for program in ("mpirun", "ssh", "ssh-keygen", "useradd", "setpriv"):
        if not shutil.which(program):
            return "no " + program
    if not os.access("/usr/sbin/sshd", os.X_OK) and not os.access(openssh + "/usr/sbin/sshd", os.X_OK):
        return "no sshd (package openssh-server; deploy/bootstrap test unpacks one)"
    try:
        import yaml
    except ImportError:
        return "no python3-yaml"
    with tempfile.TemporaryDirectory() as folder:
        script = f"mount -t tmpfs none {folder} && cd {folder} && mkdir u w r && mount -t overlay none -o lowerdir=/,upperdir=u,workdir=w r"
        if subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True).returncode:
            return "the root directory cannot be covered here (overlay)"
    return None

if __name__ == "__main__":
    reason = why_not()
    if reason:
        print("skipped:", reason)
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
