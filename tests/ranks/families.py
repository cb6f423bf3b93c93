"""Every architecture on every layout: families.py NAME [NAME ...], of tests/reference/families.py; "all".

The same ids and logits_xxh64 for every number of ranks, layout, instruction set and prefill chunk, for a quantised model
whose axes fall into several chunks, for one that is so small that members come out empty, and for floats; and decode equals
prefill (the program `sequences`). And every rank's share is real: zeroed, it changes the answer."""
import os
import sys
import tempfile

import common

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import families  # noqa: E402

VOCAB, PROMPT = 400, 90  # the prompt ends behind the border of a KV page and is longer than the windows
EVEN = "--layers 4 --type q8_0", (256, 8, 2, 704, 352)
SMALL = "--layers 3 --type q4_0 --untied", (96, 3, 3, 224, 32)
FLOATS = "--layers 3 --type f32", (256, 4, 4, 352, 160)

LAYOUTS = [(2, "tensor"), (3, "tensor"), (4, "tensor"), (3, "layers"), (4, "hybrid"), (2, "domain"), (3, "domain"), (4, "domain")]
FEW = [(3, "tensor"), (4, "hybrid"), (4, "domain")]


class Family:
    def __init__(self, a, name, folder):
        self.a, self.name, self.folder, self.count = a, name, folder, 0

    def make(self, shape):
        more, sizes = shape
        path = os.path.join(self.folder, "m.gguf")
        common.synth(self.a.coffer, path, f"{families.options(self.name, *sizes)} --vocab {VOCAB} --ctx 4096 {more}")
        return path

    def equal(self, shape, layouts, more, *always):
        """One rank, the layouts, and `more`: (ranks, options, environment). Options `always` make an order of their own."""
        path = self.make(shape)
        runs = common.Runs(self.a, path[: -len(".gguf")], PROMPT, VOCAB, n=6)
        runs.base += always
        runs.check(1, "-t", "2")
        for ranks, layout in layouts:
            runs.check(ranks, "--layout", layout, "-t", "1", *(["--stages", "2"] if layout == "hybrid" else []))
        for ranks, options, env in more:
            runs.check(ranks, *options, env=env)
        self.count += runs.count
        return runs

    def shares_count(self, runs):
        """Without what one rank holds the answer is another one."""
        for rank in range(3):
            r = runs.run(3, "--layout", "tensor", "-t", "1", env={"COFFER_TEST_ZERO_RANK": str(rank)})
            if r["logits_xxh64"] == runs.reference[1]:
                sys.exit(f"{self.name}: rank {rank} of 3 holds nothing that counts")

    def decode_is_prefill(self):
        path = self.make(EVEN)
        program = os.path.abspath(self.a.sequences)
        hashes = {common.start(ranks, [program, path, layout, "0", "1", "0", "short"]).strip()
                  for ranks, layout in ((1, "tensor"), (3, "domain"))}
        assert len(hashes) == 1 and len(next(iter(hashes))) == 16, hashes

    def all(self):
        others = [(1, ("-t", "1"), {"COFFER_ISA": isa}) for isa in common.isas(self.a)]
        chunks = [(1, ("-t", "1", "--ubatch-size", n), None) for n in ("1", "7")]
        across = [(2, ("-t", "1", "--ubatch-size", "16", "--layout", "layers", "--exchange", "messages"), None)]
        variant = "-" in self.name and self.name not in families.ARCHITECTURES
        if self.a.quick or variant:  # variants of one architecture: only what they may break
            self.equal(EVEN, FEW, chunks)
            return
        self.shares_count(self.equal(EVEN, LAYOUTS, others + chunks + across))
        self.equal(SMALL, FEW, [])
        self.equal(FLOATS, FEW[:1], [])
        if families.has_experts(self.name):
            self.equal(EVEN, FEW, [], "--experts", "whole")
        self.decode_is_prefill()


a, clock = common.arguments(), common.Clock()
for family in families.FAMILIES if a.what == "all" else [a.what]:
    with tempfile.TemporaryDirectory() as folder:
        tested = Family(a, family, folder)
        tested.all()
    print(f"{family}: {tested.count} runs equal, {clock}", flush=True)
