"""The rank matrix: same ids and same logits_xxh64 for every number of ranks, layout, number of threads, instruction set and
prefill chunk. matrix.py TYPE: {1,2,3,4} ranks x 4 layouts x {1,2} threads, hybrid with stages; matrix.py more: the rest."""
import itertools
import os

import common

LAYOUTS = ("tensor", "layers", "hybrid", "domain")
VOCAB = {"m_q8_0": 700, "m_q4_0": 700, "m_q4_k": 650, "m_f32": 700, "wide": 1000, "tiny": 300, "odd": 301}


def stages_of(ranks, layout):
    """Every sensible --stages; none: the default."""
    if layout != "hybrid" or ranks < 2:
        return [[]]
    return [["--stages", str(s)] for s in (2, 3) if s < ranks] or [["--stages", "2"]]


def matrix(a, model, threads=(1, 2)):
    # 100 rows of 256 columns: sums of the prompt go by shares from three ranks on, those of decoding go direct
    runs = common.Runs(a, model, 100, VOCAB[model])
    for t, ranks in itertools.product(threads, (1, 2, 3, 4)):
        for layout in LAYOUTS:
            for stages in stages_of(ranks, layout):
                runs.check(ranks, "--layout", layout, "-t", str(t), *stages)
    return runs


def type_matrix(a, model):
    runs = matrix(a, model, (1,) if a.quick else (1, 2))
    for isa in common.isas(a):
        for ranks in (1,) if a.quick else (1, 3):
            runs.check(ranks, "--layout", "tensor", "-t", "1", env={"COFFER_ISA": isa})
    for ranks, layout in ((2, "tensor"), (3, "tensor"), (2, "layers"), (4, "hybrid"), (3, "domain"), (4, "domain")):
        runs.check(ranks, "--exchange", "messages", "--layout", layout, "-t", "1")
        runs.check(ranks, "--exchange", "window", "--layout", layout, "-t", "1")
    for ubatch in ("1", "7", "512"):
        runs.check(1, "--ubatch-size", ubatch, "-t", "2")
        runs.check(3, "--ubatch-size", ubatch, "--layout", "layers" if ubatch == "7" else "tensor", "-t", "1")
    for ranks, layout, micro_batches in ((2, "layers", 3), (2, "domain", 5), (3, "domain", 3), (4, "layers", 4), (4, "hybrid", 2), (2, "tensor", 3)):
        more = ("--stages", "2") if layout == "hybrid" else ()
        runs.check(ranks, "--layout", layout, "--micro-batches", str(micro_batches), "--ubatch-size", "16", "-t", "1", *more)
    return runs.count


def more(a):
    count = matrix(a, "m_f32", (1,)).count if not a.quick else 0
    for model in ("tiny", "odd"):  # members and ranks that come out empty
        runs = common.Runs(a, model, 90, VOCAB[model])
        for ranks, layout in ((1, "tensor"), (2, "tensor"), (4, "tensor"), (5, "tensor"), (4, "hybrid"), (4, "layers"), (4, "domain"), (3, "domain")):
            runs.check(ranks, "--layout", layout, "-t", "1")
        count += runs.count
    runs = common.Runs(a, "wide", 80, VOCAB["wide"], n=4)  # shares of 320 KiB and more than a piece
    for ranks, layout in ((1, "tensor"), (3, "tensor"), (4, "tensor"), (5, "tensor"), (7, "tensor"), (5, "layers"), (5, "domain"), (7, "domain"),
                          (7, "hybrid")):
        runs.check(ranks, "--layout", layout, "-t", "1")
    return count + runs.count


def control(a):
    """The hash does tell things apart."""
    hashes = set()
    for model in ("m_q8_0", "m_q4_0", "m_f32"):
        runs = common.Runs(a, model, 20, 600)
        runs.check(1)
        hashes.add(runs.reference[1])
    assert len(hashes) == 3, hashes
    other = os.path.join(a.models, "m_q8_0_seed2.gguf")
    common.synth(a.coffer, other, common.MODELS["m_q8_0"], seed=2)
    assert common.Runs(a, "m_q8_0", 20, 600).run(1, model=other)["logits_xxh64"] not in hashes
    os.remove(other)


a, clock = common.arguments(), common.Clock()
if a.what == "more":
    control(a)
    count = more(a)
else:
    count = type_matrix(a, "m_" + a.what)
print(f"{a.what}: {count} runs equal, {clock}")
