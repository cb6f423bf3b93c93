#!/usr/bin/python3
"""The front process, watched from outside: front_test.py HELPER [MPIRUN]. Needs no model. Without MPIRUN it takes the
fake one beside this file."""
import fcntl, glob, hashlib, os, pty, random, select, signal, subprocess, sys, tempfile, termios, time, unittest

here = os.path.dirname(os.path.abspath(__file__))
helper = os.path.abspath(sys.argv[1])
mpirun = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "fake-mpirun")
SOON = 15  # seconds that nothing here may take

def said(stderr):
    """Without what the leak detector of a sanitized build says when a thread ends while it looks."""
    return "".join(l for l in stderr.decode().splitlines(True) if "Unable to get registers from thread" not in l)

class Front(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.env = {**os.environ, "COFFER_MPIRUN": mpirun, "FRONT_TEST_DIR": self.dir.name, "TERM": "xterm"}
        for name in list(self.env):
            if name.startswith(("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_FRONT")):
                del self.env[name]

    def tearDown(self):
        pids = self.pids()
        end = time.time() + SOON
        while any(alive(p) for p in pids) and time.time() < end:
            time.sleep(0.02)
        left = [p for p in pids if alive(p)]
        for p in left:
            os.kill(p, signal.SIGKILL)
        self.dir.cleanup()
        self.assertEqual(left, [], "orphans")

    def pids(self):
        return [int(read(f) or 0) for f in glob.glob(self.dir.name + "/rank*.pid")]

    def forget(self):
        for f in glob.glob(self.dir.name + "/rank*.pid"):
            os.unlink(f)

    def start(self, *words, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen([helper, *words], env=self.env, **more)

    def run_to_end(self, *words, data=None):
        p = self.start(*words, stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL)
        try:
            out, err = p.communicate(data, timeout=SOON)
        finally:
            p.kill()
        return p.returncode, out, said(err)

    def wait_for_ranks(self):
        end = time.time() + SOON
        while len([p for p in self.pids() if p]) < 2:
            self.assertLess(time.time(), end, "the ranks did not start")
            time.sleep(0.02)
        time.sleep(0.1)

    def test_text_and_arguments(self):
        words = ["a b", "", "--flag", "-n", "'\"$x", "\u20ac"]
        status, out, err = self.run_to_end("text", *words)
        self.assertEqual((status, out.decode(), err), (0, "".join(w + "\n" for w in words), ""))

    def test_any_bytes_pass(self):
        data = random.Random(1).randbytes(1 << 20)
        status, out, err = self.run_to_end("copy", data=data)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(hashlib.md5(out).digest(), hashlib.md5(data).digest())

    def test_events(self):
        status, out, err = self.run_to_end("events")
        self.assertEqual((status, out), (0, b"text\n"))
        self.assertNotIn("\x1e", err)
        self.assertEqual(err.count("coffer: loading\n"), 1, err)  # one line per phase where there is no terminal
        self.assertIn("a note of rank 0 with a  status 9\n", err)
        self.assertIn("a plain line\n", err)
        self.assertIn("half a line", err)

    def test_status(self):
        for want in (1, 2, 3, 77):
            with self.subTest(want=want):
                self.assertEqual(self.run_to_end("status", str(want)), (want, b"", ""))

    def test_rank_dies(self):
        status, out, err = self.run_to_end("die", "1")
        self.assertEqual((status, out), (1, b""))
        self.assertRegex(err, r"^coffer: (rank 1 on \S+ died: signal 9 \(Killed\)|a rank died: Killed)\n$")

    def test_first_interrupt_ends_the_text(self):
        p = self.start("until-interrupted")
        self.wait_for_ranks()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=SOON)
        self.assertEqual((p.returncode, said(err)), (130, ""))
        self.assertTrue(out.endswith(b"tick\nlast words\n"), out)

    def test_second_interrupt_kills(self):
        p = self.start("deaf")
        self.wait_for_ranks()
        p.send_signal(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(p.poll())
        p.send_signal(signal.SIGINT)
        began = time.time()
        p.communicate(timeout=SOON)
        self.assertEqual(p.returncode, 130)
        self.assertLess(time.time() - began, 5)

    def test_term_and_hangup(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number=number):
                p = self.start("quiet")
                self.wait_for_ranks()
                p.send_signal(number)
                p.communicate(timeout=SOON)
                self.assertEqual(p.returncode, 128 + number)
                self.forget()

    def test_killed_front_leaves_nobody(self):
        for part in ("quiet", "deaf"):
            with self.subTest(part=part):
                p = self.start(part, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.wait_for_ranks()
                pids = self.pids()
                p.kill()
                p.wait(SOON)
                end = time.time() + SOON
                while any(alive(x) for x in pids) and time.time() < end:
                    time.sleep(0.02)
                self.assertEqual([x for x in pids if alive(x)], [])
                self.forget()

    def test_killed_launcher_leaves_nobody(self):
        p = self.start("quiet")
        self.wait_for_ranks()
        launcher = int(read(f"/proc/{p.pid}/task/{p.pid}/children").split()[0])
        os.kill(launcher, signal.SIGKILL)
        out, err = p.communicate(timeout=SOON)
        self.assertEqual((p.returncode, err), (1, b"coffer: mpirun died: Killed\n"))

    def test_reader_gone(self):
        for part in ("endless", "quiet"):  # quiet: noticed without anything to write
            with self.subTest(part=part):
                p = self.start(part)
                self.wait_for_ranks()
                p.stdout.close()
                self.assertEqual(p.wait(SOON), 141)
                self.assertEqual(p.stderr.read(), b"")
                p.stderr.close()
                self.forget()

    def test_slow_reader_does_not_block_interrupts(self):
        p = self.start("endless")
        self.wait_for_ranks()
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGINT)
        time.sleep(0.1)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(SOON), 130)
        p.stdout.close(), p.stderr.close()

    def test_disk_full(self):
        with open("/dev/full", "wb") as full:
            p = self.start("endless", stdout=full)
            err = said(p.communicate(timeout=SOON)[1])
        self.assertEqual((p.returncode, err), (1, "coffer: cannot write to standard output: No space left on device\n"))

    def test_closed_stdout(self):
        p = self.start("text", "x", stdout=None, preexec_fn=lambda: os.close(1))
        err = said(p.communicate(timeout=SOON)[1])
        self.assertEqual((p.returncode, err), (1, "coffer: cannot write to standard output: Bad file descriptor\n"))

    def test_missing_launcher(self):
        self.env["COFFER_MPIRUN"] = "/no/such/mpirun --option"
        status, out, err = self.run_to_end("text", "x")
        self.assertEqual((status, out), (1, b""))
        self.assertIn("cannot start /no/such/mpirun: No such file or directory", err)

    def on_terminal(self, *words):
        """Starts the front as the foreground job of a new terminal."""
        master, slave = pty.openpty()
        own = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        p = self.start(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=own)
        os.close(slave)
        return p, master

    def screen(self, master):
        text = b""
        while select.select([master], [], [], SOON)[0]:
            try:
                got = os.read(master, 4096)
            except OSError:
                break
            text += got
        os.close(master)
        return text

    def test_progress_on_a_terminal(self):
        p, master = self.on_terminal("events")
        screen = self.screen(master)
        self.assertEqual(p.wait(SOON), 0)
        self.assertRegex(screen, rb"\[-+\]   0 % loading\r\x1b\[K")  # drawn and taken away again
        self.assertIn(b"text\r\n", screen)
        self.assertNotIn(b"\x1e", screen)

    def test_ctrl_c_on_a_terminal(self):
        p, master = self.on_terminal("until-interrupted")
        self.wait_for_ranks()
        os.write(master, b"\x03")
        screen = self.screen(master)
        self.assertEqual(p.wait(SOON), 130)
        self.assertIn(b"last words\r\n", screen)

def read(path):
    with open(path) as f:
        return f.read()

def alive(pid):
    try:
        return read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)
