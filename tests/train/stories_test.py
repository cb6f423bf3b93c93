#!/usr/bin/env python3
"""The stories that the shipped model learns: the same for a seed on every machine, all different, all whole."""
import hashlib
import os
import re
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import bpe
import stories

FIRST_100 = "2899dc49a67ae1cd7819a5ff2d622d8ccda366f2f967fbaf0c27671937086da7"  # sha256 of the first hundred of seed 1
N = 20000
# A sign that was not filled, a space where none belongs, a doubled mark or word, a capital that is missing.
FAULT = re.compile(r"[{}\[\]|~=_]|\s[.,!?]|[.,!?]{2}|\s\s|\b(\w+) \1\b|\ba [aeiou]|[.!?] [a-z]")


class Stories(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = list(stories.stories(1, 0, N))

    def test_same_for_a_seed(self):
        text = "\n".join(self.all[:100])
        self.assertEqual(hashlib.sha256(text.encode()).hexdigest(), FIRST_100)
        self.assertEqual(stories.tell(1, 77), self.all[77])
        self.assertNotEqual(stories.tell(2, 77), self.all[77])

    def test_all_different(self):
        self.assertEqual(len(set(self.all)), N)

    def test_whole(self):
        for story in self.all:
            self.assertTrue(stories.MIN_WORDS <= len(story.split()) <= stories.MAX_WORDS, story)
            self.assertIsNone(FAULT.search(story.replace("! went", ", went")), story)
            self.assertEqual(story.count('"') % 2, 0, story)
            self.assertTrue(story.isascii() and story[0].isupper() and story.endswith((".", "!", '"')), story)

    def test_held_out_are_not_trained_on(self):
        with open(os.path.join(HERE, "heldout.txt"), encoding="utf-8") as f:
            held = f.read().splitlines()
        self.assertEqual(held, list(stories.stories(2, 0, len(held))))
        self.assertGreaterEqual(len(held), 20)
        self.assertFalse(set(held) & set(self.all))


class Bpe(unittest.TestCase):
    def test_a_text_of_two_pairs(self):
        """By hand: "ab" stands three times, then "ab" + "c" twice; the space before a word belongs to it."""
        merges = bpe.train(["abc abc ab"], 259)
        self.assertEqual(merges, [("a", "b"), ("ab", "c")])
        tokenizer = bpe.Tokenizer(merges)
        self.assertEqual(tokenizer.encode("abc"), [258])
        self.assertEqual(tokenizer.encode("ab a"), [257, 1 + 32, 1 + 97])

    def test_back_and_forth(self):
        tokenizer = bpe.Tokenizer(bpe.train([stories.tell(1, i) for i in range(50)], 600))
        for text in (stories.tell(3, 0), "It's 12 o'clock!  \n\tWho's there? Pij\u00f3n"):
            self.assertEqual(tokenizer.decode(tokenizer.encode(text)), text)


if __name__ == "__main__":
    unittest.main()
