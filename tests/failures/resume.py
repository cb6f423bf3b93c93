#!/usr/bin/python3
"""resume.py COFFER: supervised runs and talks lose their supervisor itself, and `coffer resume` goes on with the journal to the
same bytes."""
import fcntl, json, pty, select, signal, termios, time

from common import *

class Resume(Supervised):
    def journal(self, word, n, path=None):
        """The path of the journal, once there are n such records in it."""
        end = time.time() + 30
        while time.time() < end:
            for f in [path] if path and os.path.exists(path) else glob.glob(self.dir + "/coffer/*.journal"):
                if read(f, "rb").count(b"\n" + word + b" ") >= n: return f
            time.sleep(0.005)
        self.fail("no such journal")

    def ended(self, command, word, n, number=signal.SIGKILL, data=None, path=None, **more):
        """The journal of a run that is ended by a signal once it has n such records; and (status, stdout, stderr)."""
        p = subprocess.Popen(command, env=self.env, stdin=subprocess.PIPE if data else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        if data:
            p.stdin.write(data)
            p.stdin.close()
            p.stdin = None
        path = self.journal(word, n, path)
        os.kill(p.pid, number)
        return path, *self.end(p)

    def resumed(self, path, *more, data=b"", **where):
        p = subprocess.run([coffer, "resume", path, *more], env=self.env, input=data, capture_output=True, timeout=60, **where)
        return p.returncode, p.stdout, p.stderr.decode()

    def test_same_text(self):
        """Killed without notice: any way of sampling, a prompt with everything that a shell would touch, another number of ranks."""
        prompt = ("-p", "Once\\n upon 'a'\n\ttime \\ ")
        for sampling, more in ((["--temp", "0"], []), (SAMPLED, ["--", "--ranks", "3"]), (["--temp", "1.5"], ["--", "--ranks", "1"])):
            with self.subTest(sampling=sampling):
                path, _, shown, err = self.ended(self.command(*LONG, *sampling, prompt=prompt, how="self", ranks=2), b"token", 40)
                words = [l.split(" ", 1)[1] for l in read(path).splitlines() if l.startswith("argument ")]
                seed = [] if "--seed" in sampling else ["--seed", words[words.index("--seed") + 1]]  # drawn, and in the journal
                status, want, _ = self.run_to_end(*LONG, *sampling, *seed, prompt=prompt)
                self.assertEqual(status, 0)
                self.assertTrue(want.startswith(shown) and len(shown) < len(want))
                status, out, err = self.resumed(path, *more)
                self.assertEqual((status, out), (0, want), err)
                self.assertRegex(err, r"prefill \d\d+ tokens")
                self.assertFalse(os.path.exists(path), "the journal stays")

    def test_again_and_again(self):
        """A resumed run is lost as well; its ranks are; and its journal was cut in the middle of a record."""
        words = [*LONG, *SAMPLED, "--journal", "mine.journal"]
        status, want, _ = self.run_to_end(*LONG, *SAMPLED)
        path = self.dir + "/mine.journal"
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        self.ended(self.command(*words, how="self", ranks=2), b"token", 40, path=path, cwd=self.dir)
        os.truncate(path, os.path.getsize(path) - 5)
        self.ended([coffer, "resume", path], b"token", 100, path=path)
        p = subprocess.Popen([coffer, "resume", path], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.journal(b"token", 150, path)
        os.kill(self.rank_pid(1), signal.SIGKILL)
        status, out, err = self.end(p, 60)
        self.assertEqual((status, out), (0, want), err)
        self.assertIn("start 2 with 2 ranks", err)
        status, out, err = self.resumed(path)  # all there is to say has been said: it is said again
        self.assertEqual((status, out), (0, want), err)
        self.assertEqual(sum(l.startswith("token ") for l in read(path).splitlines()), 300)

    def test_json(self):
        words = [*LONG, "--json", *SAMPLED]
        status, want, err = self.run_to_end(*words)
        path, _, out, err = self.ended(self.command(*words, how="self", ranks=2), b"token", 40)
        self.assertEqual(out, b"")
        status, out, err = self.resumed(path)
        self.assertEqual(status, 0, err)
        want, got = json.loads(want), json.loads(out)
        self.assertEqual((got["ids"], got["logits_xxh64"], got["text"]), (want["ids"], want["logits_xxh64"], want["text"]))

    def test_many_prompts(self):
        """Every answer, once; those that were there are not computed again, and stdin is that of the first time."""
        lines = "".join(json.dumps({"prompt": f"{i} \\ Once\nupon", "id": i, "seed": i, "n_predict": 60 + 20 * i, "ignore_eos": True}) + "\n" for i in range(12))
        answers = self.dir + "/answers.jsonl"
        words = ["--parallel", "3", "-c", "400"]
        p = subprocess.run(self.command(*words, prompt=("--prompts", "-")), input=lines.encode(), env=self.env, capture_output=True)
        want = sorted(p.stdout.splitlines())
        for output in ([], ["-o", "answers.jsonl"]):
            with self.subTest(output=output):
                path, *_ = self.ended(self.command(*words, *output, prompt=("--prompts", "-"), how="self", ranks=2), b"answered", 3, data=lines.encode(), cwd=self.dir)
                known = read(path).count("\nanswered ")
                status, out, err = self.resumed(path, data=b"nothing that counts\n", cwd="/")
                self.assertEqual(status, 0, err)
                self.assertEqual(sorted((read(answers, "rb") if output else out).splitlines()), want)
                self.assertLess(known, 12)

    def test_conversation(self):
        talk = ["chat", "-n", "150", "-c", "4000", "--temp", "0.9", "--seed", "7", "--chat-template", "chatml", "--ignore-eos", "-m", self.model]
        data = b"Hello\nAnd \"again\"\n"
        p = subprocess.run([coffer, *talk], input=data + b"A third\n", env=self.env, capture_output=True)
        for tokens in (40, 220):
            with self.subTest(tokens=tokens):
                path, *_ = self.ended([coffer, *talk, "--ranks", "2"], b"token", tokens, data=data)
                self.assertEqual(read(path).count("\nline "), 1 + tokens // 150)
                status, out, err = self.resumed(path, data=(data + b"A third\n").split(b"\n", 1 + tokens // 150)[-1])
                self.assertEqual((status, out), (0, p.stdout), err)

    def test_terminal(self):
        """A terminal that goes away ends a talk; the journal is named, and in another terminal one sees what was asked."""
        def begin(command):
            master, slave = pty.openpty()
            p = subprocess.Popen(command, env={**self.env, "TERM": "dumb"}, stdin=slave, stdout=slave, stderr=slave,
                                 preexec_fn=lambda: (os.setsid(), fcntl.ioctl(slave, termios.TIOCSCTTY, 0)))
            os.close(slave)
            return p, master
        def until(master, pattern, seen=b""):
            end = time.time() + 30
            while not re.search(pattern, seen):
                self.assertLess(time.time(), end, seen)
                if select.select([master], [], [], 0.1)[0]: seen += os.read(master, 4096)
            return seen
        words = ["chat", "-m", self.model, "-n", "12", "-c", "400", "--temp", "0", "--seed", "1", "--chat-template", "chatml", "--ignore-eos", "--ranks", "2"]
        p, master = begin([coffer, *words])
        until(master, rb"> ")
        os.write(master, b"Who are you?\n")
        until(master, rb"\[12 tokens(?s:.*)\n> ")
        path = self.journal(b"end", 1)
        os.close(master)  # SIGHUP
        self.assertEqual(p.wait(30), 128 + signal.SIGHUP)
        self.assertTrue(os.path.exists(path))
        p, master = begin([coffer, "resume", path])
        seen = until(master, rb"> Who are you\?\r?\n(?s:.+)\n> ")
        os.write(master, b"\x04")
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while os.read(master, 4096): pass
        os.close(master)
        self.assertEqual(p.wait(30), 0, seen)
        self.assertFalse(os.path.exists(path))

    def test_term(self):
        """A batch system ends jobs with SIGTERM: that is no wish to forget."""
        path, status, out, err = self.ended(self.command(*LONG, *SAMPLED, how="self", ranks=2), b"token", 40, number=signal.SIGTERM)
        self.assertEqual(status, 128 + signal.SIGTERM, err)
        self.assertIn(f"the journal is {path} (coffer resume goes on with it)", err)
        status, want, _ = self.run_to_end(*LONG, *SAMPLED)
        self.assertEqual(self.resumed(path)[:2], (0, want))
        path, status, out, err = self.ended(self.command(*LONG, how="self", ranks=2), b"token", 40, number=signal.SIGINT)
        self.assertEqual((status, os.path.exists(path)), (130, False), err)  # this one is

    def test_mistakes(self):
        path = self.dir + "/some.journal"
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        def refused(text, pattern, status=1, words=()):
            with open(path, "w") as f: f.write(text)
            got = self.resumed(path, *words)
            self.assertEqual((got[0], got[1]), (status, b""), got[2])
            self.assertRegex(got[2], pattern)
            self.assertEqual(read(path), text)
        refused("", "is no journal of this coffer")
        refused("coffer journal 2\nargument quantize\nargument x\nstart 1\n", 'the journal of "quantize", not of coffer run or chat')
        refused("coffer journal 2\nargument run\nargument --no-such-option\nstart 1\n", "unknown option --no-such-option", 2)
        refused("coffer journal 2\nargument run\ntoken 5\n", "line 3 is no record")
        refused("coffer journal 2\ndirectory /no/such\nargument run\nstart 1\n", "started in /no/such, which cannot be entered: No such file")
        refused(f"coffer journal 2\nargument run\nargument -m\nargument {self.model}\nargument -p\nargument x\nstart 1\n", "has a supervisor: not with --no-supervise", 2,
                ["--", "--no-supervise"])
        refused("coffer journal 2\nargument run\nargument -p\n", "does not say how the run was called")  # it may have had more words
        got = self.resumed(self.dir)
        self.assertEqual(got[0], 1)
        self.assertIn("is no file", got[2])
        self.assertIn("No such file", self.resumed("/no/such")[2])
        status, out, err = self.end(subprocess.Popen([coffer, "resume"], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        self.assertEqual((status, "which journal?" in err), (2, True), err)
        status, out, err = self.end(subprocess.Popen([*MPIRUN, "-n", "2", coffer, "resume", path], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        self.assertEqual((status, err.count("starts mpirun itself")), (2, 1), err)
        self.addCleanup(lambda: os.unlink(path + "2"))
        for named in ([], ["--journal", path + "2"]):
            p = self.start(*ENDLESS, *named, how="self", ranks=2)
            self.assertIn("its run is still going on", self.resumed(self.journal(b"token", 5, named and named[1]))[2])
            p.send_signal(signal.SIGINT)
            self.end(p)

    def test_nothing_is_lost_on_the_way(self):
        """A resume that fails leaves the journal, and so does an early end, if the journal has what was read from a pipe; a mistake in a first call
        leaves none."""
        lines = b'{"prompt": "Once", "n_predict": 3000, "ignore_eos": true}\n'
        command = self.command("--parallel", "1", "-c", "4000", "--seed", "1", prompt=("--prompts", "-"), how="self", ranks=2)
        path, *_ = self.ended(command, b"start", 1, data=lines)
        status, out, err = self.resumed(path, "--", "-o", "/no/such/folder/x")
        self.assertEqual(status, 1, err)
        self.assertIn(f"the journal is {path}", err)
        path2, status, out, err = self.ended([coffer, "resume", path], b"start", 2, number=signal.SIGTERM, path=path)
        self.assertEqual(status, 143, err)
        self.assertTrue(os.path.exists(path), err)
        self.assertIn("input", read(path))
        os.unlink(path)
        for words in (["-f", "/no/such"], ["--prompts", "/no/such"]):
            status, out, err = self.run_to_end("-n", "2", prompt=words, how="self", ranks=2)
            self.assertEqual((status, os.listdir(self.dir + "/coffer")), (1, []), err)

    def test_term_in_a_conversation(self):
        """An answer that SIGTERM has cut goes on, more than once."""
        talk = ["chat", "-n", "300", "-c", "4000", "--temp", "0.9", "--seed", "7", "--chat-template", "chatml", "--ignore-eos", "-m", self.model]
        p = subprocess.run([coffer, *talk], input=b"Hello\nAgain\n", env=self.env, capture_output=True)
        path, status, out, err = self.ended([coffer, *talk, "--ranks", "2"], b"token", 40, number=signal.SIGTERM, data=b"Hello\n")
        self.assertEqual(status, 143, err)
        self.assertRegex(read(path), r"\nend 143 \d+\n$")
        path, status, out, err = self.ended([coffer, "resume", path], b"token", 120, number=signal.SIGTERM, path=path)
        self.assertEqual(status, 143, err)
        status, out, err = self.resumed(path, data=b"Again\n")
        self.assertEqual((status, out), (0, p.stdout), err)

    def test_print(self):
        path, *_ = self.ended(self.command(*LONG, prompt=("-p", "it's \\n"), how="self", ranks=2), b"token", 5, cwd=self.dir)
        status, out, err = self.resumed(path, "--print", "--", "--host", "a,b")
        self.assertEqual(status, 0, err)
        self.assertTrue(out.decode().startswith(f"cd {self.dir} && coffer run -m {self.model} -p 'it'\\''s \\n' --layout tensor"), out)
        self.assertTrue(out.endswith(b" --host a,b\n"), out)
        self.assertTrue(os.path.exists(path))

if __name__ == "__main__":
    main()
