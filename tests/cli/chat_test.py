#!/usr/bin/python3
"""coffer chat from outside: chat_test.py COFFER. In a terminal (front process, libedit) and through pipes, on one and on
several ranks. The model is synthetic: what it answers means nothing, but it answers the same everywhere."""
import fcntl, json, os, pty, re, select, signal, subprocess, sys, tempfile, termios, time, unittest

coffer = os.path.abspath(sys.argv[1])
SOON = 60  # seconds that nothing here may take
SHAPE = "--arch llama --layers 2 --dim 64 --heads 2 --kv-heads 1 --ffn 128 --vocab 400 --type q8_0 --seed 1"
DIM, PLAIN = b"\x1b[2m", b"\x1b[0m"

def setUpModule():
    global folder, model, env
    folder = tempfile.mkdtemp()
    model = os.path.join(folder, "m.gguf")
    subprocess.run([coffer, "synth", *SHAPE.split(), "-o", model], check=True, stderr=subprocess.DEVNULL)
    env = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "TERM": "xterm",
           "LC_ALL": "C.UTF-8"}
    for name in list(env):
        if name.startswith(("OMPI_COMM", "PMIX_", "PMI_", "SLURM_", "COFFER_", "NO_COLOR")):
            del env[name]

def tearDownModule():
    subprocess.run(["rm", "-rf", folder])

def words(*more):
    return [coffer, "chat", "-m", model, "--temp", "0", *more]

def piped(text, *more, head=(), status=0):
    """Answers on stdout, and stderr."""
    several = head or ("--ranks" in more and more[more.index("--ranks") + 1] != "1")
    e = {**env, "ASAN_OPTIONS": "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")} if several else env
    p = subprocess.run([*head, *words(*more)], input=text.encode() if isinstance(text, str) else text, env=e,
                       capture_output=True, timeout=SOON, cwd=folder)
    if p.returncode != status:
        raise AssertionError(f"exit {p.returncode}, not {status}: {p.stderr.decode()}")
    return p.stdout.decode(), p.stderr.decode()

def contents(path):
    with open(os.path.join(folder, path)) as f:
        return [(m["role"], m["content"]) for m in json.load(f)["messages"]]

class Piped(unittest.TestCase):
    def test_every_line_is_a_turn(self):
        out, err = piped("Hello\n\nand again\n/save a.json\n", "-n", "8", "-sys", "You are terse.")
        saved = contents("a.json")
        self.assertEqual([r for r, _ in saved], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual([c for r, c in saved if r != "assistant"], ["You are terse.", "Hello", "and again"])
        self.assertEqual(out, "".join(c + "\n" for r, c in saved if r == "assistant"))
        self.assertNotIn("\x1b", out + err)
        self.assertEqual(len(re.findall(r"\[8 tokens, [\d.]+ tokens/s \(predicted [\d.]+\); .* context \d+ of \d+; memory [\d.]+ GiB\]", err)), 2, err)

    def test_a_second_turn_computes_only_what_is_new(self):
        err = piped("Hello\nand again\n", "-n", "8")[1]
        new, all_ = map(int, re.findall(r"(\d+) new of the prompt's (\d+)", err)[1])
        self.assertLess(new, all_ - 20, err)

    def test_the_same_as_from_the_beginning(self):
        """The part of the cache that is kept is what the model would compute anew. (A loaded answer goes through the
        tokenizer again, which need not give the ids that were generated.)"""
        out = piped("Hello\n/save b.json\n/load b.json\nand again\nand on\n", "-n", "8")[0]
        again = piped("/load b.json\nand again\nand on\n", "-n", "8")[0]
        self.assertTrue(out.endswith(again) and again)

    def test_ranks_and_layouts(self):
        text = "Hello\nand again\n"
        want = piped(text, "-n", "8", "--ranks", "1")[0]
        for more in (["--ranks", "2"], ["--ranks", "3"], ["--ranks", "3", "--layout", "layers"], ["--ranks", "2", "--layout", "domain"]):
            with self.subTest(more=more):
                out, err = piped(text, "-n", "8", *more)
                self.assertEqual(out, want)
                self.assertEqual(err.count("; memory "), 2, err)

    def test_own_mpirun(self):
        head = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2"]
        self.assertEqual(piped("Hello\nagain\n", "-n", "8", head=head)[0], piped("Hello\nagain\n", "-n", "8")[0])

    def test_several_lines(self):
        piped('one\\\ntwo\n"""\na\n\n/b\n"""\n"""c"""\n//d\n"""e\nf"""\n/save c.json\n', "-n", "1")
        self.assertEqual([c for r, c in contents("c.json") if r == "user"], ["one\ntwo", "a\n\n/b", "c", "/d", "e\nf"])

    def test_no_newline_at_the_end(self):
        self.assertEqual(piped("Hello", "-n", "4")[0], piped("Hello\n", "-n", "4")[0])
        self.assertEqual(piped("one\\", "-n", "4")[0], piped('"""\none\n\n"""\n', "-n", "4")[0])

    def test_first_message(self):
        out = piped("", "-p", "Hello", "-n", "4")[0]
        self.assertEqual(out, piped("Hello\n", "-n", "4")[0])
        self.assertEqual(piped("more\nand more\n", "-p", "Hello", "-n", "4", "-st")[0], out)

    def test_words(self):
        out, err = piped("/help\n/system\n/system Be kind.\n/system\nHi\n/stats\n/reset\n/save d.json\n/nonsense\n"
                         "/system none\n/save e.json\n/exit\nnever answered\n", "-n", "4")
        self.assertEqual(out.count("\n"), 1)
        for want in ("/load FILE", "there is no system prompt", "the system prompt is: Be kind.", "template chatml, 3 messages",
                     "LEFT_HEMI", "the conversation begins anew; the system prompt stays", "there is no /nonsense"):
            self.assertIn(want, err)
        self.assertEqual((contents("d.json"), contents("e.json")), ([("system", "Be kind.")], []))

    def test_bad_files_keep_the_conversation(self):
        with open(os.path.join(folder, "bad.json"), "w") as f:
            f.write('{"messages": [{"role": "user"}]}')
        err = piped("Hi\n/load bad.json\n/load /no/such\n/load\n/save /no/such/x\n/save\n/save f.json\n", "-n", "4")[1]
        for want in ("bad.json: message 1: content is no text", "/no/such: No such file", "/load needs", "/no/such/x: No such", "/save needs"):
            self.assertIn(want, err)
        self.assertEqual(contents("f.json")[0], ("user", "Hi"))

    def test_context_full(self):
        lines = "".join(f"message number {i}\n" for i in range(6))
        out, err = piped(lines + "/save g.json\n", "-n", "30", "-c", "160", "--ignore-eos")
        self.assertRegex(err, r"the context of 160 tokens is full: the oldest 2 messages are forgotten")
        self.assertEqual(contents("g.json")[-2], ("user", "message number 5"))
        self.assertLess(len(contents("g.json")), 12)
        err = piped("Hi\n", "-c", "160", "--ignore-eos")[1]
        self.assertIn("the context of 160 tokens is full: the answer stops here", err)
        out, err = piped("Hi\n" + "long " * 200 + "\nHi\n/save h.json\n", "-n", "4", "-c", "160")
        self.assertIn("this message has ", err)
        self.assertEqual([c for r, c in contents("h.json") if r == "user"], ["Hi", "Hi"])
        self.assertEqual(out.count("\n"), 2)

    def test_invalid_utf8(self):
        piped(b"a\xff\x00b\n/save i.json\n", "-n", "4")
        self.assertEqual(contents("i.json")[0][1], "a\ufffd\ufffdb")

    def test_interrupt_ends_the_answer_only(self):
        p = subprocess.Popen(words("-c", "100000", "--ignore-eos"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=env, cwd=folder)
        p.stdin.write(b"Hello\n")
        p.stdin.flush()
        self.assertTrue(p.stdout.read(8))
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(b"/save j.json\n", timeout=SOON)
        self.assertEqual(p.returncode, 0, err)
        self.assertIn(b"[stopped; ", err)
        self.assertEqual([r for r, _ in contents("j.json")], ["user", "assistant"])

    def test_interrupt_while_waiting_ends(self):
        p = subprocess.Popen(words("-p", "Hi", "-n", "4"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        while b"; memory " not in p.stderr.readline():
            pass
        time.sleep(0.2)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=SOON)
        self.assertEqual(p.returncode, 130)

    def test_stop_strings_and_sampling(self):
        warm = ["-n", "12", "--temp", "2", "--min-p", "0", "--top-k", "0", "--top-p", "1", "-s", "7"]
        answer = piped("Hello\n", *warm)[0]
        self.assertGreater(len(answer), 8)
        stop = answer[5:7]
        self.assertEqual(piped("Hello\n", *warm, "--stop", stop.replace("\\", "\\\\"))[0], answer[:answer.index(stop)] + "\n")
        self.assertEqual(piped("Hello\nagain\n", *warm)[0], piped("Hello\nagain\n", *warm, "--ranks", "2")[0])

    def test_mistakes(self):
        for more, want in ((["--chat-template", "no"], "neither a known name nor a file; known are: auto, alpaca"),
                           (["--reasoning-format", "x"], "known: auto, hide, none")):
            self.assertIn(want, piped("", *more, status=2)[1])
        self.assertIn("no model", subprocess.run([coffer, "chat"], capture_output=True, text=True, stdin=subprocess.DEVNULL).stderr)

    def test_template(self):
        out, err = piped("Hi\n/stats\n", "-n", "4", "--chat-template", "llama3")
        self.assertIn("template llama3", err)
        self.assertNotIn("chatml", err)
        self.assertIn("has no place for a system prompt", piped("", "-sys", "x", "--chat-template", "yandex")[1])

class Run(unittest.TestCase):
    """coffer run goes on with the prompt as it is; asked to, it makes a message of it."""
    def run_ids(self, *more, status=0):
        p = subprocess.run([coffer, "run", "-m", model, "-p", "Hello", "-n", "6", "--temp", "0", "--ranks", "1", "--json", *more],
                           env=env, capture_output=True, text=True, timeout=SOON)
        self.assertEqual(p.returncode, status, p.stderr)
        return json.loads(p.stdout) if not status else p.stderr

    def test_run(self):
        plain, message = self.run_ids(), self.run_ids("--chat-template", "chatml")
        self.assertGreater(len(message["prompt_ids"]), len(plain["prompt_ids"]) + 20)
        self.assertEqual(self.run_ids("--chat-template", "auto")["prompt_ids"], message["prompt_ids"])
        self.assertGreater(len(self.run_ids("-sys", "Be kind.")["prompt_ids"]), len(message["prompt_ids"]))
        self.assertEqual(message["text"], piped("Hello\n", "-n", "6")[0][:-1])
        self.assertIn("known are: auto, ", self.run_ids("--chat-template", "no", status=2))
        self.assertIn("--prompt-ids goes without", self.run_ids("-sys", "x", "--prompt-ids", "1", status=2))

class Terminal(unittest.TestCase):
    def start(self, *more):
        self.master, slave = pty.openpty()
        own = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        e = {**env, "ASAN_OPTIONS": "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")}
        self.p = subprocess.Popen(words(*more), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                  preexec_fn=own, env=e, cwd=folder)
        os.close(slave)
        self.screen = b""

    def tearDown(self):
        self.p.kill()
        self.p.wait()
        os.close(self.master)

    def see(self, what):
        """Waits for it; what came before and with it is returned and done with."""
        end = time.time() + SOON
        while what not in self.screen:
            self.assertTrue(select.select([self.master], [], [], max(0, end - time.time()))[0], (what, self.screen))
            try:
                got = os.read(self.master, 4096)
            except OSError:
                self.fail((what, self.screen))
            self.screen += got
        at = self.screen.index(what) + len(what)
        seen, self.screen = self.screen[:at], self.screen[at:]
        return seen

    def type(self, keys):
        os.write(self.master, keys)

    def ask(self, keys):
        self.see(b"> ")
        self.type(keys)

    def leave(self, status=0):
        end = time.time() + SOON
        while self.p.poll() is None and time.time() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.screen += os.read(self.master, 4096)
                except OSError:
                    pass
        self.assertEqual(self.p.poll(), status, self.screen)

    def talk(self, ranks):
        self.start("-n", "6", "--ranks", ranks)
        self.see(b"/help lists the commands")
        self.ask(b"Hello\r")
        self.see(DIM + b"[6 tokens")
        self.see(b"GiB]\r\n" + PLAIN)
        self.ask("éx\x7f€ and \\\r".encode())  # a key is taken back
        self.see(b". ")
        self.type(b"more\r")
        self.see(b"GiB]")
        self.ask(b"half")
        self.see(b"half")
        self.type(b"\x03")  # forgets the line
        self.ask(b"block \\\r")
        self.see(b". ")
        self.type(b"\x03")  # forgets the message
        self.ask(b"\x1b[A\x1b[A\x1b[A\x1b[A\r")  # the fourth last line again: "Hello" is before block, more, é
        self.see(b"GiB]")
        name = f"t{ranks}.json"
        self.ask(f"/save {name}\r".encode())
        self.see(b"6 messages saved")
        self.see(b"> ")
        self.type(b"\x04")
        self.leave()
        said = [c for r, c in contents(name) if r == "user"]
        self.assertEqual(said, ["Hello", "é€ and \nmore", "Hello"])
        return contents(name)

    def test_one_rank(self):
        self.talk("1")

    def test_two_ranks(self):
        self.talk("2")

    def test_three_ranks(self):
        self.talk("3")

    def interrupt(self, ranks):
        self.start("-c", "100000", "--ignore-eos", "--ranks", ranks)
        self.ask(b"Hello\r")
        self.see(b"\n")
        time.sleep(0.3)
        self.type(b"\x03")
        self.see(b"[stopped; ")
        self.ask(b"Again\r")
        self.see(b"\n")
        time.sleep(0.3)
        self.type(b"\x03")
        self.see(b"[stopped; ")
        self.ask(b"\x03")  # at an empty prompt it ends
        self.leave()

    def test_interrupt(self):
        self.interrupt("1")

    def test_interrupt_of_two_ranks(self):
        self.interrupt("2")

    def test_exit_word(self):
        self.start("--ranks", "1")
        self.ask(b"/exit\r")
        self.leave()

    def test_hangup_leaves_nobody(self):
        self.start("--ranks", "2")
        self.see(b"> ")
        self.p.send_signal(signal.SIGHUP)
        self.leave(128 + signal.SIGHUP)

    def test_model_missing(self):
        self.start("--ranks", "1", "-m", "/no/such.gguf")
        self.see(b"/no/such.gguf: No such file")
        self.leave(1)

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
