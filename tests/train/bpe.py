"""Byte-level BPE (Sennrich et al. arXiv 1508.07909; the letters for bytes are those of GPT-2's encoder.py): training on a
count of words, and encoding. The words are those of GPT-2's expression, here for ASCII text, which all stories are.

Token 0 is <|endoftext|>, which begins and ends every story; then the 256 bytes, then one token per merge.
"""
import collections
import re

END = "<|endoftext|>"
WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def letters():
    """The printable letter that stands for each byte."""
    out, extra = [], 0
    for b in range(256):
        if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b <= 0xFF:
            out.append(chr(b))
        else:
            out.append(chr(256 + extra))
            extra += 1
    return out


LETTERS = letters()


def spell(word):
    return tuple(LETTERS[b] for b in word.encode())


def join(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if symbols[i : i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def train(texts, n_vocab):
    """-> the merges, best first. The most frequent pair is next; of equal ones the one that sorts first."""
    assert all(text.isascii() for text in texts)
    counts = collections.Counter(word for text in texts for word in WORDS.findall(text))
    spelled = {word: spell(word) for word in counts}
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for word, symbols in spelled.items():
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += counts[word]
            where[pair].add(word)
    merges = []
    while len(merges) < n_vocab - 257:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in list(where[best]):
            for pair in zip(spelled[word], spelled[word][1:]):
                pairs[pair] -= counts[word]
            spelled[word] = join(spelled[word], best)
            for pair in zip(spelled[word], spelled[word][1:]):
                pairs[pair] += counts[word]
                where[pair].add(word)
        del pairs[best]
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.tokens = [END] + LETTERS + [a + b for a, b in self.merges]
        self.ranks = {pair: i for i, pair in enumerate(self.merges)}
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        assert len(self.ids) == len(self.tokens)
        self.known = {}

    def word(self, word):
        if word not in self.known:
            symbols = spell(word)
            while len(symbols) > 1:
                pair = min(zip(symbols, symbols[1:]), key=lambda p: self.ranks.get(p, len(self.ranks)))
                if pair not in self.ranks:
                    break
                symbols = join(symbols, pair)
            self.known[word] = [self.ids[s] for s in symbols]
        return self.known[word]

    def encode(self, text):
        """Without the token that begins a text."""
        return [i for word in WORDS.findall(text) for i in self.word(word)]

    def decode(self, ids):
        bytes_of = {letter: b for b, letter in enumerate(LETTERS)}
        return bytes(bytes_of[c] for i in ids if i for c in self.tokens[i]).decode("utf-8", "replace")
