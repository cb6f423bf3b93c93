#!/usr/bin/python3
"""templates_test.py COFFER TEMPLATES: do the templates of deploy/ say what is so? Every option of coffer's and mpirun's in
them exists, files parse, ranks and slots agree, and the image holds the libraries that the program is linked with."""
import os, re, shlex, shutil, subprocess, sys, tempfile, unittest

coffer, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])

def text_of(name):
    with open(f"{folder}/{name}") as f:
        return f.read()

def run(*words, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "SLURM_", "COFFER_"))}
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=env, **more)

def commands(text):
    """Lists of words that call coffer, wherever they stand: shell, comment, table, unit, Dockerfile."""
    text = re.sub(r"\\\n", " ", text)
    for line in text.splitlines():
        for piece in re.split(r"[`|]|&&|\s+#", line.strip().lstrip("# ")):
            piece = re.sub(r"\s{3,}\(.*\)$", "", piece.strip())
            try:
                words = shlex.split(piece)
            except ValueError:
                continue  # prose with an apostrophe
            words = [w for w in words if not re.match(r"ExecStart\w*=$", w)]
            for i, word in enumerate(words[:-1]):
                name = re.sub(r"^ExecStart\w*=", "", word)
                if os.path.basename(name) in ("coffer", "$coffer") and re.fullmatch(r"[a-z]+", words[i + 1]) and words[i + 1] in subcommands():
                    yield words[:i], words[i + 1:]
                    break

def subcommands():
    if not hasattr(subcommands, "known"):
        subcommands.known = set(re.findall(r"(?m)^  ([a-z]+) ", run(coffer, "--help").stdout))
    return subcommands.known

def wrong_options(words):
    """Options behind a subcommand that its --help does not have."""
    known = run(coffer, words[0], "--help").stdout
    options = [w.split("=")[0] for w in words[1:] if re.match(r"--?[a-zA-Z]", w)]
    return [o for o in options if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", known)]

class Templates(unittest.TestCase):
    REFUSED = "(?i)unknown|unrecognized|not recognized|invalid"

    def check_commands(self, text, least):
        seen = 0
        for before, words in commands(text):
            self.assertEqual(wrong_options(words), [], words)
            seen += 1
        self.assertGreaterEqual(seen, least)

    def check_mpirun(self, words, slots):
        """mpirun reads these words and places so many ranks, but starts nothing."""
        p = run(*words, "--do-not-launch", "--display-map", "true")
        self.assertNotRegex(p.stderr, self.REFUSED)
        self.assertEqual(len(re.findall(r"Process rank: \d+", p.stdout)), slots, p.stdout + p.stderr)

    def test_a_wrong_option_is_seen(self):
        self.assertEqual(wrong_options(["run", "-m", "x", "--ship", "--no-such", "-p", "a"]), ["--no-such"])
        self.assertEqual(wrong_options(["doctor", "--ship"]), ["--ship"])
        self.assertRegex(run("mpirun", "--hostfile", folder + "/hostfile", "--bind-two", "none", "--do-not-launch", "true").stderr, self.REFUSED)
        self.assertEqual([w for _, w in commands('"${ranks[@]}" "$coffer" run -m "$model"')], [["run", "-m", "$model"]])

    def test_options(self):
        """The least numbers are those of the commands that stand there now."""
        for name, least in (("README.md", 5), ("coffer.sbatch", 2), ("Dockerfile", 1), ("coffer@.service", 2)):
            with self.subTest(name):
                self.check_commands(text_of(name), least)

    def test_hostfile(self):
        slots = sum(int(n) for n in re.findall(r"(?m)^\w+ slots=(\d+)$", text_of("hostfile")))
        self.assertEqual(slots, 4)
        self.check_mpirun(["mpirun", "--hostfile", folder + "/hostfile", "--bind-to", "none"], slots)

    def test_batch_file(self):
        self.assertEqual(run("bash", "-n", folder + "/coffer.sbatch").returncode, 0)
        p = run("bash", folder + "/coffer.sbatch", "-p", "x")
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("MODEL: names the GGUF file", p.stderr)

    def test_kubernetes(self):
        try:
            import yaml
        except ImportError:
            self.skipTest("no python3-yaml")
        job = yaml.safe_load(text_of("mpijob.yaml"))
        self.assertEqual((job["apiVersion"], job["kind"]), ("kubeflow.org/v2beta1", "MPIJob"))
        spec = job["spec"]
        pods = {k: v["template"]["spec"] for k, v in spec["mpiReplicaSpecs"].items()}
        self.assertEqual(set(pods), {"Launcher", "Worker"})
        launcher, worker = (pods[k]["containers"][0] for k in ("Launcher", "Worker"))
        words = launcher["command"] + launcher["args"]
        self.assertTrue(all(isinstance(w, str) for w in words + worker["args"]), "arguments are strings")
        self.assertEqual((words[0], wrong_options(words[1:])), ("coffer", []))
        self.assertEqual(words[words.index("--hostfile") + 1], "/etc/mpi/hostfile")  # where the operator writes it
        workers, mpirun = spec["mpiReplicaSpecs"]["Worker"]["replicas"], {v["name"]: v["value"] for v in launcher["env"]}["COFFER_MPIRUN"].split()
        with tempfile.NamedTemporaryFile("w") as hosts:  # as the operator writes it
            hosts.write("".join(f"coffer-worker-{i} slots={spec['slotsPerWorker']}\n" for i in range(workers)))
            hosts.flush()
            self.check_mpirun(mpirun + ["--hostfile", hosts.name], spec["slotsPerWorker"] * workers)
        self.assertEqual(worker["securityContext"]["capabilities"]["add"], ["SYS_NICE"])
        self.assertEqual(worker["resources"]["requests"], worker["resources"]["limits"], "else the kubelet gives no whole cores")
        volumes = {v["name"]: v for v in pods["Worker"]["volumes"]}
        mounts = {m["mountPath"]: m["name"] for m in worker["volumeMounts"]}
        self.assertEqual(set(mounts.values()), set(volumes))
        self.assertEqual(volumes[mounts["/dev/shm"]]["emptyDir"]["medium"], "Memory")
        self.assertTrue(words[words.index("-m") + 1].startswith(tuple(m + "/" for m in mounts)), "the model is mounted")
        self.assertEqual(launcher["image"], worker["image"])
        home = spec["sshAuthMountPath"].rsplit("/", 1)[0]
        self.assertIn(home + "/.sshd_config", worker["args"])
        self.assertIn(home + "/.sshd_config", text_of("Dockerfile"))
        self.assertIn(f"HostKey {spec['sshAuthMountPath']}/id_rsa", text_of("Dockerfile"))
        uid = re.search(r"--uid (\d+)", text_of("Dockerfile"))[1]
        self.assertEqual({c["securityContext"]["runAsUser"] for c in (launcher, worker)}, {int(uid)})

    def instructions(self):
        text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text_of("Dockerfile")))
        return [line.split(None, 1) for line in text.splitlines() if line.strip()]

    def test_dockerfile(self):
        got = self.instructions()
        self.assertLessEqual({word for word, _ in got}, {"FROM", "RUN", "COPY", "USER", "WORKDIR", "CMD"})
        self.assertEqual([rest for word, rest in got if word == "FROM"], ["debian:12 AS build", "debian:12"])
        self.assertEqual(got[2], ["RUN", "/usr/src/coffer/deploy/bootstrap install /opt/coffer"])
        usage = run(folder + "/../bootstrap", "--help").stdout
        self.assertIn("deploy/bootstrap install [PREFIX]", usage)
        for _, script in (i for i in got if i[0] == "RUN"):
            self.assertEqual(run("bash", "-n", "-c", script).returncode, 0, script)
        self.assertIn("SYS_NICE", text_of("Dockerfile"))
        with open(folder + "/../../.dockerignore") as f:
            self.assertIn("build", f.read().split(), "what is built here stays out of the image")

    def test_image_has_all_libraries(self):
        if not shutil.which("dpkg-query"):
            self.skipTest("no dpkg")
        script = next(rest for word, rest in self.instructions() if word == "RUN" and "apt-get install" in rest)
        named = set(re.search(r"--no-install-recommends\s+(.*?)\s+&&", script)[1].split())
        dynamic = subprocess.run(["readelf", "-d", coffer], capture_output=True, text=True).stdout
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
        self.assertGreater(len(needed), 5)
        where = dict(re.findall(r"(?m)^\s*(\S+) => (/\S+)", run("ldd", coffer).stdout))
        for library in needed:
            path = os.path.realpath(where.get(library, library))
            owner = run("dpkg-query", "-S", path).stdout or run("dpkg-query", "-S", path.replace("/usr/lib/", "/lib/")).stdout
            package = owner.split(":")[0]
            if package and package != "libc6" and not library.startswith("ld-linux"):
                self.assertIn(package, named, library)
        self.assertIn("openmpi-bin", named)

    def test_unit(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        with tempfile.TemporaryDirectory() as d:
            unit = text_of("coffer@.service").replace("/usr/local/bin/coffer", coffer)
            for name, body in (("coffer@.service", unit), ("bad@.service", unit.replace("Type=oneshot", "Typ=oneshot").replace("ExecStart=", "ExecStart=/no/such"))):
                with open(f"{d}/{name}", "w") as f:
                    f.write(body)
            p = run("systemd-analyze", "verify", "--man=no", f"{d}/coffer@.service")
            mine = [line for line in p.stderr.splitlines() if "coffer@" in line]
            self.assertEqual((p.returncode, mine), (0, []), p.stderr)
            self.assertNotEqual(run("systemd-analyze", "verify", "--man=no", f"{d}/bad@.service").stderr.find("Typ"), -1, "the check would see a mistake")

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
