#!/usr/bin/python3
"""launch.py COFFER: when MPI is started and when not, what Ctrl-C does, what a terminal sees."""
import fcntl, json, os, pty, select, signal, socket, struct, termios, threading, time, unittest

from common import *

class Launch(Case):
    # --- MPI only where it is needed

    def traces_of_mpi(self, words):
        """Does it open one of MPI's plug-ins or start another program? MPI_Init does both."""
        trace = os.path.join(self.dir, "trace")
        p = subprocess.run(["strace", "-f", "-qq", "-e", "trace=execve,openat", "-o", trace, *words], env=self.env, stdin=subprocess.DEVNULL,
                           capture_output=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        lines = [l for l in read(trace).splitlines() if "ENOENT" not in l]
        return [l for l in lines[1:] if "execve(" in l or re.search(r"/mca_\w+\.so|orted|ompi\.|pmix-mca|openmpi-mca", l)]

    @unittest.skipUnless(shutil.which("strace"), "no strace")
    def test_no_mpi_where_none_is_needed(self):
        m = self.model
        out = os.path.join(self.dir, "other.gguf")
        for words in (["run", "-m", m, "-p", "x", "-n", "2"], ["plan", "-m", m, "--ranks", "4", "--layout", "hybrid", "--hosts", "2"], ["inspect", m],
                      ["route", "-m", m], ["synth", "--arch", "llama", "--layers", "1", "--dim", "64", "--vocab", "300", "-o", out],
                      ["tokenize", "-m", m, "--ids"], ["--version"]):
            with self.subTest(words=words):
                self.assertEqual(self.traces_of_mpi([coffer, *words]), [])
        self.assertTrue(self.traces_of_mpi([*MPIRUN, "-n", "2", coffer, "run", "-m", m, "-p", "x", "-n", "2"]), "this test sees nothing")

    def test_no_display_is_asked(self):
        """Open MPI lets hwloc look for GPUs behind the first ten X displays of this machine: here is one."""
        display, asked, over = socket.socket(socket.AF_UNIX), [], threading.Event()
        for number in range(9, 0, -1):
            with contextlib.suppress(OSError):
                display.bind(f"\0/tmp/.X11-unix/X{number}")
                break
        else:
            self.skipTest("nine X displays")
        display.listen(64)
        display.settimeout(0.1)

        def watch():
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = display.accept()
                    pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                    with contextlib.suppress(OSError):
                        if self.mark.encode() in read(f"/proc/{pid}/environ", "rb").split(b"\0"):
                            asked.append(os.path.basename(os.readlink(f"/proc/{pid}/exe")))
                    client.close()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for how, programs in ("self", ("coffer", "orterun")), ("own", ("coffer",)):
                for ranks in (2, 3):
                    asked.clear()
                    self.assertEqual(self.run_to_end("-n", "4", ranks=ranks, how=how)[0], 0)
                    self.assertEqual([name for name in asked if name in programs], [], how)
            self.env["HWLOC_COMPONENTS"] = ""
            self.assertEqual(self.run_to_end("-n", "4", ranks=2, how="self")[0], 0)
            if not asked:
                self.skipTest("this hwloc does not look for displays: nothing to see")
        finally:
            over.set()
            watcher.join()
            display.close()

    def test_mpirun_of_one(self):
        status, out, err = self.run_to_end("-n", "8", "--temp", "0", "--json")
        alone = json.loads(out)
        p = subprocess.run([*MPIRUN, "-n", "1", *self.command("-n", "8", "--temp", "0", "--json")], env=self.env, capture_output=True, timeout=LIMIT)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(json.loads(p.stdout)["logits_xxh64"], alone["logits_xxh64"])

    def test_default_binding_is_widened(self):
        if os.cpu_count() < 2:
            self.skipTest("one core")
        p = subprocess.run(["mpirun", "--allow-run-as-root", "-n", "1", *self.command("-n", "4")], env=self.env, capture_output=True, timeout=LIMIT)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertIn(b"widened", p.stderr)

    def test_slurm_without_pmi(self):
        self.env.update(SLURM_NTASKS="4", SLURM_PROCID="0", SLURM_STEP_ID="0")
        self.fails(2, r"srun --mpi=pmix", "-n", "4")

    def test_hosts(self):
        """What mpirun is told of them: one rank for each slot, also where only we know how many there are."""
        self.env["COFFER_MPIRUN"] = "echo mpirun"
        path = self.dir + "/hosts"
        file = f"--hostfile {path} "
        for text, words, want in (("a slots=2\nb\n", ["--hostfile", path], ("-n 3 ", file + "--host a:2,b:1 ")), ("a\nb\n", ["--hostfile", path], ("-n 2 ", file + "--host a:1,b:1 ")),
                                  ("a slots = 2\nb slots=2", ["--hostfile", path], ("-n 4 ", file + "-x")), ("", ["--host", "a,b:2,a"], ("-n 4 ", "--host a:2,b:2 -x"))):
            with open(path, "w") as f:
                f.write(text)
            with self.subTest(text=text, words=words):
                p = subprocess.run([*self.command(*words, "--no-supervise")], env=self.env, capture_output=True, text=True, timeout=LIMIT)
                self.assertEqual(p.returncode, 0, p.stderr)
                for part in want:
                    self.assertIn(part, p.stdout.split(coffer)[0])
        for text, want in (("a slots=2\r\n", rf"{path}:1: a carriage return"), ("a slots=1025\n", "the hosts have 1025 slots: .*--ranks")):
            with open(path, "w") as f:
                f.write(text)
            self.fails(2 if "return" in want else 1, want, "--hostfile", path)

    def test_mpirun_hangs_over_an_early_end(self):
        """Rank 0 cannot write its file and ends before MPI is there; an mpirun that does not end then is ended."""
        self.env["COFFER_MPIRUN"] = self.script("hanging", f'#!/bin/sh\n"{shutil.which("mpirun")}" "$@"\nexec sleep 1000\n')
        p = subprocess.Popen([coffer, "calibrate", "-m", self.model, "--ranks", "2", "--describe", self.dir + "/nowhere/x"], env=self.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        status, _, err = self.end(p, 60)
        self.assertEqual(status, 1, err)
        self.assertIn("nowhere/x: No such file", err)

    # --- Ctrl-C

    def test_interrupt(self):
        for ranks, how in ((1, "own"), (3, "self")):
            with self.subTest(ranks=ranks):
                p = self.start(*ENDLESS, ranks=ranks, how=how)
                self.wait_for_text(p)
                p.send_signal(signal.SIGINT)
                status, out, err = self.end(p)
                self.assertEqual(status, 130, err)
                self.assertTrue(out.endswith(b"\n"), "the text is not flushed")
                self.assertRegex(err, r"decode \d+ tokens at")  # it ended in good order

    def test_interrupt_under_own_mpirun(self):
        """mpirun kills a second later: by then rank 0 has said how it went. mpirun forwards little of what is said in that second, so
        each rank writes to a file."""
        wrapper = self.script("wrapper", f'#!/bin/sh\nexec {coffer} "$@" 2>{self.dir}/said.$OMPI_COMM_WORLD_RANK\n')
        p = self.start(*ENDLESS, ranks=3, how=wrapper)
        self.wait_for_text(p)
        p.send_signal(signal.SIGINT)
        status, _, err = self.end(p)
        self.assertNotEqual(status, 0)  # Open MPI's number, not ours
        said = read(self.dir + "/said.0")
        self.assertRegex(said, r"decode \d+ tokens at", err)

    def test_second_interrupt_kills(self):
        self.env["COFFER_ISA"] = "scalar"
        ids = ",".join(str(5 + i % 900) for i in range(4000))  # the first interrupt waits for the end of a chunk
        model = self.synth("slow.gguf", "--layers", "8", "--dim", "1024")
        for ranks, how in ((1, "own"), (3, "self")):
            with self.subTest(ranks=ranks):
                p = self.start("-n", "4", "-ub", "4000", ranks=ranks, how=how, model=model, prompt=("--prompt-ids", ids))
                self.wait_for_line(p, r"^rank 0 host")  # it is loaded
                time.sleep(0.5)
                p.send_signal(signal.SIGINT)
                time.sleep(0.5)
                self.assertIsNone(p.poll(), "ended too early to tell")
                p.send_signal(signal.SIGINT)
                began = time.time()
                status, out, err = self.end(p)
                self.assertIn(status, (130, -signal.SIGINT), err)
                self.assertLess(time.time() - began, 5)

    def test_text_without_a_reader(self):
        """It must not end mpirun, which would leave its session directory behind; but a rank, as any program."""
        ignored, program = self.dir + "/ignored", self.dir + "/program"
        with open(program, "w") as f:
            f.write(f'#!/bin/sh\ngrep SigIgn /proc/self/status > {ignored}\nexec mpirun "$@"\n')
        os.chmod(program, 0o755)
        self.env["COFFER_MPIRUN"] = program
        p = self.start(*ENDLESS, ranks=2, how="self")
        self.wait_for_text(p)
        ranks = [read(f"/proc/{self.rank_pid(r)}/status") for r in range(2)]
        p.send_signal(signal.SIGINT)
        self.end(p)
        held = [int(re.search(r"SigIgn:\s*(\w+)", text)[1], 16) >> signal.SIGPIPE - 1 & 1 for text in (read(ignored), *ranks)]
        self.assertEqual(held, [1, 0, 0], "mpirun, rank 0, rank 1")

    # --- what a terminal sees

    def on_terminal(self, words, stdout=None):
        """Everything that appears on a new terminal; stdout may go elsewhere."""
        master, slave = pty.openpty()
        own = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        p = subprocess.Popen(words, env={**self.env, "TERM": "xterm"}, stdin=slave, stdout=stdout or slave, stderr=slave, start_new_session=True,
                             preexec_fn=own)
        os.close(slave)
        screen = b""
        while select.select([master], [], [], LIMIT)[0]:
            try:
                got = os.read(master, 4096)
            except OSError:
                break
            screen += got
        os.close(master)
        self.assertEqual(p.wait(LIMIT), 0, screen)
        return screen

    def without_lines(self, screen, err):
        """What a screen shows beside the bar and the lines of err, whatever their figures. Between ranks and the terminal
        stand two pipes, so that a line may come anywhere in the text, but it comes whole. What is said of this machine's
        state ("coffer: ...") may differ from run to run."""
        screen = re.sub(rb"\r\x1b\[K(\[[#-]+\] [^\r]*)?|coffer: [^\n]*\n", b"", screen)
        figure = r"[0-9][0-9.]*"
        for line in re.sub(r"(?m)^coffer: .*\n", "", err).splitlines(keepends=True):
            pattern = figure.join(map(re.escape, re.split(figure, line)))
            screen, n = re.subn(pattern.encode(), b"", screen, count=1)
            self.assertEqual(n, 1, (line, screen))
        return screen

    def test_bar_only_on_a_terminal(self):
        words = ("-n", "8", "--temp", "0", "--ignore-eos")
        for ranks, how in ((1, "own"), (2, "self"), (2, "own")):
            with self.subTest(ranks=ranks, how=how):
                status, out, err = self.run_to_end(*words, ranks=ranks, how=how)
                self.assertEqual(status, 0, err)
                self.assertNotRegex(err, r"[\x1b\x1e\r]|\[[#=>.-]*\]")
                self.assertIn("coffer: loading\n", err)
                self.assertNotIn(b"coffer", out)
                with tempfile.TemporaryFile() as f:
                    screen = self.on_terminal(self.command(*words, ranks=ranks, how=how), f)
                    f.seek(0)
                    self.assertEqual(f.read(), out)
                bar = re.search(rb"% loading", screen)
                if (ranks, how) == (2, "own"):
                    self.assertFalse(bar or b"\x1b" in screen, screen)  # plain under a user's own mpirun
                else:
                    self.assertTrue(bar and b"\x1b[K" in screen, screen)
                self.assertNotIn(b"\x1e", screen)
                both = self.on_terminal(self.command(*words, ranks=ranks, how=how)).replace(b"\r\n", b"\n")
                if ranks == 1:
                    self.assertIn(out.strip(), both)
                self.assertEqual(self.without_lines(both, err).replace(b"\n", b""), out.replace(b"\n", b""), both)

if __name__ == "__main__":
    main()
