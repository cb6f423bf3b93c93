#!/usr/bin/python3
"""The model that ships: model_test.py COFFER MODEL.gguf. It is small, is what its folder says, begins where coffer looks for
it, reads text as the script that trained it did, tells the same story on any number of ranks, and foretells stories that it
was never trained on as well as was recorded. Exit 77: no numpy."""
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy
except ImportError:
    print("skipped: numpy is not installed (python3-numpy)")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import measure
import stories
from gguf_file import Gguf

COFFER, MODEL = (os.path.abspath(path) for path in sys.argv[1:3])
HELD = os.path.join(HERE, "heldout.txt")
BEGINNINGS = ["Once upon a time", "One day, a little girl named Lily", "The dog", "Once there was a boy called Tovi who"]
F32, Q8_0 = 0, 8
COFFER_PPL = 1.6


def coffer(*arguments, ranks=1, env=None, stdin=""):
    everything = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    everything.pop("COFFER_MODEL", None)
    everything.update(env or {})
    head = []
    if ranks > 1:
        everything["ASAN_OPTIONS"] = "detect_leaks=0:" + everything.get("ASAN_OPTIONS", "")
        head = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
    return subprocess.run(head + [COFFER, *arguments], env=everything, input=stdin, capture_output=True, text=True, timeout=240)


def told(beginning, *arguments, ranks=1):
    """The JSON object of a greedy run."""
    own = ["--ranks", "1"] if ranks == 1 else []
    done = coffer("run", "-m", MODEL, "-p", beginning, "--temp", "0", "--json", *own, *arguments, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class File(unittest.TestCase):
    def setUp(self):
        self.file = Gguf(MODEL)

    def test_small(self):
        self.assertLessEqual(os.path.getsize(MODEL), 4 << 20)
        self.assertLessEqual(len(self.file.keys["tokenizer.ggml.tokens"]), 2000)

    def test_what_it_is(self):
        self.assertEqual(self.file.keys["general.architecture"], "llama")
        self.assertEqual(self.file.keys["tokenizer.ggml.pre"], "gpt-2")
        for name, (shape, kind, _) in self.file.tensors.items():
            self.assertEqual(kind, Q8_0 if len(shape) == 2 else F32, name)

    def test_heldout_loss_is_the_recorded_one(self):
        """loss.csv has it before the weights became Q8_0."""
        with open(os.path.join(os.path.dirname(MODEL), "loss.csv"), encoding="utf-8") as f:
            recorded = float(list(csv.DictReader(f))[-1]["held_out_loss"])
        loss, n = measure.measure(MODEL, measure.lines(HELD))
        print(f"{n} tokens: {loss:.4f} nats per token, {recorded:.4f} before quantising")
        self.assertLess(abs(loss - recorded), 0.01)


class Coffer(unittest.TestCase):
    def test_ids_are_those_of_training(self):
        tokenizer = measure.tokenizer_of(Gguf(MODEL))
        for text in measure.lines(HELD) + ["It's  12 o'clock!\n\n  Who's  there?", *BEGINNINGS]:
            done = coffer("tokenize", "-m", MODEL, "--ids", stdin=text)
            self.assertEqual(done.stdout.split(), [str(i) for i in [0] + tokenizer.encode(text)], text)

    def test_same_story_on_any_number_of_ranks(self):
        for beginning in BEGINNINGS[:2]:
            one = told(beginning)
            for ranks in (2, 3):
                other = told(beginning, ranks=ranks)
                self.assertEqual((one["ids"], one["logits_xxh64"]), (other["ids"], other["logits_xxh64"]), ranks)

    def test_stories_are_whole(self):
        """Each ends by itself, as long as those it learned from, and nearly all its words are theirs."""
        taught = {word for i in range(3000) for word in re.findall(r"[A-Za-z']+", stories.tell(1, i))}
        for beginning in BEGINNINGS:
            known = taught.union(beginning.split())
            story = beginning + told(beginning, "-n", "400")["text"]
            words = re.findall(r"[A-Za-z']+", story)
            strange = [word for word in words if word not in known]
            self.assertTrue(story.endswith((".", "!", '"')), story)
            self.assertTrue(60 <= len(words) <= 300, story)
            self.assertLess(len(strange), 0.1 * len(words), story)

    def test_perplexity(self):
        """By llama.cpp's method: chunks of a text in which stories stand in lines, which the model has not seen so."""
        done = coffer("perplexity", "-m", MODEL, "-f", HELD, "-c", "256", "--ranks", "1")
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        print(found.group(0))
        self.assertLess(float(found.group(1)), COFFER_PPL)


class Default(unittest.TestCase):
    """Without -m: COFFER_MODEL, then the installed file, then the source tree's."""

    ask = ["run", "-p", "Once upon a time", "-n", "8", "--temp", "0", "--ranks"]

    def test_source_tree(self):
        done = coffer(*self.ask, "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"taking {MODEL}\n", done.stderr)
        self.assertEqual(coffer(*self.ask, "2").stderr.count("taking "), 1)

    def test_variable(self):
        with tempfile.TemporaryDirectory() as folder:
            other = os.path.join(folder, "other.gguf")
            os.symlink(MODEL, other)
            done = coffer(*self.ask, "1", env={"COFFER_MODEL": other})
            self.assertIn(f"taking {other}\n", done.stderr)
            self.assertEqual(done.returncode, 0, done.stderr)
            os.unlink(other)
            done = coffer(*self.ask, "1", env={"COFFER_MODEL": other})
            self.assertIn(other + ": No such file", done.stderr)
            self.assertEqual(done.returncode, 1)

    def test_installed(self):
        """The program finds its model wherever the installed tree lies."""
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(folder + "/bin")
            os.makedirs(folder + "/share/coffer/models")
            shutil.copy(COFFER, folder + "/bin/coffer")
            os.symlink(MODEL, folder + "/share/coffer/models/stories.gguf")
            done = subprocess.run([folder + "/bin/coffer", *self.ask, "1"], capture_output=True, text=True, timeout=60)
            self.assertRegex(done.stderr, f"taking {folder}/.*share/coffer/models/stories.gguf\n")

    def test_other_commands(self):
        for arguments in (["tokenize", "--ids"], ["inspect"], ["perplexity", "-f", HELD, "-c", "64", "--chunks", "1"],
                          ["embed", "-f", "-", "--pooling", "mean", "--ranks", "1"]):
            done = coffer(*arguments, stdin="The dog")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"taking {MODEL}\n", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
