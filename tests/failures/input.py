#!/usr/bin/python3
"""input.py COFFER: wrong input of every kind. A clear message that names the thing at fault, and the right exit status."""
import os, stat, unittest

from common import *

class Input(Case):
    def each_launcher(self):
        return [{"ranks": 1}, {"ranks": 3}, {"ranks": 3, "how": "self"}]

    def test_bad_model_files(self):
        whole = read(self.model, "rb")
        cases = [("half.gguf", whole[:len(whole) // 2], r"half\.gguf: .*truncated\?"),
                 ("head.gguf", whole[:300], r"head\.gguf: "),
                 ("text.gguf", b"hello, I am no model\n", r"text\.gguf: .*not a GGUF file"),
                 ("empty.gguf", b"", r"empty\.gguf: "),
                 ("zeros.gguf", bytes(100000), r"zeros\.gguf: .*not a GGUF file")]
        def changed(key, value):
            key = b"llama." + key + struct.pack("<I", 4)
            self.assertEqual(whole.count(key), 1)
            at = whole.index(key) + len(key)
            return whole[:at] + struct.pack("<I", value) + whole[at + 4:]
        cases += [("fewer.gguf", changed(b"block_count", 3), r"fewer\.gguf: there is a tensor blk\.3\.\S+, but llama\.block_count is 3"),
                  ("none.gguf", changed(b"block_count", 0), r"none\.gguf: llama\.block_count is 0"),
                  ("heads.gguf", changed(b"attention.head_count_kv", 3), r"heads\.gguf: llama\.attention\.head_count is \d+, no multiple of llama\.attention\.head_count_kv, 3"),
                  ("rotten.gguf", whole[:-100000] + bytes([255]) * 100000, r"non-finite .* \(is \S*rotten\.gguf damaged\?\)")]
        for name, data, pattern in cases:
            for launcher in self.each_launcher():
                self.fails(1, pattern, "-n", "4", model=self.path(name, data), **launcher)

    def test_words_of_others(self):
        """Options of llama.cpp that have no meaning here are named, and not read as something else."""
        for words in (["-ngl", "0"], ["-fa", "on"], ["--no-mmap"], ["--n-gpu-layers=3"]):
            self.fails(2, f"option {words[0].split('=')[0]} is one of llama.cpp's, and not needed here", "-n", "4", *words)
        status, out, err = self.run_to_end("-n", "2", prompt=("-p", "-ngl"))  # what is said is no option
        self.assertEqual(status, 0, err)

    def test_longer_than_trained(self):
        status, out, err = self.run_to_end("-n", "2", "-c", "5000")
        self.assertEqual((status, err.count("is longer than the 4096 that the model was trained for")), (0, 1), err)

    def test_no_model_file(self):
        for launcher in self.each_launcher():
            self.fails(1, r"nowhere\.gguf: No such file", "-n", "4", model=self.dir + "/nowhere.gguf", **launcher)
        self.fails(1, r"not a regular file", "-n", "4", model=self.dir)

    def test_one_rank_sees_another_file(self):
        half = self.path("half.gguf", read(self.model, "rb")[:100000])
        others = [(self.dir + "/nowhere.gguf", r"rank 1 \([^)]*\): .*nowhere\.gguf: No such file"),
                  (half, r"rank 1 \([^)]*\): .*half\.gguf: "),
                  (self.synth("larger.gguf", "--layers", "5"), r"rank 1 \([^)]*\).* has a model of \d+ bytes"),
                  (self.synth("twin.gguf", "--rope-base", "20000"), r"rank 1 \([^)]*\).* has another model")]
        for other, pattern in others:
            with self.subTest(other=other):
                wrapper = self.script("wrapper", f'#!/bin/bash\n[ "$OMPI_COMM_WORLD_RANK" = 1 ] && set -- run -m {other} '
                                    f'"${{@:4}}"\nexec {coffer} "$@"\n')
                self.fails(1, pattern, "-n", "4", ranks=3, how=wrapper)

    def test_does_not_fit(self):
        # 16 Mi positions of 16 layers: 32 GiB and more of cache for each KV head, whatever the machine has: ask for that many heads.
        free = int(re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo")).group(1)) << 10
        heads = 1
        while (1 << 24) * 8 * heads * 64 * 2 * 2 < 2 * free:
            heads *= 2
        model = self.synth("wide.gguf", "--layers", "8", "--dim", "64", "--heads", str(heads), "--kv-heads", str(heads), "--head-dim", "64")
        for launcher in self.each_launcher():
            self.fails(1, r"does not fit: rank \d+ .* needs .* and has .* free: .* short", "-n", "4", "-c", str(1 << 24), model=model, **launcher)
        p = subprocess.run([coffer, "plan", "-m", self.model, "--ranks", "3", "--memory", "1"], env=self.env, capture_output=True)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"does not fit", p.stderr)

    def test_empty_prompt(self):
        for launcher in self.each_launcher():
            status, out, err = self.run_to_end("-n", "4", "--ignore-eos", prompt=("-p", ""), **launcher)
            self.assertEqual(status, 0, err)  # the model adds a BOS: that is a prompt
        key = b"tokenizer.ggml.add_bos_token" + struct.pack("<I", 7)
        whole = read(self.model, "rb")
        self.assertEqual(whole.count(key + b"\1"), 1)
        no_bos = self.path("no-bos.gguf", whole.replace(key + b"\1", key + b"\0"))
        for launcher in self.each_launcher():
            self.fails(2, "prompt is empty", "-n", "4", model=no_bos, prompt=("-p", ""), **launcher)
            self.fails(2, "prompt is empty", "-n", "4", prompt=("--prompt-ids", ""), **launcher)

    def test_prompt_ids(self):
        for launcher in self.each_launcher():
            for bad in ("1,1000", "1,-1", "x", "1,,2", "1;2", "99999999999999999999", "1,2 3"):
                self.fails(2, r'--prompt-ids: ".*" is not a token id below 1000', "-n", "4", prompt=("--prompt-ids", bad), **launcher)

    def test_prompt_file(self):
        self.fails(1, r"nowhere: No such file", "-n", "4", prompt=("-f", self.dir + "/nowhere"))
        self.fails(2, r"no prompt", "-n", "4", prompt=())
        self.fails(1, r"nowhere: No such file", "-n", "4", prompt=("-f", self.dir + "/nowhere"), ranks=2)

    def test_no_tokens(self):
        for launcher in self.each_launcher():
            status, out, err = self.run_to_end("-n", "0", **launcher)
            self.assertEqual((status, out.strip()), (0, b""), err)

    def test_context(self):
        for launcher in self.each_launcher():
            self.fails(1, r"the prompt has \d+ tokens, but the context holds 4", "-n", "4", "-c", "4", **launcher)
            status, out, err = self.run_to_end("-n", "-1", "-c", "24", "--ignore-eos", **launcher)
            self.assertEqual(status, 0, err)
            self.assertRegex(err, "the context of 24 tokens is full: stopped")
            self.assertTrue(out.strip())

    def test_usage(self):
        for words, pattern in ((("--layout", "foo"), r"--layout foo is unknown; known: auto, tensor"), (("--map", "foo=1"), r'"foo=1" is not DOMAIN=NODE'),
                               (("--map", "left=999"), r"there is no NUMA node 999 here.*nodes: 0|names no node for"), (("--map", "left=999,right=0"), r"no NUMA node 999 here"),
                               (("--numa", "foo"), r"--numa foo is unknown; known: default, strict, off"), (("--fooo",), r"unknown option --fooo"),
                               (("-n", "x"), r"--predict.*x"), (("extra",), r"unexpected argument extra"), (("-c", "99999999"), r"--ctx-size: 99999999 is out of range")):
            for launcher in ({}, {"ranks": 2}):
                with self.subTest(words=words, **launcher):
                    self.fails(2, pattern, *words, **launcher)

    def test_more_threads_than_cores(self):
        status, out, err = self.run_to_end("-n", "4", "-t", str(2 * os.cpu_count() + 1))
        self.assertEqual(status, 0, err)
        self.assertRegex(err, r"-t \d+ is more than this rank's share of \d+ cores?")

    def test_instruction_set(self):
        self.env["COFFER_ISA"] = "nonsense"
        for launcher in self.each_launcher():
            self.fails(1, r"COFFER_ISA=nonsense is unknown.*scalar", "-n", "4", **launcher)

    def test_output(self):
        for launcher in self.each_launcher():
            if launcher != {"ranks": 3}:  # under a user's own mpirun it is mpirun that writes, and it does not mind
                with open("/dev/full", "wb") as full:
                    self.fails(1, r"cannot write to standard output: No space left", "-n", "64", "--ignore-eos", stdout=full, **launcher)
                    self.fails(1, r"^(?s:(?!.*cannot.*cannot).*)No space left", "-n", "64", "--json", stdout=full, **launcher)
            self.fails(1, r"cannot write the logits to /dev/full: No space left", "-n", "64", "--ignore-eos", "--dump-logits", "/dev/full", **launcher)
            self.fails(1, r"cannot create /nowhere/x: No such file", "-n", "4", "--dump-logits", "/nowhere/x", **launcher)

    def test_reader_gone(self):
        for how in ("own", "self"):
            p = self.start(*ENDLESS, ranks=1 if how == "own" else 3, how=how)
            os.read(p.stdout.fileno(), 10)
            p.stdout.close()
            p.stdout = None
            status, _, err = self.end(p)
            self.assertIn(status, (141, -13))
            self.assertNotRegex(err, "cannot|error|died")

if __name__ == "__main__":
    main()
