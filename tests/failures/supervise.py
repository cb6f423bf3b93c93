#!/usr/bin/python3
"""supervise.py COFFER: runs and talks under a supervisor lose ranks and mpirun in the middle, and go on with the same bytes;
what ends for good ends as a Unix program does; nothing is left behind."""
import json, os, pty, signal, time

from common import *

class Supervise(Supervised):
    def launcher(self):
        return self.alive("mpirun")[0]

    def wait_for_bytes(self, path, n):
        end = time.time() + 30
        while os.path.getsize(path) < n:
            self.assertLess(time.time(), end, "no text")
            time.sleep(0.01)

    def harmed(self, words, harm, after=200, ranks=3, data=None, command=None, **more):
        """(status, stdout, stderr) of a supervised run that is harmed once `after` bytes of text are there."""
        out, err = self.dir + "/out", self.dir + "/err"
        with open(out, "wb") as o, open(err, "wb") as e:
            p = subprocess.Popen(command or self.command(*words, how="self", ranks=ranks, **more), env=self.env, stdin=subprocess.PIPE if data else subprocess.DEVNULL,
                                 stdout=o, stderr=e)
            if data:
                p.stdin.write(data)
                p.stdin.close()
            self.wait_for_bytes(out, after)
            harm(p)
            status = p.wait(60)
        return status, read(out, "rb"), read(err)

    def kill_rank(self, rank, number=signal.SIGKILL):
        return lambda p: os.kill(self.rank_pid(rank), number)

    def kill_mpirun(self, p):
        os.kill(self.launcher(), signal.SIGKILL)

    def test_same_text(self):
        greedy, mirostat = ["--temp", "0"], ["--mirostat", "2", "--seed", "3"]
        harms = {"rank 0": self.kill_rank(0), "rank 2": self.kill_rank(2), "mpirun": self.kill_mpirun, "stopped": self.kill_rank(1, signal.SIGSTOP)}
        for sampling, names in ((greedy, ("rank 0", "mpirun")), (SAMPLED, ("rank 2", "stopped")), (mirostat, ("rank 0",))):
            words = [*LONG, *sampling, "--timeout", "2"]
            status, want, err = self.run_to_end(*words)
            self.assertEqual(status, 0, err)
            for name in names:
                with self.subTest(sampling=sampling, harm=name):
                    status, out, err = self.harmed(words, harms[name])
                    self.assertEqual(status, 0, err)
                    self.assertEqual(out, want)
                    self.assertRegex(err, r"(?m)^coffer: .*; start 2 with 3 ranks$")
                    self.assertRegex(err, r"(?m)^coffer: going on after \d+\.\d s$")
                    self.assertNotIn("***", err)
                    self.assertEqual(os.listdir(self.dir + "/coffer"), [], "the journal stays")

    def test_echo_stop_and_pieces_of_characters(self):
        """What is held back, because it may become a stop string or is half a character, is neither lost nor doubled."""
        words = ["--ignore-eos", "-n", "300", "-c", "400", "--echo", "--stop", "never said", "--seed", "5", "--temp", "3", "--top-k", "0"]
        data = "Ein Bär \x1e\\n läuft.\n".encode()
        prompt = ("-f", "-")
        p = subprocess.run(self.command(*words, prompt=prompt), input=data, env=self.env, capture_output=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        status, out, err = self.harmed(words, self.kill_rank(0), data=data, command=self.command(*words, how="self", ranks=2, prompt=prompt))
        self.assertEqual((status, out), (0, p.stdout), err)
        self.assertIn("start 2", err)

    def test_json_begins_anew(self):
        words = [*LONG, "--json", *SAMPLED]
        status, want, err = self.run_to_end(*words)
        p = self.start(*words, how="self", ranks=2)
        self.wait_for_journal(b"token", 40)
        os.kill(self.rank_pid(1), signal.SIGKILL)
        status, out, err = self.end(p, 60)
        self.assertEqual(status, 0, err)
        self.assertIn("start 2", err)
        want, got = json.loads(want), json.loads(out)
        self.assertEqual((got["ids"], got["logits_xxh64"], got["text"]), (want["ids"], want["logits_xxh64"], want["text"]))

    def wait_for_journal(self, word, n):
        end = time.time() + 30
        while time.time() < end:
            for f in glob.glob(self.dir + "/coffer/*.journal"):
                if read(f, "rb").count(b"\n" + word + b" ") >= n: return f
            time.sleep(0.01)
        self.fail("no such journal")

    def test_many_prompts(self):
        """Each answer once, whole, and as without the failure; on stdout and in a file."""
        lines = "".join(json.dumps({"prompt": f"{i} Once upon", "id": i, "seed": i, "n_predict": 60 + 20 * i, "ignore_eos": True}) + "\n" for i in range(12))
        answers = self.dir + "/answers.jsonl"
        words = ["--parallel", "3", "-c", "400"]
        p = subprocess.run(self.command(*words, prompt=("--prompts", "-")), input=lines.encode(), env=self.env, capture_output=True)
        want = sorted(p.stdout.splitlines())
        self.assertEqual(len(want), 12, p.stderr)
        for output in ([], ["-o", answers]):
            with self.subTest(output=output):
                open(answers, "w").close()
                out = self.dir + "/out"
                with open(out, "wb") as o:
                    p = subprocess.Popen(self.command(*words, *output, prompt=("--prompts", "-"), how="self", ranks=2), env=self.env, stdin=subprocess.PIPE, stdout=o,
                                         stderr=subprocess.PIPE)
                    p.stdin.write(lines.encode())
                    p.stdin.close()
                    self.wait_for_journal(b"answered", 3)
                    self.kill_mpirun(p)
                    with p.stderr: err = p.stderr.read().decode()
                    self.assertEqual(p.wait(60), 0, err)
                self.assertIn("start 2", err)
                self.assertEqual(sorted(read(answers if output else out, "rb").splitlines()), want)

    # --- conversations

    TALK = ["chat", "-n", "150", "-c", "4000", "--temp", "0.9", "--seed", "7", "--repeat-penalty", "1.1", "--chat-template", "chatml", "--ignore-eos"]

    def test_chat(self):
        saved = self.dir + "/talk.json"
        with open(saved, "w") as f:
            json.dump({"messages": [{"role": "user", "content": "An older question"}, {"role": "assistant", "content": "An \x01 answer " * 200}]}, f)
        data = f"Hello\r\n/load {saved}\nAnd \"again\"\n/save {self.dir}/now.json\nA third\n/save {saved}\nThe last\n".encode()
        shutil.copy(saved, self.dir + "/kept.json")
        command = [coffer, *self.TALK, "-m", self.model]
        p = subprocess.run(command, input=data, env=self.env, capture_output=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        want, want_now, want_saved = p.stdout, read(self.dir + "/now.json"), read(saved)
        for after in (200, len(want) - 200):
            with self.subTest(after=after):
                shutil.copy(self.dir + "/kept.json", saved)
                status, out, err = self.harmed(None, self.kill_rank(0), after=after, data=data, command=[*command, "--ranks", "2"])
                self.assertEqual(status, 0, err)
                self.assertEqual(out, want)
                self.assertIn("start 2", err)
                self.assertEqual((read(self.dir + "/now.json"), read(saved)), (want_now, want_saved))
                self.assertEqual(len(re.findall(r"messages loaded", err)), 1, err)
                self.assertEqual(len(re.findall(r"(?m)^\[", err)), 4, err)  # each answer's line of speed, once

    # --- the end

    def test_gives_up(self):
        status, out, err = self.harmed([*ENDLESS, "--max-restarts", "0"], self.kill_rank(1), ranks=2)
        self.assertEqual(status, 1, err)
        self.assertRegex(err, r"rank 1 on \S+ died: signal 9 \(Killed\): given up after 1 starts? \(--max-restarts 0\)")
        journal = re.search(r"the journal is (\S+)", err)[1]
        lines = read(journal).splitlines()
        self.assertEqual(lines[0], "coffer journal 2")
        self.assertIn("argument --max-restarts", lines)
        self.assertGreater(sum(l.startswith("token ") for l in lines), 10)

    def test_waits_longer_and_longer(self):
        """Starts that bring nothing come at growing distances; whoever has had enough need not wait for the next one."""
        mpirun = self.dir + "/dying-mpirun"
        with open(mpirun, "w") as f: f.write("#!/bin/bash\nkill -9 $$\n")
        os.chmod(mpirun, 0o755)
        self.env["COFFER_MPIRUN"] = mpirun
        began = time.time()
        status, out, err = self.run_to_end("-n", "2", "--max-restarts", "3", how="self", ranks=2)
        self.assertEqual(status, 1, err)
        self.assertEqual(re.findall(r"mpirun died: Killed; start (\d) with 2 ranks(.*)", err), [("2", ""), ("3", ""), ("4", " in 2 s")])
        self.assertIn("given up after 4 starts", err)
        self.assertGreater(time.time() - began, 2)
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            p = self.start("-n", "2", "--max-restarts", "9", how="self", ranks=2)
            self.wait_for_line(p, r"in 4 s")
            began = time.time()
            p.send_signal(number)
            self.assertEqual(self.end(p)[0], status)
            self.assertLess(time.time() - began, 2)

    def test_no_supervisor(self):
        status, out, err = self.harmed([*ENDLESS, "--no-supervise"], self.kill_rank(1), ranks=2)
        self.assertEqual(status, 1, err)
        self.assertNotIn("start 2", err)

    def test_mistakes_are_not_repeated(self):
        for words, text in ((["--temp", "0", "-n", "2", "-c", "2"], "the prompt has"), (["--kv-type", "x"], "--kv-type x is unknown")):
            status, out, err = self.run_to_end(*words, how="self", ranks=2)
            self.assertNotEqual(status, 0)
            self.assertIn(text, err)
            self.assertNotIn("start 2", err)
        self.env["COFFER_MPIRUN"] = "mpirun --no-such-option"
        status, out, err = self.run_to_end("-n", "2", how="self", ranks=2)
        self.assertEqual(status, 1)
        self.assertNotIn("start 2", err)

    def test_term_drains(self):
        status, out, err = self.harmed(ENDLESS, lambda p: p.terminate(), ranks=2)
        self.assertEqual(status, 128 + signal.SIGTERM, err)
        self.assertTrue(out.endswith(b"\n"))
        self.assertRegex(err, r"decode \d+ tokens at")  # it ended in good order
        status, want, _ = self.run_to_end("--ignore-eos", "-n", str(len(out)), "-c", "100000", "--temp", "0")
        self.assertTrue(want.startswith(out[:-1]))

    def test_full_disk(self):
        """The journal cannot be written: said, and the answer survives all the same."""
        words = [*LONG, *SAMPLED]
        status, want, err = self.run_to_end(*words)
        status, out, err = self.harmed([*words, "--journal", "/dev/full"], self.kill_rank(1))
        self.assertEqual((status, out), (0, want), err)
        self.assertEqual(len(re.findall(r"cannot write the journal /dev/full: No space left on device: from here on it is kept in memory", err)), 1, err)
        self.assertIn("start 2", err)

    def test_journal(self):
        path = self.dir + "/mine.journal"
        status, out, err = self.run_to_end("-n", "5", "--seed", "3", "--journal", path, how="self", ranks=2)
        self.assertEqual(status, 0, err)
        words = [l.split(" ", 1)[0] for l in read(path).splitlines()]
        self.assertEqual(words.count("token"), 5)
        status, out, err = self.run_to_end("-n", "5", "--journal", path, how="self", ranks=2)
        self.assertEqual(status, 2)
        self.assertIn("exists already", err)
        os.unlink(path)

    def test_files_are_read_once(self):
        """What a run was given is what it answers, whatever becomes of the files meanwhile."""
        prompt, prompts = self.dir + "/prompt.txt", self.dir + "/prompts.jsonl"
        words, text = [*LONG, *SAMPLED], "Once upon a\n\ttime \\n"
        with open(prompt, "w") as f: f.write(text)
        status, want, err = self.run_to_end(*words, prompt=("-f", prompt))
        def harm(p):
            os.unlink(prompt)
            self.kill_rank(1)(p)
        status, out, err = self.harmed(words, harm, prompt=("-f", prompt))
        self.assertEqual((status, out), (0, want), err)
        self.assertIn("start 2", err)
        lines = [json.dumps({"prompt": f"{i} Once upon", "id": i, "seed": i, "n_predict": 60 + 20 * i, "ignore_eos": True}) + "\n" for i in range(12)]
        with open(prompts, "w") as f: f.writelines(lines)
        words = ["--parallel", "3", "-c", "400"]
        status, want, err = self.run_to_end(*words, prompt=("--prompts", prompts))
        def harm(p):
            self.wait_for_journal(b"answered", 3)
            with open(prompts, "w") as f: f.writelines(reversed(lines))
            self.kill_rank(0)(p)
        status, out, err = self.harmed(words, harm, after=1, prompt=("--prompts", prompts))
        self.assertEqual((status, sorted(out.splitlines())), (0, sorted(want.splitlines())), err)
        self.assertIn("start 2", err)
        self.fails(1, r"coffer run: /no/such: No such file", "-n", "2", prompt=("-f", "/no/such"), how="self", ranks=2)

    def test_another_model(self):
        """An answer is not gone on with by another model; of a file that was only written again `coffer resume` knows that it is the same."""
        status, want, err = self.run_to_end(*LONG, *SAMPLED)
        for other, what in ((self.synth("other.gguf", "--seed", "2"), "become another one"), (self.synth("twin.gguf"), "been written or replaced")):
            with self.subTest(what=what):
                model = self.synth("swapped.gguf")
                def harm(p):
                    os.replace(other, model)
                    self.kill_rank(1)(p)
                status, out, err = self.harmed(None, harm, command=self.command(*LONG, *SAMPLED, model=model, how="self", ranks=2))
                self.assertEqual(status, 1, err)
                self.assertRegex(err, rf"the model's file has {what} since this answer was begun with it: given up")
                self.assertNotIn("going on", err)
                journal = re.search(r"the journal is (\S+)", err)[1]
                p = subprocess.run([coffer, "resume", journal], env=self.env, stdin=subprocess.DEVNULL, capture_output=True)
                self.assertEqual((p.returncode, p.stdout == want), (0, True) if "written" in what else (1, False), p.stderr)

    def wait_until_blocked(self, pid, number):
        """The front takes its signals out of a descriptor from then on."""
        end = time.time() + 10
        while not int(re.search(r"SigBlk:\s*(\w+)", read(f"/proc/{pid}/status"))[1], 16) >> (number - 1) & 1:
            self.assertLess(time.time(), end)
            time.sleep(0.002)

    def test_early_signals(self):
        """Whoever asks for the end before the ranks can hear it is heard all the same, and by nobody as a failure."""
        for number, status, after in ((signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 0.2)):
            with self.subTest(number=number, after=after):
                p = self.start(*ENDLESS, how="self", ranks=2)
                self.wait_until_blocked(p.pid, number)
                time.sleep(after)
                p.send_signal(number)
                got, out, err = self.end(p, 9)  # SIGTERM would end it after ten seconds in any case
                self.assertEqual(got, status, err)
                self.assertLess(len(out), 20000)
                self.assertNotIn("start 2", err)
        p = self.start(*ENDLESS, how="self", ranks=2)
        self.wait_for_text(p)
        os.kill(self.rank_pid(1), signal.SIGKILL)
        self.wait_for_line(p, r"start 2 with 2 ranks")
        p.send_signal(signal.SIGINT)
        self.assertEqual(self.end(p, 9)[0], 130)

    def test_where_there_is_no_supervisor(self):
        path = self.dir + "/one.journal"
        status, out, err = self.run_to_end("-n", "3", "--journal", path)
        self.assertEqual((status, read(path).count("\ntoken ")), (0, 3), err)
        os.unlink(path)
        status, out, err = self.run_to_end("-n", "3", "--journal", path, how="own", ranks=2)
        self.assertEqual((status, len(re.findall(r"are for a coffer that starts mpirun itself", err)), os.path.exists(path)), (0, 1, False), err)
        self.fails(2, r"--ranks 3, but 2 have been started", "-n", "3", "--ranks", "3", how="own", ranks=2)
        self.fails(2, r"--journal and --no-supervise", "-n", "3", "--journal", path, "--no-supervise")
        os.mkfifo(path)
        self.addCleanup(os.unlink, path)
        self.fails(1, r"--journal \S+: No such device", "-n", "3", "--journal", path, how="self", ranks=2)

    def test_rounded_numbers(self):
        """With rounding between hosts nobody can promise the same tokens: said, and no failure of its own."""
        self.env["COFFER_TEST_HOSTS"] = "2"
        words = [*LONG, *SAMPLED, "--wire", "q8"]
        status, out, err = self.harmed(words, self.kill_rank(1), ranks=2)
        self.assertEqual(status, 0, err)
        self.assertIn("--wire q8 rounds between hosts: from here on the tokens may be others", err)
        p = self.start(*words, "--json", how="self", ranks=2)
        self.wait_for_journal(b"token", 40)
        os.kill(self.rank_pid(1), signal.SIGKILL)
        status, out, err = self.end(p, 60)
        self.assertEqual((status, len(json.loads(out)["ids"])), (0, 300), err)

    def test_one_rank(self):
        """Nobody starts mpirun for one rank; --supervise watches over it all the same."""
        words = [*LONG, *SAMPLED]
        status, want, err = self.run_to_end(*words)
        def kill(p):
            os.kill(next(pid for pid in self.alive("coffer") if pid != p.pid), signal.SIGKILL)
        status, out, err = self.harmed(words, kill, command=self.command(*words, "--supervise"))
        self.assertEqual((status, out), (0, want), err)
        self.assertRegex(err, r"the process with the model died: Killed; start 2 with 1 rank\b")

if __name__ == "__main__":
    main()
